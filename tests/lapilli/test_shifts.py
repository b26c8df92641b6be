import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from lapilli.slayer.utils.time.shift import delay, replicate, shift

X = torch.arange(1.0, 9).view(2, 4)

VALUES = {
    "later": (1.9, 1, [[0, 1, 2, 3], [0, 5, 6, 7]]),
    "earlier": (-1.9, 1, [[2, 3, 4, 0], [6, 7, 8, 0]]),
    "none": (0.9, 1, [[1, 2, 3, 4], [5, 6, 7, 8]]),
    "two steps of 0.1": (0.3, 0.1, [[0, 0, 1, 2], [0, 0, 5, 6]]),  # 2.9999999999999996 in float64
    "all": (4, 1, [[0] * 4] * 2),
    "far": (1e30, 1, [[0] * 4] * 2),
    "far back": (-4, 1, [[0] * 4] * 2),
    "one value": (torch.tensor([1.0]), 1, [[0, 1, 2, 3], [0, 5, 6, 7]]),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name, device):
    value, sampling_time, want = VALUES[name]
    got = shift(X.to(device), value, sampling_time)
    assert got.tolist() == want
    assert got.data_ptr() != X.data_ptr()


def test_each_neuron_on_its_own(device):
    x = X.view(1, 2, 4).to(device)
    got = shift(x, torch.tensor([1, -2], device=device))
    assert got.tolist() == [[[0, 1, 2, 3], [7, 8, 0, 0]]]
    x = torch.arange(1.0, 7).view(1, 1, 6).expand(1, 2, 6).to(device)
    want = [[[0, 0, 1, 2, 3, 4]] * 2]  # the sampling time divides once
    assert shift(x, torch.tensor([4.0, 4.0], device=device), 2).tolist() == want
    assert shift(x, 4, 2).tolist() == want
    assert shift(x, torch.tensor([1e30, -1e30], device=device)).tolist() == [[[0] * 6] * 2]


@given(st.lists(st.integers(-9, 9), min_size=6, max_size=6), st.integers(1, 7))
def test_neurons_together_are_neurons_apart(steps, T):
    x = torch.randn(2, 3, 2, T)
    together = shift(x, torch.tensor(steps))
    assert_close(together, shift(x, torch.tensor(steps, dtype=torch.float32).view(3, 2)))
    for i, d in enumerate(steps):
        alone = shift(x[:, i // 2, i % 2], d)
        assert_close(together[:, i // 2, i % 2], alone, rtol=0, atol=0)


@pytest.mark.parametrize("value", [2, -1.5, torch.tensor([0, 3, -2]), torch.tensor([9.0, -9, 1])])
def test_gradients(value):
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: shift(x, value), x)
    torch.autograd.gradgradcheck(lambda x: shift(x, value), x)
    torch.autograd.gradcheck(lambda x: delay(x, value), x)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_any_type(dtype):
    x = X.to(dtype)
    assert shift(x, 1).dtype == dtype
    assert_close(shift(x, 1), torch.cat([x[:, :1] * 0, x[:, :-1]], 1).to(dtype), rtol=0, atol=0)
    assert replicate(x, 3).dtype == dtype


def test_not_a_number_does_not_spread():
    x = torch.full((1, 2, 3), float("nan"))
    assert shift(x, torch.tensor([5, 1]))[0, 0].tolist() == [0, 0, 0]


def test_delay_is_one_step_by_default():
    assert delay(X).tolist() == shift(X, 1).tolist()
    assert delay(X, delay_val=4, sampling_time=2).tolist() == shift(X, 2).tolist()


def test_refusals():
    with pytest.raises(AssertionError, match=r"got shape \(4,\)"):
        shift(X[0], 1)
    with pytest.raises(ValueError, match=r"one a neuron \(3 for .*; got 2"):
        shift(torch.zeros(1, 3, 4), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="expected a finite number"):
        shift(X, float("nan"))
    with pytest.raises(ValueError, match="num_steps is 0"):
        replicate(X, 0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 1, 2, 2)])
@pytest.mark.parametrize("steps", [1, 5])
def test_replicate(shape, steps):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = replicate(x, steps)
    assert y.shape == (*shape, steps)
    assert (y == x[..., None]).all()
    torch.autograd.gradcheck(lambda x: replicate(x, steps), x)
    with torch.no_grad():
        before = x.clone()
        y += 1  # memory of its own
        assert_close(x.detach(), before, rtol=0, atol=0)
        assert y.is_contiguous()
