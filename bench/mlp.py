"""A network of three layers over the density of its input: ``python -m bench.mlp`` prints a table.

Layers of 2312-512-512-10 CUBA neurons, with spikes as a layer gives them. Processor time of one
thread, the least of several calls: a forward pass without gradients, and a step of training with
torch's fused Adam, which learns nothing, so that the spikes stay.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator

import torch
from lapilli.kernels.executors.memory import keep_memory

from lapilli import slayer
from lapilli.benchmark.limits import least

from .events import NEURON, training

SIZES = (2312, 512, 512, 10)
STEPS = 300
DENSITIES = (0.006, 0.02, 0.1)
HEADER = ("input spikes", "layers spike", "forward", "training")


def rows(samples: int, steps: int = STEPS) -> Iterator[tuple[float, list[float], dict[str, float]]]:
    """Yield of each density what share of each layer spikes, and the seconds of each call."""
    for density in DENSITIES:
        torch.manual_seed(0)
        pairs = itertools.pairwise(SIZES)
        net = torch.nn.Sequential(*(slayer.block.cuba.Dense(NEURON, a, b) for a, b in pairs))
        x = (torch.rand(samples, steps, SIZES[0]) < density).float().movedim(1, -1)
        times = least({"forward": torch.no_grad()(lambda net=net, x=x: net(x))})
        times |= least({"training": training(net, x, rate=0.0)})
        rates, y = [], x
        with torch.no_grad():
            for layer in net:
                y = layer(y)
                rates.append(float((y != 0).float().mean()))
        yield density, rates, times


def main() -> None:
    """Measure, and print the table in milliseconds."""
    parser = argparse.ArgumentParser(prog="python -m bench.mlp", description=__doc__)
    parser.add_argument("--samples", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # or fresh pages of torch's results would count, here and there
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    for density, rates, times in rows(arguments.samples):
        spiking = ", ".join(f"{rate:.1%}" for rate in rates)
        calls = (f"{1e3 * times[call]:.1f} ms" for call in HEADER[2:])
        lines.append(f"| {density:.1%} | {spiking} | {' | '.join(calls)} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
