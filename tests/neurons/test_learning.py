"""Decays are learned: a neuron finds those of another from its voltage."""

import pytest
import torch
from lapilli.kernels.decays import set_decay_gradient
from table import each_that

TARGET = 0.3


@pytest.fixture(autouse=True)
def _default_sign():
    yield
    set_decay_gradient("descent")


def voltage(neuron, x):
    return neuron.dynamics(x)[1]


each_leaky = each_that(lambda row: "current_decay" in row.arguments)
each_decay = pytest.mark.parametrize("name", ["current_decay", "voltage_decay"])
from_both_sides = pytest.mark.parametrize("start", [0.1, 0.6])


@each_leaky
@each_decay
@from_both_sides
def test_decay_comes_to_that_of_the_target(row, name, start):
    x = torch.randn(8, 4, 40) * 0.5
    want = voltage(row.make(**{name: TARGET}), x)
    neuron = row.make(**{name: start}, requires_grad=True)
    decay = getattr(neuron, name)
    optimizer = torch.optim.Rprop([decay], lr=50, step_sizes=(1e-3, 500))
    for _ in range(40):
        optimizer.zero_grad()
        (voltage(neuron, x) - want).square().mean().backward()
        optimizer.step()
    assert abs(decay.item() / 4096 - TARGET) < 0.005


@each_leaky
@each_decay
@from_both_sides
@pytest.mark.parametrize("call", ["dynamics", "forward"])
def test_lava_dls_sign_is_the_other(row, name, start, call):
    x = torch.randn(8, 4, 40)
    gradients = {}
    for sign in ("descent", "lava-dl", "descent"):
        set_decay_gradient(sign)
        neuron = row.make(**{name: start}, requires_grad=True)
        y = voltage(neuron, x) if call == "dynamics" else neuron(x)
        want = voltage(row.make(**{name: TARGET}), x) if call == "dynamics" else 0 * y
        (y - want).square().mean().backward()
        gradients.setdefault(sign, getattr(neuron, name).grad)
        torch.testing.assert_close(getattr(neuron, name).grad, gradients[sign], rtol=0, atol=0)
    torch.testing.assert_close(gradients["lava-dl"], -gradients["descent"], rtol=0, atol=0)
    assert gradients["descent"].item() != 0
    if call == "dynamics":
        assert (gradients["descent"].item() > 0) == (start > TARGET), "a step down moves it there"


def test_unknown_sign_is_refused():
    with pytest.raises(ValueError, match="mode is 'ascent'; expected one of 'descent', 'lava-dl'"):
        set_decay_gradient("ascent")
