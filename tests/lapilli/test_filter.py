import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tolerances import FLOAT32
from torch.testing import assert_close

from lapilli.filter import FIR, conv, corr

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
    torch.autograd.gradcheck(filtered, (x, response, 0.5))
    torch.autograd.gradgradcheck(filtered, (x, response, 0.5))


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
