"""Neurons alone with series that lie time last, beside rows: ``python -m bench.layouts``.

Training is the gradient of the input for a gradient that lies as the input does. On one thread; the
fastest of some rounds in alternation.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.executors.layout import from_rows
from lapilli.kernels.proof import calls

from lapilli.benchmark.counters import OneThread

from .cases import warm

NAMES = [r.name for r in calls.RECURRENCES.values() if r.trains and r.number_names]
SHAPES = ((32, 512, 300), (8, 128, 100))
ROUNDS = 11


def work(name: str, shape: tuple[int, int, int], time_last: bool, training: bool) -> Any:
    """Return a call of a neuron on series of a layout."""
    N, C, T = shape
    neuron, device = calls.RECURRENCES[name], torch.device("cpu")
    function = neuron.callable("lapilli.kernels.recurrences")
    parameters = neuron.tensors(device)

    def series() -> torch.Tensor:
        x = from_rows(warm((N, T, C), device), torch.Size((C,))).mul_(0.3)
        return x.contiguous() if time_last else x

    xs = [series().requires_grad_(training) for _ in range(neuron.inputs)]
    upstream = series()

    def call() -> Any:
        y = function(xs[0] if len(xs) == 1 else tuple(xs), *parameters, *neuron.numbers)
        return torch.autograd.grad(y, xs, upstream) if training else y

    return call


def fastest(*each: Callable[[], Any]) -> list[float]:
    """Return the seconds of the fastest round of each call."""
    seconds: list[list[float]] = [[] for _ in each]
    for number in range(ROUNDS + 1):
        for call, found in zip(each, seconds, strict=True):
            start = time.perf_counter()
            call()
            if number:  # the first compiled
                found.append(time.perf_counter() - start)
    return [min(found) for found in seconds]


def main() -> None:
    """Print a line for each neuron, shape and mode."""
    names = sys.argv[1:] or NAMES
    print("| neuron | shape | mode | rows | time last | share of the speed |")  # noqa: T201
    print("| --- | --- | --- | --- | --- | --- |")  # noqa: T201
    with OneThread():
        for shape in SHAPES:
            for name in names:
                for mode in ("forward", "training"):
                    made = (work(name, shape, last, mode == "training") for last in (False, True))
                    rows, last = fastest(*made)
                    times = f"{rows * 1e3:.3g} ms | {last * 1e3:.3g} ms | {rows / last:.0%}"
                    print(f"| {name} | {shape} | {mode} | {times} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
