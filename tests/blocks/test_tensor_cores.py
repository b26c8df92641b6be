"""Products of bfloat16 lose nothing: shown with the CPU in the place of a tensor core."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known import wrong
from lapilli.blocks import cuba, rf, tensor_cores
from lapilli.blocks.synapse import Conv, Dense
from lapilli.kernels.synapses import bfloat16
from torch.testing import assert_close

from lapilli import gradient_products, set_gradient_products

CODES = torch.arange(-128, 128).float()


@pytest.fixture
def tensor_core(monkeypatch):
    """Multiply exact bfloat16 products into float32 on the CPU; count the products."""
    calls = []

    def product(x, w):
        assert x.dtype == w.dtype == torch.bfloat16
        calls.append((x.shape, w.shape))
        return x.float() @ w.float()

    monkeypatch.setattr(tensor_cores, "_product", product)
    monkeypatch.setattr(tensor_cores, "usable", lambda device: True)
    return calls


@pytest.fixture(autouse=True)
def _mode():
    before = gradient_products()
    yield
    set_gradient_products(before)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_three_parts_are_the_whole(values):
    x = torch.tensor([v for v in values if 2**-100 < abs(v) < 2**120 or v == 0] or [0.0])
    parts = bfloat16.split(x)
    assert all(part.dtype == torch.bfloat16 for part in parts)
    assert_close(sum(part.double() for part in parts), x.double(), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (300, 11), (3, 2000), (0, 4)], ids=str)
def test_terms_beside_each_other_add_up(shape, device):
    x = torch.randn(shape) * 2.0 ** torch.randint(-60, 60, shape)
    got = bfloat16.terms(x.to(device))
    assert got.dtype == torch.bfloat16
    parts = got.cpu().double().view(shape[0], 3, shape[1])
    assert_close(parts.sum(1), x.double(), rtol=0, atol=0)
    assert (parts[:, 1].abs() <= parts[:, 0].abs() / 2**7).all()


@pytest.mark.slow
def test_the_kernel_runs_in_the_interpreter():
    done = subprocess.run(
        [*(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"),
         *(__file__, "-k", "test_terms_beside", "--tb=short")],
        env=os.environ | {"LAPILLI_BACKEND": "interpret"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


@pytest.mark.parametrize("scale", [64, 16, 1024])
def test_every_code_is_a_bfloat16(scale):
    weights = CODES * 2 / scale
    assert_close(weights.bfloat16().float(), weights, rtol=0, atol=0)


@pytest.mark.parametrize("inputs", [256, 4096, 1 << 15])
def test_worst_columns_are_exact(inputs, tensor_core):
    codes = CODES.repeat(inputs // 256)
    columns = torch.stack((codes, -codes.abs(), codes.clamp(min=0), torch.full_like(codes, -128)))
    events = torch.stack((torch.ones(inputs), (codes > 5).float(), codes / 4096))
    got = tensor_cores.multiply(events, columns.t() / 32)
    want = events.double() @ columns.t().double() / 32
    assert_close(got[:2].double(), want[:2], rtol=0, atol=0)
    # graded events: whole numbers of 1 / (4096 * 32), of which float32 adds up 2**24 in any order
    unit = 1 / (4096 * 32)
    most = (events.abs().double() @ columns.abs().t().double() / 32)[2] / unit
    within = most <= 2**24
    assert_close(got[2].double()[within], want[2][within], rtol=0, atol=0)
    assert within.any() == (inputs <= 4096)
    # beyond, each sum may round at every term
    assert_close(got[2].double(), want[2], rtol=0, atol=inputs * 2**-24 * most.max().item() * unit)


@pytest.mark.parametrize("family", [cuba, rf], ids=["real", "complex"])
def test_blocks_are_the_same_on_tensor_cores(family, tensor_core):
    params = {"threshold": 0.5, "current_decay": 0.5, "voltage_decay": 0.25}
    if family is rf:
        params = {"threshold": 0.25, "period": 8, "decay": 0.1}
    block = family.Dense(params, 40, 20)
    block.synapse.product = "dense"
    weights = 2 if family is rf else 1
    x = (torch.rand(2, 40, 9) < 0.3).float()
    results = []
    modes: Any = ("split3", 2 * weights), ("strict", weights)
    for mode, products in modes:
        set_gradient_products(mode)
        tensor_core.clear()
        leaf = x.clone().requires_grad_()
        y = block(leaf)
        torch.manual_seed(0)
        y.backward(torch.randn(y.shape))
        assert len(tensor_core) == products
        results.append((y.detach(), leaf.grad))
    assert_close(results[0][0], results[1][0], rtol=0, atol=0)
    largest = results[1][1].abs().max().item()
    assert_close(results[0][1], results[1][1], rtol=0, atol=1e-6 * largest)


def test_float_weights_stay_in_float32(tensor_core):
    x = torch.rand(2, 40, 9)
    Dense(40, 20)(x)
    Conv(3, 4, 3)(torch.rand(1, 3, 5, 5, 4))
    assert tensor_core == []


def test_a_cpu_has_no_tensor_cores():
    assert not tensor_cores.usable(torch.device("cpu"))


def test_an_unknown_mode_raises():
    with pytest.raises(ValueError, match="expected one of 'split3', 'strict', 'tf32'"):
        set_gradient_products(wrong("fast"))
    assert gradient_products() == "split3"
