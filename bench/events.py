"""Event-driven synapses beside dense ones: ``python -m bench.events`` prints the table of the docs.

Processor time of one thread, the least of several calls; what is compared is called in turn, in the
same run. Float32 is the product that torch computes.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lapilli.blocks.convolution import convolve
from lapilli.blocks.linear import linear
from lapilli.kernels.executors.memory import keep_memory
from lapilli.kernels.synapses import event_convolution, event_products, events
from lapilli.kernels.synapses.event_convolution import Geometry

from lapilli import slayer
from lapilli.benchmark import results
from lapilli.benchmark.limits import STEP, THOROUGH, float32, least, measured, spikes
from lapilli.extras import require

from . import report

DENSITIES = (0.005, 0.01, 0.03, 0.1, 0.3, 1.0)
PRODUCTS = ((2400, 2312, 512), (2400, 512, 512), (9600, 2312, 512), (9600, 512, 512))  # M, K, O
CONVOLUTIONS = ((200, 16, 32, 32), (200, 32, 64, 16))  # frames, channels, outputs, side; 3 x 3
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
HEADER = (
    "layer", "density", "find", "add", "auto", "float32", "times", "gradient", "float32", "times",
)  # fmt: skip
NEURON = {
    "threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03,
    "scale_grad": 3,
}  # fmt: skip


def _listed(x: torch.Tensor) -> events.Events:
    found = events.events_of(x)
    assert found is not None, "without a limit there are never too many"
    return found


def product(frames: int, inputs: int, outputs: int, density: float) -> dict[str, float]:
    """Measure a fully connected layer."""
    w = torch.randint(-128, 128, (outputs, inputs)) * STEP
    g, x = torch.randn(frames, outputs), spikes(density, frames, inputs)
    rows = x[0].t()
    listed = _listed(x)
    return least({
        "find": lambda: events.events_of(x),
        "add": lambda: event_products.gather(listed, w, STEP),
        "auto": lambda: linear(x, w, step=STEP),
        "dense": lambda: rows @ w.t(),
        "scatter": lambda: event_products.scatter(listed, g),
        "dense gradient": lambda: g.t() @ rows,
    })  # fmt: skip


def convolution(
    frames: int, channels: int, outputs: int, side: int, density: float
) -> dict[str, float]:
    """Measure a convolution of 3 x 3."""
    w = torch.randint(-128, 128, (outputs, channels, 3, 3)) * STEP
    g = torch.randn(frames, outputs, side, side)
    x = spikes(density, frames, channels, side, side)
    images = x[0].movedim(-1, 0)
    listed = _listed(x)
    options = (1, 1), (1, 1), (1, 1)
    geometry = Geometry((channels, side, side), w.shape, *options)
    names = dict(zip(("stride", "padding", "dilation"), options, strict=True))
    return least({
        "find": lambda: events.events_of(x),
        "add": lambda: event_convolution.gather(listed, w, geometry, STEP),
        "auto": lambda: convolve(x, w, groups=1, step=STEP, **names),
        "dense": lambda: torch.conv2d(images, w, None, *options),
        "scatter": lambda: event_convolution.scatter(listed, g, geometry),
        "dense gradient": lambda: torch.ops.aten.convolution_backward(
            g, images, w, None, *options, False, [0, 0], 1, [False, True, False]),
    })  # fmt: skip


def training(net: torch.nn.Module, x: torch.Tensor, rate: float = 1e-4) -> Callable[[], None]:
    """Return a step of training of a network, which learns at a ``rate``."""
    net(x)  # draws what waits for the first call
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        ((net(x).mean(-1) - 0.1) ** 2).sum().backward()
        optimizer.step()

    return step


def networks() -> Iterator[tuple[str, float, dict[str, float]]]:
    """Measure steps of training, with the events and with products of float32 alone."""
    sizes = (2312, 512, 512, 10)
    block = slayer.block.cuba
    pairs = list(itertools.pairwise(sizes))
    kinds = {
        f"MLP {'-'.join(map(str, sizes))}, batch 8, 300 steps, fused Adam": (
            0.006, sizes[0], lambda: [block.Dense(NEURON, a, b) for a, b in pairs]),
        "Recurrent 128->256, batch 32, 300 steps, fused Adam": (
            0.05, 128, lambda: [block.Recurrent(NEURON, 128, 256)]),
    }  # fmt: skip
    for name, (density, inputs, make) in kinds.items():
        batch = 8 if inputs > 128 else 32
        x = (torch.rand(batch, inputs, 300) < density).float()
        steps = {}
        for product in ("auto", "dense"):
            torch.manual_seed(0)
            net = torch.nn.Sequential(*make())
            modules: Iterator[Any] = net.modules()
            for layer in modules:
                if hasattr(layer, "product"):
                    layer.product = product
            steps[product] = training(net, x)
        yield name, density, least({"auto": steps["auto"], "dense": float32(steps["dense"])})


def measure() -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure all layers at all densities, then the networks: name and row of each."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_memory()  # or fresh pages of torch's results would count, here and there
    for density in DENSITIES:
        for M, K, O in PRODUCTS:
            name = f"Dense {K}->{O}, {M} frames"
            yield name, {"density": density, **product(M, K, O, density)}
        for M, C, O, side in CONVOLUTIONS:
            name = f"Conv 3x3 {C}->{O} on {side}x{side}, {M} frames"
            yield name, {"density": density, **convolution(M, C, O, side, density)}
    for name, density, times in networks():
        yield name, {"density": density, **times}


def table(document: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table, in milliseconds."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    rows = document["cases"].values()
    order = list(dict.fromkeys(row["layer"] for row in rows))
    for row in sorted(rows, key=lambda row: order.index(row["layer"])):
        cells = [row["layer"], f"{row['density']:.1%}"]
        cells += [_milliseconds(row.get(name)) for name in ("find", "add", "auto", "dense")]
        cells.append(f"{row['dense'] / row['auto']:.1f}")
        cells += [_milliseconds(row.get(name)) for name in ("scatter", "dense gradient")]
        cells.append(f"{row['dense gradient'] / row['scatter']:.1f}" if "scatter" in row else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def limits_table(document: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the limits, forward / in training."""
    lines = ["| terms of an input | " + " | ".join(document["limits"]) + " |"]
    lines.append("|" + " --- |" * (1 + len(document["limits"])))
    known = {int(terms) for table in document["limits"].values() for terms in table}
    for terms in sorted(known):
        cells = (table.get(str(terms)) for table in document["limits"].values())
        texts = ("" if pair is None else f"{pair[0]:.0%} / {pair[1]:.0%}" for pair in cells)
        lines.append(f"| {terms} | {' | '.join(texts)} |")
    return lines


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.2f}"


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw how many times quicker than float32 each layer is, over the density."""
    pyplot = require("matplotlib.pyplot", "matplotlib")
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5), sharey=True, layout="constrained")
    layers: dict[str, list[dict[str, Any]]] = {}
    for row in document["cases"].values():
        if "scatter" in row:
            layers.setdefault(row["layer"], []).append(row)
    kinds = (
        ("Forward, as the synapse chooses", "auto", "dense"),
        ("Gradient of the weight, over events", "scatter", "dense gradient"),
    )
    for axis, (title, ours, theirs) in zip(axes, kinds, strict=True):
        for layer, rows in layers.items():
            ratios = [row[theirs] / row[ours] for row in rows]
            axis.plot([100 * row["density"] for row in rows], ratios, marker="o", label=layer)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", yscale="log", title=title, xlabel="inputs that spike in a step, %")
        axis.set_xticks([100 * d for d in DENSITIES], [f"{100 * d:g}" for d in DENSITIES])
        axis.set_yticks(TICKS, [*map(str, TICKS)])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("times as quick as float32")
    axes[1].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main() -> None:
    """Measure, print the table, and write what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.events", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the times")
    parser.add_argument("--plot", type=Path, help="file for the picture, .svg or .png")
    arguments = parser.parse_args()
    rows = {}
    for name, row in measure():
        rows[f"{name} at {row['density']:.1%}"] = {"layer": name, **row}
        sys.stderr.write(f"{name} at {row['density']:.1%}\n")
    command = "python -m bench.events " + " ".join(sys.argv[1:])
    document = report.document(rows, torch.device("cpu"), command.strip())
    limits = measured(THOROUGH)
    document["limits"] = {
        kind: {str(terms): [*pair] for terms, pair in rows.items()} for kind, rows in limits.items()
    }
    sys.stdout.write("\n".join([*limits_table(document), "", *table(document)]) + "\n")
    if arguments.json:
        results.write(arguments.json, document)
    if arguments.plot:
        plot(document, arguments.plot)


if __name__ == "__main__":
    main()
