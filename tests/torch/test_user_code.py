"""What a user's own code does to neurons: subclasses, hooks, parametrised decays."""

import pytest
import torch
from cells import SPIKING, events, make, same
from torch.nn.utils import parametrize, prune

from lapilli import neurons


class Doubled(neurons.cuba.Neuron):
    def forward(self, input):
        return 2 * super().forward(input)


class Silent(neurons.cuba.Neuron):
    def spike(self, voltage):
        return 0 * super().spike(voltage)


class Unreset(neurons.cuba.Neuron):
    def dynamics(self, input):
        current, voltage = super().dynamics(input)
        return current, voltage + 0.25


def given(kind, cls, **options):
    block = make("cuba", kind, **options)
    block.neuron.__class__ = cls
    return block


@pytest.mark.parametrize("kind", ["Dense", "Recurrent", "KWTA"])
def test_methods_of_a_subclass_are_called(kind):
    x = events(kind)
    plain = make("cuba", kind)(x)
    assert given(kind, Doubled)(x).max() == 2
    assert not given(kind, Silent)(x).any()
    assert not torch.equal(given(kind, Unreset)(x), plain)
    replaced = make("cuba", kind)
    forward = replaced.neuron.forward
    replaced.neuron.forward = lambda z: 2 * forward(z)
    assert replaced(x).max() == 2
    silent = make("cuba", kind)
    silent.neuron.spike = lambda voltage: torch.zeros_like(voltage)
    assert not silent(x).any()


@pytest.mark.parametrize("family", SPIKING)
@pytest.mark.parametrize("kind", ["Dense", "Recurrent", "KWTA"])
def test_methods_that_change_nothing_change_nothing(family, kind):
    block = make(family, kind)
    want = make(family, kind)(events(kind))
    calls = []
    dynamics = block.neuron.dynamics
    block.neuron.dynamics = lambda z: calls.append(1) or dynamics(z)
    same(block(events(kind)), want)
    assert calls


@pytest.mark.parametrize("kind", ["Dense", "Recurrent", "KWTA"])
@pytest.mark.parametrize(
    "register",
    ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
     "register_full_backward_pre_hook"],
)  # fmt: skip
def test_hooks_of_the_neuron_run(kind, register):
    block = make("cuba", kind)
    seen = []
    getattr(block.neuron, register)(lambda *_: seen.append(1) and None)
    x = events(kind).requires_grad_()
    y = block(x)
    same(y, make("cuba", kind)(events(kind)))
    y.sum().backward()
    assert len(seen) == (1 if kind == "Dense" else x.shape[-1])
    if kind != "Dense":
        block.gradient = "full"
        with pytest.raises(ValueError, match="cannot go through what acts step by step"):
            block(x)


class Half(torch.nn.Module):
    def forward(self, x):
        return x / 2


@pytest.mark.parametrize("kind", ["Dense", "Recurrent", "KWTA"])
def test_parametrised_and_pruned_decays_are_used(kind):
    params = {"current_decay": 0.5, "voltage_decay": 0.5, "requires_grad": True}
    want = make("cuba", kind, params | {"current_decay": 0.25})(events(kind))
    block = make("cuba", kind, params)
    parametrize.register_parametrization(block.neuron, "current_decay", Half())
    y = block(events(kind))
    same(y, want)
    want = make("cuba", kind, params | {"voltage_decay": 0.0})(events(kind))
    block = make("cuba", kind, params)
    prune.l1_unstructured(block.neuron, "voltage_decay", 1)
    same(block(events(kind)), want)


def test_parts_of_sigma_delta_that_are_watched_are_called():
    neuron = neurons.sigma_delta.Neuron(0.125, torch.relu)
    x = torch.randn(2, 3, 8)
    want = neuron(x)
    seen = []
    neuron.delta.register_forward_hook(lambda *_: seen.append(1) and None)
    same(neuron(x), want)
    assert seen
