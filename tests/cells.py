"""Every block of every neuron, the cells, as small networks that some tests run through."""

import importlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from lapilli.neurons.settings import settings
from torch.testing import assert_close

from lapilli import slayer

LEAKY = {"threshold": 0.75, "current_decay": 0.25, "voltage_decay": 0.125}
TURNS = {"threshold": 0.25, "period": 8, "decay": 0.1}
ADAPTS = {"threshold_step": 0.125, "threshold_decay": 0.2, "refractory_decay": 0.5}
TUNED: dict[str, dict[str, Any]] = {  # for the inputs and weights below; others are as declared
    "cuba": LEAKY,
    "alif": LEAKY | ADAPTS,
    "rf": TURNS,
    "rf_iz": TURNS,
    "adrf": TURNS | ADAPTS | {"threshold": 0.125},
    "adrf_iz": TURNS | ADAPTS,
    "sigma_delta": {"threshold": 0.125, "activation": torch.nn.functional.relu},
}
NEURONS = {name: TUNED.get(name, own.quick) for name, own in settings().items()}
SPIKING = [family for family in NEURONS if family != "sigma_delta"]
STEPS = 24


@dataclass(frozen=True)
class Kind:
    """One kind of block: how it is built and called, and what it says."""

    families: list[str]
    channels: tuple[int, ...]  # of the input
    arguments: dict[str, Any] = field(default_factory=dict)
    neuron: bool = True
    outputs: tuple[int, ...] = ()
    says: str = ""  # in its repr
    weight: str = ""  # name of a learned weight
    counts: bool = True  # whether count_log gives a rate
    shifts: bool = True  # whether it takes delay_shift


def having(kind: str) -> list[str]:
    """Neurons that have this kind of block."""
    modules = {name: importlib.import_module(f"lapilli.blocks.{name}") for name in NEURONS}
    return [name for name, module in modules.items() if kind in module.__all__]


_DENSE = {"in_neurons": 6, "out_neurons": 5, "weight_scale": 3}
_CONV = {"in_features": 2, "out_features": 3, "kernel_size": 3, "weight_scale": 3}
_FLAT: dict[str, Any] = {"neuron": False, "counts": False, "shifts": False}
_MATRIX = "weight=(5, 6, 1, 1, 1)"
KINDS = {
    "Input": Kind(
        having("Input"), (6,), {"weight": 1.5, "bias": 0.25}, outputs=(6,), weight="weight",
    ),
    "Flatten": Kind(having("Flatten"), (2, 3, 4), **_FLAT, outputs=(24,)),
    "Average": Kind(
        having("Average"), (6,), {"num_outputs": 3}, **_FLAT, outputs=(3,), says="num_outputs=3"
    ),
    "TimeDecimation": Kind(
        having("TimeDecimation"), (6,), {"factor": 4}, **_FLAT, outputs=(6,), says="factor=4"
    ),
    "Dense": Kind(having("Dense"), (6,), _DENSE, outputs=(5,), says=_MATRIX, weight="synapse"),
    "Affine": Kind(
        having("Affine"), (6,), _DENSE, outputs=(5,), says=_MATRIX, weight="synapse",
        counts=False, shifts=False,
    ),
    "Output": Kind(
        having("Output"), (6,), _DENSE, outputs=(5,), says=_MATRIX, weight="synapse", shifts=False
    ),
    "Recurrent": Kind(
        having("Recurrent"), (6,), _DENSE, outputs=(5,), says="weight=(5, 5, 1, 1, 1)",
        weight="recurrent_synapse",
    ),
    "KWTA": Kind(
        having("KWTA"), (6,), _DENSE | {"num_winners": 2}, outputs=(5,), says="num_winners=2",
        weight="synapse",
    ),
    "Conv": Kind(
        having("Conv"), (2, 5, 6), _CONV, outputs=(3, 3, 4), says="weight=(3, 2, 3, 3, 1)",
        weight="synapse",
    ),
    "ConvT": Kind(
        having("ConvT"), (2, 5, 6), _CONV, outputs=(3, 7, 8), says="weight=(2, 3, 3, 3, 1)",
        weight="synapse",
    ),
    "Pool": Kind(
        having("Pool"), (2, 4, 6), {"kernel_size": 2}, outputs=(2, 2, 3),
        says="weight=(1, 1, 2, 2, 1)",
    ),
    "Unpool": Kind(
        having("Unpool"), (2, 2, 3), {"kernel_size": 2}, outputs=(2, 4, 6),
        says="weight=(1, 1, 2, 2, 1)",
    ),
}  # fmt: skip
CELLS = [(family, kind) for kind in KINDS for family in KINDS[kind].families]
OF_LAVA_DL = [cell for cell in CELLS if cell[0] in slayer.block.__all__]
# every kind of block, and every neuron: the others join what these have
SOON = [
    (family, kind)
    for family, kind in CELLS
    if family == "cuba" or kind in ("Dense", "Output") or (family, kind) == ("sigma_delta", "Input")
]
# every kind of block, and a neuron of each sort: for what is torch's, or a block's, and no kernel's
FEW = [
    cell
    for cell in SOON
    if cell[0] == "cuba" or cell in {("rf", "Dense"), ("sigma_delta", "Output")}
]


def in_turn(cells: Iterable[tuple[str, str]], soon: Collection[tuple[str, str]] = SOON) -> Any:
    """Run a test for cells, only in continuous integration for those that are not ``soon``."""
    marked = [pytest.param(*cell, marks=() if cell in soon else pytest.mark.slow) for cell in cells]
    return pytest.mark.parametrize(("family", "kind"), marked, ids=str)


each_cell = in_turn(CELLS)
cells_of = {
    name: in_turn(c for c in CELLS if chosen(KINDS[c[1]]))
    for name, chosen in {
        "neuron": lambda k: k.neuron,
        "shift": lambda k: k.shifts,
        "sizes": lambda k: k.weight and k.weight != "weight",
    }.items()
}


def block_class(family: str, kind: str) -> Any:
    return getattr(importlib.import_module(f"lapilli.blocks.{family}"), kind)


def make(family, kind, neuron=None, **options):
    """Block of a cell; a seed, so that two are the same."""
    torch.manual_seed(1)
    cell = KINDS[kind]
    params = {"neuron_params": NEURONS[family] | (neuron or {})} if cell.neuron else {}
    return block_class(family, kind)(**params, **cell.arguments | options)


def events(kind, batch=2, steps=STEPS):
    torch.manual_seed(2)
    return (torch.rand(batch, *KINDS[kind].channels, steps) < 0.4).float()


def same(a, b):
    assert_close(a, b, rtol=0, atol=0)
