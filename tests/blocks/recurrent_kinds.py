"""Recurrent blocks of every family, and inputs for them."""

import pytest
import torch
from cells import block_class
from turns import soon

LEAKY = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.125}
TURNS = {"threshold": 0.5, "period": 8, "decay": 0.1}
ADAPTS = {"threshold_step": 0.25, "threshold_decay": 0.1, "refractory_decay": 0.25}
FAMILIES = {
    "cuba": LEAKY,
    "alif": LEAKY | ADAPTS,
    "rf": TURNS,
    "rf_iz": TURNS,
    "adrf": TURNS | ADAPTS | {"threshold": 0.25},
    "adrf_iz": TURNS | ADAPTS,
}
# a real neuron and a complex one at once; the others compile loops of their own
each_family = pytest.mark.parametrize("family", soon(("cuba", "rf"), FAMILIES))
each_kind = pytest.mark.parametrize("kind", ["Recurrent", "KWTA"])


def make(family, kind, inputs=6, outputs=5, neuron=None, **options):
    """Block of a kind with weights that make some neurons spike."""
    if kind == "KWTA":
        options.setdefault("num_winners", 2)
    params = FAMILIES[family] | (neuron or {})
    torch.manual_seed(3)
    return block_class(family, kind)(params, inputs, outputs, weight_scale=3, **options)


def events(batch=3, channels=6, steps=40, share=0.4):
    torch.manual_seed(5)
    return (torch.rand(batch, channels, steps) < share).float()


def pattern(*shape):
    """Weight of the specification's examples."""
    rows = torch.arange(shape[0])[:, None] * 7 + torch.arange(shape[1])[None, :] * 3
    return (rows % 11 - 4).float().div(8).view(*shape, 1, 1, 1)


def example_input(channels=6, steps=16):
    j, t = torch.arange(channels)[:, None], torch.arange(steps)[None, :]
    return ((3 * j + 5 * t) % 7 < 3).float()[None]


def spikes_of(text):
    return torch.tensor([[float(c) for c in row] for row in text.split()])[None]


def ramp(y):
    return (y * torch.arange(1.0, y.shape[-1] + 1)).sum()
