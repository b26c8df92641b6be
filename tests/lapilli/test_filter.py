from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tolerances import FLOAT32
from torch.testing import assert_close

from lapilli.filter import FIR, FIRBank, conv, corr

X = torch.tensor([1.0, 2, 0, -1, 3])
F = torch.tensor([1.0, 0.5, 0.25])


def test_values_of_lava_dl():
    assert_close(conv(X, F), torch.tensor([[1, 2.5, 1.25, -0.5, 2.5]]), rtol=0, atol=0)
    assert_close(conv(X, F, 0.5), torch.tensor([[0.5, 1.25, 0.625, -0.25, 1.25]]), rtol=0, atol=0)
    assert_close(corr(X, F), torch.tensor([[2, 1.75, 0.25, 0.5, 3]]), rtol=0, atol=0)
    want = torch.tensor([[1, 2.6065307, 1.5809407, -0.0411109, 2.8397298]])
    assert_close(FIR(time_constant=2, length=4)(X), want, **FLOAT32)


@pytest.mark.parametrize("length", [1, 3, 8, 11])  # 11: longer than the sequence
@pytest.mark.parametrize("filtered", [conv, corr])
def test_gradients(filtered, length):
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    response = torch.randn(length, dtype=torch.float64, requires_grad=True)
    given: Any = x, response, 0.5
    torch.autograd.gradcheck(filtered, given)
    torch.autograd.gradgradcheck(filtered, given)


def test_is_the_sum_of_its_definition():
    x, f = torch.randn(2, 3, 4, 9), torch.randn(5)
    late, early = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(9):
        for i in range(5):
            if t - i >= 0:
                late[..., t] += f[i] * x[..., t - i]
            if t + i < 9:
                early[..., t] += f[i] * x[..., t + i]
    assert_close(conv(x, f), late, **FLOAT32)
    assert_close(corr(x, f), early, **FLOAT32)


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=12), st.integers(1, 14))
def test_integers_stay_exact(values, length):
    got = conv(torch.tensor(values), torch.ones(length))
    want = [sum(values[max(0, t - length + 1) : t + 1]) for t in range(len(values))]
    assert got.tolist() == [want]


def test_memory_layout_does_not_matter():
    x = torch.randn(4, 9, 6)  # time in the middle, as a layer leaves it
    assert_close(conv(x.movedim(1, -1), F), conv(x.movedim(1, -1).contiguous(), F), rtol=0, atol=0)


def test_response_is_copied_and_keeps_its_dtype():
    response = torch.ones(3, dtype=torch.float64)
    fir = FIR(response)
    response.zero_()
    assert fir.filter.tolist() == [1, 1, 1]
    assert fir(X.double()).dtype == torch.float64
    assert not list(fir.parameters())
    assert list(fir.state_dict()) == ["filter"]


def test_integers_only_are_refused():
    with pytest.raises(TypeError, match="floating-point"):
        conv(torch.ones(3, dtype=torch.int32), torch.ones(2, dtype=torch.int32))


def test_bank_values_of_lava_dl():
    bank = FIRBank(2, 3)
    bank.weight.data = torch.arange(1.0, 7).view_as(bank.weight)
    got = bank(torch.stack([X, 2 * X]).unsqueeze(0))
    want = [[3, 8, 5, -1, 7], [6, 16, 10, -2, 14], [6, 17, 14, 2, 13], [12, 34, 28, 4, 26]]
    assert_close(got, torch.tensor([want], dtype=torch.float32), **FLOAT32)
    assert bank.impulse_response.tolist() == [[3, 2, 1], [6, 5, 4]]
    bank.impulse_response[:] = 0  # a copy
    assert bank.weight.all()


@pytest.mark.parametrize(("length", "sampling_time", "steps"), [(5, 1, 5), (6, 2, 3), (3, 0.5, 6)])
def test_bank_is_a_filter_of_each_channel(length, sampling_time, steps):
    bank = FIRBank(3, length, sampling_time)
    assert (bank.num_filter, bank.filter_length) == (3, steps)
    x = torch.randn(2, 4, 2, 11)
    responses = torch.from_numpy(bank.impulse_response)
    want = torch.cat([conv(x, r, sampling_time) for r in responses], 1)
    assert_close(bank(x), want, **FLOAT32)


def test_bank_is_a_conv3d_of_torch():
    torch.manual_seed(3)
    bank = FIRBank(4, 9, scale=2)
    torch.manual_seed(3)
    conv3d = torch.nn.Conv3d(1, 4, (1, 1, 9), bias=False)
    assert isinstance(bank, torch.nn.Conv3d)
    assert list(bank.state_dict()) == ["weight"]
    assert_close(bank.weight, 2 * conv3d.weight, rtol=0, atol=0)
    assert bank.weight.abs().max() <= 2 / 3


def test_bank_gradients():
    bank = FIRBank(2, 3, 0.5).double()
    x = torch.randn(2, 2, 5, dtype=torch.float64, requires_grad=True)

    def run(x, weight):
        return torch.func.functional_call(bank, {"weight": weight}, x)

    torch.autograd.gradcheck(run, (x, bank.weight))


def test_bank_refuses():
    with pytest.raises(ValueError, match=r"got shape \(3, 5\)"):
        FIRBank(2, 3)(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="2 filters of 0 steps"):
        FIRBank(2, 1, 2)
