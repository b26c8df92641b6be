"""What the kernels of the catalogue execute, counted: instructions, sectors, conflicts of banks.

Two launches that differ by some steps show what a step takes, without what comes before and after
the loop over time. The kernel report estimates the same from machine code.
"""

import math
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from lapilli.kernels.proof import catalogue
from torch import Tensor

from .launcher import launch_on
from .schedule import WARP, Counts, Schedule

NAMES = ("executed", "touched", "conflicts")
_STEPS = {"recurrent": (4, 6)}  # the first fills what is in flight


def executed(target: str, names: list[str]) -> dict[str, dict[str, float]]:
    """Count for each use of kernels, by its name.

    ``executed``: PTX instructions of a thread, ``touched``: bytes of the sectors of 32 bytes that
    accesses of global memory touch, ``conflicts``: passes of shared memory beyond the first of a
    warp, ``divisions``: instructions that divide; each a neuron-step.
    """
    found = {}
    for name in names:
        steps = _STEPS.get(name, (8, 24))
        short, long = (_counts(name, target, s) for s in steps)
        for entry, (few, _) in short.items():
            many, entries = long[entry]
            each = entries * (steps[1] - steps[0])
            if few == many:  # no loop over time
                few, each = Counts(), entries
            found[entry] = {
                "executed": round((many.instructions - few.instructions) * WARP / each, 3),
                "touched": round((many.sectors - few.sectors) * WARP / each, 3),
                "conflicts": round((many.conflicts - few.conflicts) / each, 5),
                "divisions": round((_divisions(many) - _divisions(few)) * WARP / each, 3),
            }
    return found


def _divisions(counts: Counts) -> int:
    return sum(times for op, times in counts.operations.items() if op.startswith("div."))


def _counts(name: str, target: str, steps: int) -> dict[str, tuple[Counts, int]]:
    """Return the counts of each use, and of how many entries of a step."""
    sizes: dict[str, Any] = {"STEPS": steps, "NEURONS": 128, "BATCH": 1}
    with mock.patch.multiple(catalogue, **sizes):
        entries = list(catalogue.entries(name))
    found = {}
    for entry in entries:
        launch = entry.launch
        args = tuple(torch.zeros_like(a) if isinstance(a, Tensor) else a for a in launch.args)
        total = entry.neurons * (catalogue.SAMPLES if name == "recurrent" else 1)
        grid = launch.grid or (math.ceil(total / entry.lanes),)
        done = launch_on(target, Schedule(), replace(launch, args=args), grid, counting=True)
        found[str(entry)] = done.counts, total
    return found
