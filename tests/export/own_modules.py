"""Modules around blocks, as users write them."""

from typing import Any

from export_networks import (
    CUBA,
)
from lapilli.blocks import cuba
from torch import nn


class Three(nn.Module):
    """Three blocks of six neurons, run as the test says."""

    def __init__(self, run: Any = None, **arguments):
        super().__init__()
        for name in "abc":
            setattr(self, name, cuba.Dense(CUBA, 6, 6, weight_scale=3, **arguments))
        self.run = run

    def forward(self, x):
        return self.run(self, x)


class OfBlocks(nn.Module):
    """What scripts for lava-dl write."""

    def __init__(self, run, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def loop(net, x):
    for block in net.blocks:
        x = block(x)
    return x
