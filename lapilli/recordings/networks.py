"""Networks for recordings of any size."""

import math

import torch
from lapilli.blocks import cuba

from lapilli import neurons

__all__ = ["NEURON", "convolutions", "dense_layers"]

NEURON = {
    "threshold": 1.25,
    "current_decay": 0.25,
    "voltage_decay": 0.03,
    "tau_grad": 0.03,
    "requires_grad": True,
}


def convolutions(channels: int, height: int, width: int, classes: int) -> torch.nn.Sequential:
    """Make three convolutions, each of which halves the sides, and two dense layers."""
    neuron = NEURON | {"scale_grad": 3, "norm": neurons.norm.MeanOnlyBatchNorm}
    layer = {"weight_norm": True, "weight_scale": 2}
    features = 32 * math.ceil(height / 8) * math.ceil(width / 8)
    return torch.nn.Sequential(
        cuba.Conv(neuron, channels, 16, 3, padding=1, stride=2, **layer),
        cuba.Conv(neuron, 16, 32, 3, padding=1, stride=2, **layer),
        cuba.Conv(neuron, 32, 32, 3, padding=1, stride=2, **layer),
        cuba.Flatten(),
        cuba.Dense(neuron | {"norm": None}, features, 128, **layer),
        cuba.Dense(neuron | {"norm": None}, 128, classes, **layer),
    )


def dense_layers(inputs: int, classes: int) -> torch.nn.Sequential:
    """Make a hidden layer with delays and a layer of outputs."""
    neuron = NEURON | {"scale_grad": 3}
    return torch.nn.Sequential(
        cuba.Dense(neuron, inputs, 256, weight_norm=True, delay=True),
        cuba.Dense(neuron, 256, classes, weight_norm=True),
    )
