import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known import present

from lapilli.slayer.utils.utils import (
    Q2Zero,
    diagonal_mask,
    dotdict,
    event_rate,
    right_shift_to_zero,
    share_of_events,
    staticproperty,
)


def test_dotdict():
    d = dotdict({"a": 1, "inner": {"b": 2}, "keys": 3})
    assert (d.a, d.missing, hasattr(d, "missing")) == (1, None, True)
    assert type(d.inner) is dict
    assert callable(d.keys)
    d.c = 4
    del d.a
    assert dict(d) == {"inner": {"b": 2}, "keys": 3, "c": 4}
    for again in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        assert type(again) is dotdict
        assert again == d
        assert again.inner is not d.inner
    with pytest.raises(KeyError):
        del d.a


def test_staticproperty():
    class Thing:
        value = 1

        @staticproperty
        def double():
            """Twice the value."""
            return 2 * Thing.value

    assert Thing.double == Thing().double == 2
    Thing.value = 5
    assert Thing.double == 10


@pytest.mark.parametrize(
    ("number", "rows"),
    [(1, ["1000", "0100", "0010", "0001"]), (2, ["1100", "1110", "0111", "0011"]),
     (3, ["1100", "1110", "0111", "0011"]), (99, ["1111"] * 4)],
)  # fmt: skip
def test_diagonal_mask(number, rows):
    mask = diagonal_mask(4, number)
    assert mask.dtype == torch.float32
    assert ["".join(str(int(v)) for v in row) for row in mask] == rows


@pytest.mark.parametrize("number", [0, -1])
def test_diagonal_mask_refuses(number):
    with pytest.raises(ValueError, match=f"num_diagonals is {number}"):
        diagonal_mask(4, number)


def test_event_rate_leaves_the_first_step_out():
    x = torch.tensor([1.0, 0, -2, 0])
    assert event_rate(x) == pytest.approx(1 / 3)
    assert type(event_rate(x)) is float
    assert event_rate(x.bool()) == event_rate(x.int()) == event_rate(x)
    assert event_rate(torch.tensor([[5.0], [0.0]])) == 0.5
    assert not share_of_events(x.requires_grad_()).requires_grad


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(0, 31))
def test_right_shift_rounds_toward_zero(value, bits):
    for dtype in (torch.int32, torch.int64):
        got = right_shift_to_zero(torch.tensor([value], dtype=dtype), bits)
        assert got.dtype == dtype
        assert got.item() == (abs(value) >> bits) * (1 if value >= 0 else -1)


def test_right_shift_takes_integers_only():
    for dtype in (torch.float32, torch.int16):
        with pytest.raises(TypeError, match="takes int32 or int64"):
            right_shift_to_zero(torch.ones(1, dtype=dtype), 1)


def test_q2zero():
    x = torch.tensor([1.9, -1.9, 0.5, 1e12], requires_grad=True)
    y = Q2Zero.apply(x)
    assert y.tolist() == [1, -1, 0, torch.tensor(1e12).item()]
    y.backward(torch.tensor([1.0, 2, 3, 4]))
    assert present(x.grad).tolist() == [1, 2, 3, 4]
