"""The neurons under test: one row each, which every test of this folder picks up."""

import importlib
from dataclasses import dataclass
from typing import Any

import pytest
import torch

BIT = 1 / 8  # byte
NCT = (2, 3, 20)  # of most inputs


@dataclass(frozen=True, repr=False)
class Row:
    name: str
    arguments: dict[str, Any]
    ranges: dict[str, tuple[float, float]]  # of the arguments that may differ by channel
    parameters: tuple[str, ...]  # names in the state dict, in order
    # bytes kept for backward for each neuron and step, with frozen and with learned parameters
    frozen: float
    learned: float
    partials: int = 2  # parameters that get a gradient which is not zero
    pair: bool = False

    def __repr__(self):
        return self.name

    @property
    def module(self):
        return importlib.import_module(f"lapilli.neurons.{self.name}")

    def make(self, **options):
        return self.module.Neuron(**self.arguments | options)

    def per_channel(self, **options):
        """Make a neuron whose parameters differ from channel to channel."""
        return self.make(**self.ranges | {"shared_param": False} | options)

    def input(self, *shape, seed=0, scale=2.0):
        """Return a tensor, or a pair, as the weights before a neuron would give it."""
        generator = torch.Generator().manual_seed(seed)
        parts = [
            (torch.randn(shape, generator=generator) * scale).requires_grad_()
            for _ in range(1 + self.pair)
        ]
        return tuple(parts) if self.pair else parts[0]

    def map(self, function, x):
        """Apply a function to an input, or to both parts."""
        return tuple(map(function, x)) if self.pair else function(x)

    def parts(self, x):
        return list(x) if self.pair else [x]


_CUBA = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1}
_RF = {"threshold": 1.0, "period": 8, "decay": 0.1}
_ADAPTS = {"threshold_step": 0.5, "threshold_decay": 0.2, "refractory_decay": 0.3}
_CUBA_RANGES = {"current_decay": (0.1, 0.4), "voltage_decay": (0.05, 0.3)}
_RF_RANGES = {"period": (5, 20), "decay": (0.05, 0.2)}
_ADAPTS_RANGES = {"threshold_decay": (0.1, 0.3), "refractory_decay": (0.2, 0.5)}
_LI = ("current_decay", "voltage_decay")
_RES = ("sin_decay", "cos_decay")
_AD = ("threshold_decay", "refractory_decay")

ROWS = [
    Row("cuba", _CUBA, _CUBA_RANGES, _LI, 4, 4),
    Row("alif", _CUBA | _ADAPTS, _CUBA_RANGES | _ADAPTS_RANGES, _LI + _AD, 4, 8),
    Row("rf", _RF, _RF_RANGES, _RES, 8, 8, pair=True),
    Row("rf_iz", _RF, _RF_RANGES, _RES, 4, 8, pair=True),
    Row("adrf", _RF | _ADAPTS, _RF_RANGES | _ADAPTS_RANGES, _RES + _AD, 8, 12, pair=True),
    Row("adrf_iz", _RF | _ADAPTS, _RF_RANGES | _ADAPTS_RANGES, _RES + _AD, 4, 12, pair=True),
    Row(
        "sigma_delta", {"threshold": 1.0, "activation": torch.relu}, {},
        ("bias", "delta.threshold"), BIT, 4 + BIT, partials=1,
    ),
]  # fmt: skip


def each_that(condition):
    """Run a test for the rows that satisfy a condition."""
    return pytest.mark.parametrize("row", list(filter(condition, ROWS)), ids=repr)


each = each_that(lambda row: True)
each_fixed_point = each_that(lambda row: row.name != "sigma_delta")
