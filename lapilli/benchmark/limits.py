"""Where adding events and a dense map take as long: measured, for blocks/crossover.py.

Processor time of one thread, the least of several calls; what is compared is called in turn, in the
same run. Events must be quicker by a twentieth.
"""

import functools
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from lapilli.blocks.convolution import convolve
from lapilli.blocks.linear import linear
from lapilli.blocks.tuned import Dense, Limits
from lapilli.kernels.executors.memory import keep_memory
from lapilli.kernels.synapses import codes

from .counters import OneThread

STEP = 1 / 32  # of the weights
OUTPUTS = (8, 16, 32, 64, 128, 256, 512, 1024)
INPUTS = 1024
_OF_CONVOLUTIONS = 16  # outputs, at least
DENSITIES = (0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_IN_A_ROW = 3  # calls before it is another's turn: in a network, too, the input was just written
_QUICKER = 1.05


@dataclass(frozen=True)
class Effort:
    """How much is measured: frames and images of an input, calls of each, and for how long."""

    frames: int
    images: int
    least: int
    seconds: float


THOROUGH = Effort(2400, 100, 6, 0.2)
QUICK = Effort(600, 25, 2, 0.02)


def least(calls: Mapping[str, Callable[[], object]], effort: Effort = THOROUGH) -> dict[str, float]:
    """Return the least processor time of each call, in seconds; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    start = time.process_time()
    names, order = list(calls), random.Random(0)
    while len(times[names[0]]) < effort.least or time.process_time() - start < effort.seconds:
        for name in names:
            for _ in range(_IN_A_ROW):
                begin = time.process_time()
                calls[name]()
                times[name].append(time.process_time() - begin)
        order.shuffle(names)  # what the one before leaves in the caches is chance
    return {name: min(measured) for name, measured in times.items()}


def spikes(density: float, *shape: int) -> torch.Tensor:
    """Return frames of spikes ``shape`` as a layer gives them, ``[1, neurons..., T]``."""
    return (torch.rand(shape) < density).float().unsqueeze(0).movedim(1, -1)


def float32(call: Callable[[], Any]) -> Callable[[], Any]:
    """Keep a call from products of eight bits."""

    def run() -> Any:
        with mock.patch.object(codes, "usable", return_value=False):
            return call()

    return run


def measured(
    effort: Effort, outputs: tuple[int, ...] = OUTPUTS, done: Callable[[int], None] | None = None
) -> Limits:
    """Return the densities up to which events are quicker, forward and in training.

    By what the alternative is (a product of codes, of float32, a convolution) and by the number of
    terms that an input takes part in: outputs, times the entries of a kernel.

    Parameters
    ----------
    effort
        How much is measured.
    outputs
        Outputs of the layers that are measured.
    done
        Called with each of them when it is done.
    """
    found: Limits = {"float32": {}, "convolution": {}}
    if codes.usable():
        found = {"codes": {}, **found}
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "step": STEP}
    dense: tuple[Dense, ...] = ("codes", "float32") if "codes" in found else ("float32",)
    with OneThread(), _same_numbers():
        keep_memory()  # or fresh pages of torch's results would count, here and there
        for out in outputs:
            w = torch.randint(-128, 128, (out, INPUTS)) * STEP
            xs = [spikes(density, effort.frames, INPUTS) for density in DENSITIES]
            call = functools.partial(linear, step=STEP)
            for kind, pair in zip(dense, _limits(call, w, xs, dense, effort), strict=True):
                found[kind][out] = pair
            if out >= _OF_CONVOLUTIONS:
                kernel = torch.randint(-128, 128, (out, 16, 3, 3)) * STEP
                xs = [spikes(density, effort.images, 16, 32, 32) for density in DENSITIES]
                call = functools.partial(convolve, **options)
                (pair,) = _limits(call, kernel, xs, ("convolution",), effort)
                found["convolution"][out * 9] = pair
            if done is not None:
                done(out)
    return found


@contextmanager
def _same_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _limits(
    call: Callable[..., Any],
    w: torch.Tensor,
    xs: list[torch.Tensor],
    kinds: tuple[Dense, ...],
    effort: Effort,
) -> list[tuple[float, float]]:
    """Return, for each kind of dense map, the limits forward and in training."""
    learned = w.clone().requires_grad_()

    def forward(x: torch.Tensor, product: str) -> torch.Tensor:
        return call(x, w, product=product)[0]

    def step(x: torch.Tensor, product: str) -> torch.Tensor:
        y = call(x, learned, product=product)[0]
        return torch.autograd.grad(y, learned, y.detach())[0]

    each = []
    for run in (forward, step):
        calls: dict[str, Callable[[], Any]] = {}
        calls |= {f"events {k}": functools.partial(run, x, "events") for k, x in enumerate(xs)}
        for kind in kinds:
            dense = functools.partial(run, xs[0], "dense")
            calls[kind] = float32(dense) if kind == "float32" else dense
        times = least(calls, effort)
        each.append([
            round(crossing([times[f"events {k}"] / times[kind] for k in range(len(xs))]), 2)
            for kind in kinds
        ])  # fmt: skip
    return list(zip(*each, strict=True))


def crossing(ratios: list[float]) -> float:
    """Return the first of ``DENSITIES`` up to which events are quicker, between those measured.

    ``ratios`` are the times over events, divided by that of the dense map.
    """
    slower = [_QUICKER * ratio for ratio in ratios]
    if slower[0] >= 1:
        return 0.0
    for (low, below), (high, above) in itertools.pairwise(zip(DENSITIES, slower, strict=True)):
        if above >= 1:
            return low + (high - low) * (1 - below) / (above - below)
    return DENSITIES[-1]
