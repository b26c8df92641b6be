"""Numbers with eight bits as int8, and their product, against float32 and whole numbers."""

import pytest
import torch
from known import present
from lapilli.kernels.executors.layout import to_rows
from lapilli.kernels.synapses import codes
from torch.testing import assert_close

SHAPES = [(1, 1, 1), (1, 5, 16), (2, 63, 65), (3, 64, 64), (1, 130, 17), (2, 300, 200)]
STEP = 1 / 32


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, shape, generator=generator)


@pytest.mark.parametrize("turn", [False, True], ids=["as it is", "turned"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_codes_are_the_numbers_in_steps(shape, turn):
    want = numbers(*shape)
    got = codes.codes_of(want * STEP, STEP, turn)
    want = want.to(torch.int8)
    assert_close(got, want.transpose(1, 2).contiguous() if turn else want, rtol=0, atol=0)


@pytest.mark.parametrize("value", [128, -129, 0.5, 1e-30, 3e9, -1e38, float("nan"), float("inf")])
@pytest.mark.parametrize("turn", [False, True], ids=["as it is", "turned"])
def test_anything_else_is_none(value, turn):
    x = numbers(2, 70, 90).float()
    x[1, 69, 89] = value
    assert codes.codes_of(x * STEP, STEP, turn) is None


@pytest.mark.parametrize("as_rows", [True, False], ids=["rows", "series"])
def test_rows_of_spikes(as_rows):
    x = numbers(3, 5, 7, 40).float()
    if as_rows:
        x = x.movedim(-1, 1).contiguous().movedim(1, -1)
    got = present(codes.rows_of_codes(x))
    assert got.dtype == torch.int8
    assert_close(got.float(), to_rows(x).flatten(0, 1), rtol=0, atol=0)
    assert codes.rows_of_codes(x + 0.5) is None


@pytest.mark.parametrize("value", [-128, 127])
def test_the_largest_sums_are_exact(value):
    terms = 1 << 12
    x = torch.full((40, terms), value, dtype=torch.int8)
    w = torch.full((terms, 80), -128, dtype=torch.int8)
    want = torch.full((40, 80), value * -128 * terms * STEP)
    assert_close(codes.multiply(x, w, STEP), want, rtol=0, atol=0)


@pytest.fixture
def untried(monkeypatch):
    codes.usable.cache_clear()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    yield
    codes.usable.cache_clear()


def test_a_product_that_is_wrong_or_missing_is_not_used(untried, monkeypatch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    assert codes.usable()
    codes.usable.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(codes, "multiply", lambda x, w, step: (x.float() @ w.float()) + 1)
        assert not codes.usable()
    codes.usable.cache_clear()
    with monkeypatch.context() as patch:
        patch.delattr(torch, "_int_mm")
        assert not codes.usable()


def test_processors_without_the_instructions_multiply_float32(untried, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False, raising=False)
    assert not codes.usable()
