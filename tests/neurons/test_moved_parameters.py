"""Parameters out of their range: moved where forward may write, and as if moved where not."""

import pytest
import torch
from cells import events, make, same
from torch.func import functional_call

OUTSIDE = [
    ("cuba", "neuron.current_decay", (-50.0, 5000.0)),
    ("cuba", "neuron.voltage_decay_update", (-1.5, 40.0)),
    ("cuba", "delay.delay", (-1.5, 70.0)),
    ("alif", "neuron.threshold_decay", (-50.0, 5000.0)),
    ("rf", "neuron.sin_decay", (-5000.0, 5000.0)),
    ("rf", "neuron.cos_decay", (-5000.0, 5000.0)),
    ("adrf_iz", "neuron.cos_decay", (5000.0,)),
    ("sigma_delta", "neuron.delta.threshold", (0.01, -0.3)),
]


def _gradients(y, leaves):
    weights = torch.arange(y.numel()).view(y.shape) % 7 - 3.0
    return torch.autograd.grad((y * weights).sum(), leaves)


@pytest.mark.parametrize(("family", "name", "values"), OUTSIDE, ids=lambda v: str(v))
def test_a_call_with_parameters_of_somebody_else_has_the_same_gradients(family, name, values):
    options = {"delay": True} if name == "delay.delay" else {}
    for value in values:
        block = make(family, "Dense", {"requires_grad": True}, **options)
        x = events("Dense", steps=80)  # more than a delay can be
        block(x)
        with torch.no_grad():
            block.get_parameter(name).fill_(value)
        given = {n: p.detach().clone().requires_grad_() for n, p in block.named_parameters()}
        y = functional_call(block, given, (x,))
        found = _gradients(y, [*given.values()])
        want = block(x)
        same(y, want)
        expected = _gradients(want, [*block.parameters()])
        for n, got, gradient in zip(given, found, expected, strict=True):
            assert torch.equal(got, gradient), n
        assert any(g.any() for n, g in zip(given, found, strict=True) if n.startswith("synapse"))
