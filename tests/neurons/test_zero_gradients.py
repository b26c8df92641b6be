"""Parameters without influence get zeros, by every way that torch has to ask for gradients."""

import pytest
import torch
from cells import same
from lapilli.neurons.gradients import with_zero_gradients
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint


def cubed(x, parameter):
    return with_zero_gradients(x**3, parameter).sum()


def leaves():
    return torch.randn(4, requires_grad=True), torch.nn.Parameter(torch.randn(3))


def test_no_bit_changes():
    y = torch.tensor([-0.0, 0.0, torch.inf, torch.nan], requires_grad=True)
    parameter = torch.nn.Parameter(torch.full((2,), torch.nan))
    z = with_zero_gradients(y, parameter)
    same(z.view(torch.int32), y.view(torch.int32))
    assert z.data_ptr() == y.data_ptr()


def test_nothing_is_done_where_nothing_is_learned():
    y, parameter = leaves()
    assert with_zero_gradients(y) is y
    assert with_zero_gradients(y, torch.ones(2)) is y
    with torch.no_grad():
        assert with_zero_gradients(y, parameter) is y


def recomputed(x, parameter):
    return checkpoint(cubed, x, parameter, use_reentrant=False)


def compiled(x, parameter):
    return torch.compile(cubed, fullgraph=True, backend="aot_eager")(x, parameter)


@pytest.mark.parametrize(
    "function", [cubed, recomputed, compiled], ids=["eager", "checkpoint", "compile"]
)
def test_backward(function):
    x, parameter = leaves()
    function(x, parameter).backward()
    same(parameter.grad, torch.zeros(3))
    same(x.grad, 3 * x.detach() ** 2)


@pytest.mark.parametrize("parameters", [None, 0], ids=["one for all", "one a sample"])
def test_gradients_a_sample(parameters):
    gradients = torch.func.grad(cubed, argnums=(0, 1))
    x, parameter = torch.randn(5, 4), torch.randn(*(5,) * (parameters == 0), 3)
    of_x, of_parameter = torch.func.vmap(gradients, in_dims=(0, parameters))(x, parameter)
    same(of_parameter, torch.zeros(5, 3))
    assert_close(of_x, 3 * x**2, rtol=0, atol=0)


def test_second_derivative():
    x, parameter = leaves()
    first, idle = torch.autograd.grad(cubed(x, parameter), (x, parameter), create_graph=True)
    same(idle, torch.zeros(3))
    (second,) = torch.autograd.grad(first.sum(), x)
    same(second, 6 * x.detach())
