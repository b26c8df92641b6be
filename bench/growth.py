"""How time and memory grow: ``python -m bench.growth`` measures, writes a picture, prints a table.

A forward pass and a step of training (forward and backward) against the number of steps, neurons,
samples and layers and the density of the input, each a neuron-step: where the work is proportional
to it, the curves are flat. And a stream: a network that keeps its state is given one step a call,
as often as ``CALLS``, while the time of a call and the memory of the process are noted.

``python -m bench.growth steps stream`` measures some, and keeps what is stored of the others. Time
is processor time on one thread, the least of several calls. Memory is what the process holds at
most during a first call beyond what it held before, as Linux counts it.
"""

import argparse
import ctypes
import gc
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from lapilli import init_rates_, slayer
from lapilli.benchmark import results

from . import measure

RESULTS = Path(__file__).parent / "results"
NEURON = {
    "threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03,
    "scale_grad": 3,
}  # fmt: skip
CALLS = 100_000
PIECES = 50  # of the calls of a stream, each with a time and a size
SECONDS = 0.3  # how long a call is repeated for
MODES = ("forward", "training")
RATE = 0.05  # of every layer

Make = Callable[[], tuple[torch.nn.Module, torch.Tensor, int]]  # network, input, neurons


def _input(batch: int, neurons: int, steps: int, density: float = RATE) -> torch.Tensor:
    return (torch.rand(batch, neurons, steps) < density).float()


def _layers(sizes: list[int], x: torch.Tensor) -> tuple[torch.nn.Module, torch.Tensor, int]:
    """Return a network in which every layer spikes as often as the input of most axes."""
    dense = slayer.block.cuba.Dense
    pairs = itertools.pairwise(sizes)
    net = torch.nn.Sequential(*(dense(NEURON, a, b) for a, b in pairs))
    init_rates_(net, x[:4, :, :100], RATE)
    return net, x, sum(sizes[1:])


def _neurons(n: int, steps: int) -> tuple[torch.nn.Module, torch.Tensor, int]:
    """Return neurons alone, of which backward is asked for the gradient of the input."""
    return slayer.neuron.cuba.Neuron(**NEURON), torch.rand(1, n, steps), n


# what is varied: its values, the short form's, and what is run for one of them
AXES: dict[str, tuple[tuple[float, ...], tuple[float, ...], Callable[[Any], Any]]] = {
    "steps": (
        (10, 100, 1000, 10_000, 100_000), (100, 1000),
        lambda t: _layers([64, 64], _input(1, 64, t)),
    ),
    "neurons": (
        (10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000), (1000, 10_000),
        lambda n: _neurons(n, 8),
    ),
    "samples": (
        (1, 4, 16, 64, 256, 1024), (4, 16),
        lambda n: _layers([64, 64], _input(n, 64, 100)),
    ),
    "density": (
        (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), (0.01, 0.1),
        lambda d: _layers([1024, 256], _input(8, 1024, 100, d)),
    ),
    "layers": (
        (1, 2, 4, 8, 16), (1, 2),
        lambda n: _layers([128] * (n + 1), _input(8, 128, 100)),
    ),
}  # fmt: skip


def call_of(net: torch.nn.Module, x: torch.Tensor, mode: str) -> Callable[[], object]:
    """Return what is measured: a forward pass, or forward and backward."""
    if mode == "forward":
        return torch.no_grad()(lambda: net(x))
    if not any(p.requires_grad for p in net.parameters()):
        x.requires_grad_()

    def train() -> None:
        net.zero_grad()
        x.grad = None
        net(x).sum().backward()

    return train


def peak(call: Callable[[], object]) -> int | None:
    """Return the bytes that a call takes at most beyond what there was before."""
    gc.collect()
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)  # what earlier calls used would not be counted
    found = measure.peak_of(call)
    return None if found is None else max(0, found)


def least(call: Callable[[], object], seconds: float) -> float:
    """Return the least processor time of a call, repeated twice at least."""
    times: list[float] = []
    while len(times) < 2 or (sum(times) < seconds and len(times) < 1000):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def point(axis: str, value: float, seconds: float = SECONDS) -> dict[str, float | None]:
    """Measure one point in this process: nanoseconds and bytes a neuron-step, on one thread."""
    torch.manual_seed(0)
    values, _, make = AXES[axis]
    row: dict[str, float | None] = {"value": value}
    for mode in MODES:
        net, x, neurons = make(min(values))  # loads the compiled loops
        call_of(net, x, mode)()
        net, x, neurons = make(value)
        call = call_of(net, x, mode)
        work = len(x) * neurons * x.shape[-1]
        most = peak(call)
        row[f"{mode}_ns"] = least(call, seconds) / work * 1e9
        row[f"{mode}_bytes"] = None if most is None else most / work
        row["neuron_steps"] = work
    return row


