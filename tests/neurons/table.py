"""The neurons under test, as their files declare them; every test here picks them up."""

import importlib
from dataclasses import dataclass

import pytest
import torch
from lapilli.kernels.recurrences.declared import Recurrence, recurrences
from lapilli.neurons.settings import Settings, settings

NCT = (2, 3, 20)  # of most inputs
# names in the state dict, where they are not those of the kernel's parameters
NAMES = {"sigma_delta": ("bias", "delta.threshold")}


@dataclass(frozen=True, repr=False)
class Row:
    name: str
    settings: Settings
    recurrence: Recurrence

    @property
    def arguments(self):
        return self.settings.quick

    @property
    def ranges(self):
        """Of the arguments that may differ by channel."""
        return self.settings.ranges

    @property
    def parameters(self):
        """Names in the state dict, in order."""
        return NAMES.get(self.name, self.recurrence.tensor_names)

    @property
    def pair(self):
        return self.recurrence.inputs == 2

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


ROWS = [Row(name, own, recurrences()[name]) for name, own in settings().items()]


def each_that(condition):
    """Run a test for the rows that satisfy a condition."""
    return pytest.mark.parametrize("row", list(filter(condition, ROWS)), ids=repr)


each = each_that(lambda row: True)
# of each sort one at once, where a neuron takes loops that it takes nowhere else
each_sort = pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row, id=row.name,
            marks=() if row.name in ("cuba", "rf", "sigma_delta") else pytest.mark.slow,
        )
        for row in ROWS
    ],
)  # fmt: skip
each_fixed_point = each_that(lambda row: row.name != "sigma_delta")
