"""A synapse of each kind, and what torch's own convolutions make of it."""

from typing import Any

import pytest
import torch
from lapilli.blocks import synapse

CUBA: dict[str, Any] = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1}
RF: dict[str, Any] = {"threshold": 1.0, "period": 8.0, "decay": 0.1}
KINDS = {
    "Dense": (lambda **o: synapse.Dense(5, 4, **o), (2, 5, 7)),
    "Conv": (lambda **o: synapse.Conv(2, 4, 3, padding=1, **o), (2, 2, 5, 6, 7)),
    "ConvTranspose": (lambda **o: synapse.ConvTranspose(2, 4, 3, **o), (2, 2, 5, 6, 7)),
    "Pool": (lambda **o: synapse.Pool(2, **o), (2, 3, 4, 6, 7)),
    "Unpool": (lambda **o: synapse.Unpool(2, **o), (2, 3, 4, 6, 7)),
}
LEARNED = ("Dense", "Conv", "ConvTranspose")
kinds = pytest.mark.parametrize("kind", KINDS)
learned = pytest.mark.parametrize("kind", LEARNED)


def made(kind, **options):
    make, shape = KINDS[kind]
    return make(**options), torch.randint(0, 2, shape).float()


def by_torch(made, x):
    """Do as lava-dl: torch's own convolution with what the synapse says of itself."""
    y = x if x.ndim == 5 else x[:, :, None, None]
    options = (made.bias, made.stride, made.padding)
    if isinstance(made, torch.nn.ConvTranspose3d):
        y = torch.nn.functional.conv_transpose3d(
            y, made.weight, *options, made.output_padding, made.groups, made.dilation
        )
    else:
        y = torch.nn.functional.conv3d(y, made.weight, *options, made.dilation, made.groups)
    return y if x.ndim == 5 else y[:, :, 0, 0]


def on_grid(module):
    """Put the weight on the chip's grid, where sums of any order are exact."""
    with torch.no_grad():
        module.weight.copy_((module.weight * 64).round() / 64)


def weights(module):
    return module.weight.detach().clone()