def _apart(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a process of its own, whose memory nobody has used before."""
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (1,)) as pool:
        return pool.apply(function, args)


def against(axis: str, short: bool = False) -> Iterator[dict[str, float | None]]:
    """Yield a row for each value of what is varied; in the short form measured in this process."""
    values, few, _ = AXES[axis]
    for value in few if short else values:
        yield point(axis, value, 0.01) if short else _apart(point, axis, value)


def _resident() -> int | None:
    try:
        return measure.status("VmRSS")
    except OSError:
        return None


def stream(calls: int = CALLS) -> list[dict[str, float | None]]:
    """Give a network one step a call; return the time and the memory after each piece of them."""
    torch.manual_seed(0)
    params = NEURON | {"persistent_state": True}
    dense = slayer.block.cuba.Dense
    net = torch.nn.Sequential(dense(params, 64, 64, delay=True), dense(params, 64, 16)).eval()
    x = _input(1, 64, 256)
    rows = []
    with torch.no_grad():
        net(x)  # sizes and the loops of sequences
        for t in range(2 * x.shape[-1]):
            net(x[..., t % x.shape[-1], None])
        for k in range(PIECES):
            start = time.process_time()
            for t in range(calls // PIECES):
                net(x[..., t % x.shape[-1], None])
            seconds = time.process_time() - start
            rows.append({
                "value": (k + 1) * (calls // PIECES),
                "us": seconds / (calls // PIECES) * 1e6,
                "resident": _resident(),
            })  # fmt: skip
    return rows


TITLES = {
    "steps": "steps", "neurons": "neurons", "samples": "samples",
    "density": "share of inputs that spike", "layers": "layers",
}  # fmt: skip
SHAPES = {
    "steps": "1 x 64 to 64", "neurons": "neurons alone, 8 steps",
    "samples": "64 to 64, 100 steps", "density": "8 x 1024 to 256, 100 steps",
    "layers": "8 samples of 128, 100 steps",
}  # fmt: skip
SCALES = {"ns": 10_000, "bytes": 1000}  # most that the picture shows of a neuron-step


def table(document: dict[str, Any]) -> list[str]:
    """Return the lines of the table: for each axis its first, middle and last value."""
    lines = [
        "| against | value | forward | training | forward | training |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for axis in AXES:
        rows = document["cases"][axis]
        for row in (rows[0], rows[len(rows) // 2], rows[-1]):
            cells = [axis, f"{row['value']:,g}" if row["value"] < 1 else f"{row['value']:,.0f}"]
            cells += [f"{row[f'{mode}_ns']:.3g} ns" for mode in MODES]
            for mode in MODES:
                found = row[f"{mode}_bytes"]
                cells.append("" if found is None else f"{found:.3g} B")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def stream_sentence(document: dict[str, Any]) -> str:
    """Return what the page says of the stream."""
    rows = document["cases"]["stream"]
    tenth = len(rows) // 10

    def mean(part: list[dict[str, float]], name: str) -> float:
        return sum(row[name] for row in part) / len(part)

    first, last = (mean(part, "us") for part in (rows[:tenth], rows[-tenth:]))
    more = (rows[-1]["resident"] - rows[0]["resident"]) / 1024
    return (
        f"Over {rows[-1]['value']:,} calls of one step each, a call takes {first:.1f} us in the "
        f"first tenth and {last:.1f} us in the last, and the process grows by {more:.0f} KiB."
    )


def picture(document: dict[str, Any], path: Path) -> None:
    """Draw time and memory against each of the axes, and the stream."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5.6), layout="constrained")
    grid = figure.subplots(2, len(AXES) + 1)
    for column, axis in enumerate(AXES):
        rows = document["cases"][axis]
        values = [row["value"] for row in rows]
        for axes, (unit, most) in zip(grid[:, column], SCALES.items(), strict=True):
            for mode in MODES:
                axes.plot(values, [row[f"{mode}_{unit}"] for row in rows], "o-", ms=3, label=mode)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(1, most)  # of all, to be compared
            axes.grid(alpha=0.3)
        grid[0, column].set_title(SHAPES[axis], fontsize=9)
        grid[1, column].set_xlabel(TITLES[axis])
    rows = document["cases"]["stream"]
    values = [row["value"] for row in rows]
    above, below = grid[:, -1]
    above.plot(values, [row["us"] for row in rows], color="C2")
    below.plot(values, [(row["resident"] or 0) / 2**20 for row in rows], color="C2")
    above.set_title("a stream, 64-64-16", fontsize=9)
    above.set_ylabel("processor time of a call, us")
    below.set_ylabel("memory of the process, MiB")
    below.set_xlabel("calls of one step")
    for axes in (above, below):
        axes.set_ylim(0, 1.25 * axes.dataLim.y1)
        axes.grid(alpha=0.3)
    grid[0, 0].set_ylabel("processor time\nof a neuron-step, ns")
    grid[1, 0].set_ylabel("most memory of a call,\nbytes a neuron-step")
    grid[0, 0].legend(fontsize=8)
    figure.suptitle(f"one thread of {document['machine']['processor']}", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, and write ``growth.json`` and ``growth.svg``."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.growth")
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=", ".join([*AXES, "stream"]))
    parser.add_argument("--short", action="store_true", help="two values of each, fewer calls")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the results go")
    given = parser.parse_args()
    unknown = set(given.axes) - {*AXES, "stream"}
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected {', '.join([*AXES, 'stream'])}")
    torch.set_num_threads(1)  # which the result names
    path = given.folder / "growth.json"
    cases = results.read(path).get("cases", {})
    for axis in given.axes or [*AXES, "stream"]:
        if axis == "stream":
            cases[axis] = stream(1000) if given.short else _apart(stream)
        else:
            cases[axis] = list(against(axis, given.short))
    document = {
        "machine": results.machine(torch.device("cpu")), "versions": results.versions(),
        "command": "python -m bench.growth", "cases": cases,
    }  # fmt: skip
    results.write(path, document)
    if {*AXES, "stream"} <= cases.keys():
        picture(document, given.folder / "growth.svg")
        print("\n".join([*table(document), "", stream_sentence(document)]))  # noqa: T201


if __name__ == "__main__":
    main()
