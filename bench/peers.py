"""The same work in other libraries: ``pytest --benchmark --peers``.

All get the same weights. What lava-dl computes must equal lapilli's before time is taken; the
others have neurons of their own, see libraries.py.

Neurons get their input as layers of their library hand it on; networks get it as a user has it,
time last in lapilli and lava-dl, time first in the others. Beside lava-dl, neurons get it time last
as well. Products with weights are taken of all
steps at once everywhere.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.benchmark.counters import clock_of
from lapilli.benchmark.neurons import ARGUMENTS, as_input, parts

from . import report
from .libraries import PEERS, Peer

RATE = 0.1  # spikes a step that training asks for
BROKEN = ("adrf_iz",)  # in lava-dl: forward raises TypeError, it gives spike() too few arguments


@dataclass(frozen=True)
class Side:
    """The work of one library: a call to repeat, and what its forward pass gave."""

    call: Callable[[], Any]
    output: Tensor  # [N, T, C]
    activity: list[float]  # share of entries that are not zero: of the input and of each layer


def _on_grid(x: Tensor) -> Tensor:
    """Round as weights and events are, so that sums are exact in any precision."""
    return (64 * x).round() / 64


def _activity(x: Tensor) -> float:
    return float(x.ne(0).float().mean())


def neuron(
    library: Any, device: torch.device, name: str, mode: str, as_data: bool = False
) -> Side:  # fmt: skip
    """512 neurons over 300 steps, 32 samples: the output, in training also the gradient.

    ``as_data`` asks for the layout of a user's data in place of that between layers.
    """
    torch.manual_seed(0)
    training = mode == "training"
    rows = [_on_grid(0.3 * torch.randn(32, 300, 512)).to(device) for _ in range(parts(name) + 1)]
    *xs, upstream = (library.data(r) if as_data else library.series(r) for r in rows)
    xs = [x.requires_grad_(training) for x in xs]
    module = library.neuron(name).to(device)

    def forward() -> Tensor:
        library.rest(module)
        return module(as_input(xs))

    def train() -> Any:
        return torch.autograd.grad(forward(), xs, upstream)

    output = forward().detach().movedim(library.time, 1)
    call = train if training else torch.no_grad()(forward)
    return Side(call, output, [_activity(xs[0]), _activity(output)])


def network(
    library: Any, device: torch.device, module: nn.Sequential, inputs: tuple[int, ...],
    density: float, gain: float,
) -> Side:  # fmt: skip
    """A step of training (fused Adam) on random spikes ``[N, T, C...]``; draws the weights."""
    torch.manual_seed(0)
    x = library.data((torch.rand(inputs) < density).float().to(device))
    module = module.to(device)
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if isinstance(weight, Tensor):
            torch.manual_seed(weight.numel())  # libraries list the synapses in different orders
            drawn = torch.randn(len(weight), weight.numel() // len(weight))
            drawn *= gain / drawn.shape[1] ** 0.5
            with torch.no_grad():
                weight.copy_(drawn.reshape(weight.shape))
    wanted = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(wanted, lr=1e-4, fused=True)

    def forward() -> Tensor:
        library.rest(module)
        return module(x)

    def train() -> None:
        optimiser.zero_grad()
        (forward().mean(library.time) - RATE).square().sum().backward()
        optimiser.step()

    activity = [_activity(x)]
    hooks = [
        layer.register_forward_hook(lambda _layer, _x, y: activity.append(_activity(y)))
        for layer in module
        if not isinstance(layer, nn.Linear)
    ]
    output = forward().detach().movedim(library.time, 1)
    for hook in hooks:
        hook.remove()
    return Side(train, output, activity)


@dataclass(frozen=True)
class Case:
    """A row of the results: the same work by lapilli and by a peer."""

    work: str
    mode: str  # forward or training
    peer: Peer
    build: Callable[[Any, torch.device], Side]

    def __str__(self) -> str:
        return f"{self.peer.name}-{self.work}-{self.mode}"


MLP = (2312, 512, 512, 10)
NETWORKS: dict[str, Callable[[Any, torch.device], Side]] = {
    "Dense 200-512 at 10%": lambda library, device: network(
        library, device, library.layers(200, 512), (32, 300, 200), 0.1, 1.0
    ),
    "MLP 2312-512-512-10 at 0.6%": lambda library, device: network(
        library, device, library.layers(*MLP), (8, 300, 2312), 0.006, 2.0
    ),
    "MLP 2312-512-512-10 at 10%": lambda library, device: network(
        library, device, library.layers(*MLP), (8, 300, 2312), 0.1, 1.0
    ),
    "Recurrent 128-256 at 5%": lambda library, device: network(
        library, device, library.recurrent(128, 256), (16, 200, 128), 0.05, 1.0
    ),
    "Conv 3x3 16-32 at 3%": lambda library, device: network(
        library, device, library.convolution(16, 32), (2, 100, 16, 32, 32), 0.03, 1.0
    ),
}
OF_LAVA_DL = ("Recurrent 128-256 at 5%", "Conv 3x3 16-32 at 3%")  # not of the others


def cases() -> list[Case]:
    """List all comparisons; the neurons of the others stand for CUBA."""
    found = []
    for peer in PEERS:
        names = [n for n in ARGUMENTS if n not in BROKEN] if peer.equal else ["cuba"]
        found += [
            Case(
                f"neuron {name}{', time last' if as_data else ''}",
                mode,
                peer,
                functools.partial(neuron, name=name, mode=mode, as_data=as_data),
            )
            for as_data in ((False, True) if peer.equal else (False,))
            for name in names
            for mode in ("forward", "training")
        ]
        found += [
            Case(work, "training", peer, build)
            for work, build in NETWORKS.items()
            if peer.equal or work not in OF_LAVA_DL
        ]
    return found


def compare(ours: Side, theirs: Side, device: torch.device, rounds: int) -> dict[str, Any]:
    """Measure both in alternation on one thread; a ratio a round, of which the median counts."""
    clock = clock_of(device)
    spent: dict[str, list[tuple[float, float]]] = {"lapilli": [], "peer": []}
    sides = [("lapilli", ours), ("peer", theirs)]
    for number in range(rounds + 1):
        for name, side in sides if number % 2 else reversed(sides):
            wall, start = time.perf_counter(), clock()
            side.call()
            spent[name].append((clock() - start, time.perf_counter() - wall))
    found: dict[str, Any] = {}
    for k, kind in enumerate(("clock", "wall")):
        # the first round compiled and touched memory
        mine, other = ([s[k] for s in spent[name][1:]] for name in ("lapilli", "peer"))
        ratios = [b / a for a, b in zip(mine, other, strict=True)]
        found |= {
            f"lapilli_{kind}_s": statistics.median(mine),
            f"peer_{kind}_s": statistics.median(other),
            f"{kind}_ratio": statistics.median(ratios),
            f"{kind}_ratios": [min(ratios), max(ratios)],
        }
    return found


def versions() -> dict[str, str]:
    """Return the versions of the libraries."""
    return {peer.name: metadata.version(peer.name) for peer in PEERS}


HEADER = (
    "work", "mode", "library", "its time", "lapilli's", "times faster", "range", "by wall clock",
)  # fmt: skip


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table: processor time a call, and ratios."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    for row in rows.values():
        low, high = row["clock_ratios"]
        cells = (
            row["work"],
            row["mode"],
            row["library"],
            report.duration(row["peer_clock_s"]),
            report.duration(row["lapilli_clock_s"]),
            f"{row['clock_ratio']:.3g}",
            f"{low:.3g} to {high:.3g}",
            f"{row['wall_ratio']:.3g}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def differences() -> list[str]:
    """Return a line for each library that does not compute what lapilli does."""
    return [f"- {peer.name}: {peer.differs}." for peer in PEERS if not peer.equal]


def summary(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of README.md: a row for each work, lapilli's time, ratios of the others."""
    names = [peer.name for peer in PEERS]
    head = ("work", "mode", "lapilli", *names)
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    works = dict.fromkeys((row["work"], row["mode"]) for row in rows.values())
    for work, mode in works:
        found = {r["library"]: r for r in rows.values() if (r["work"], r["mode"]) == (work, mode)}
        ratios = [f"{found[n]['clock_ratio']:.3g}" if n in found else "" for n in names]
        own = report.duration(found[names[0]]["lapilli_clock_s"])
        lines.append("| " + " | ".join([work, mode, own, *ratios]) + " |")
    return lines


def sentence(documents: dict[str, dict[str, Any]]) -> str:
    """Return what the README of the project says of lava-dl, from the results of each processor."""
    times = []
    for name, document in documents.items():
        row = document["cases"]["lava-dl-MLP 2312-512-512-10 at 0.6%-training"]
        own, other = (row[f"{side}_clock_s"] * 1e3 for side in ("lapilli", "peer"))
        times.append(f"{own:.0f} ms on the {name.split()[0]}, with lava-dl {other:.0f} ms")
    return f"takes {'; '.join(times)}"


if __name__ == "__main__":
    stored = report.processors("peers-")
    for name, document in stored.items():
        sys.stdout.write("\n".join([name, "", *summary(document["cases"]), "", ""]))
    sys.stdout.write("\n".join([*differences(), "", sentence(stored)]) + "\n")
