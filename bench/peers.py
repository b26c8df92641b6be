"""The same work in other libraries: ``pytest --benchmark --peers``.

lava-dl computes what lapilli computes: both get the same weights, and their outputs must be equal
before time is taken. The others have neurons of their own; the nearest is taken, with the same
weights, decays and threshold, and ``differs`` says what is not the same.

Neurons get their input as layers of their library hand it on; networks get it as a user has it,
time last in lapilli and lava-dl, time first in the others. Products with weights are taken of all
steps at once everywhere.
"""

import functools
import importlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.benchmark import results
from lapilli.benchmark.counters import clock_of
from lapilli.benchmark.neurons import ARGUMENTS, as_input, make, parts

from . import report

CUBA = ARGUMENTS["cuba"]
LAYER = CUBA | {"threshold": 4.0}  # of networks: some percent of the neurons spike
RATE = 0.1  # spikes a step that training asks for
BROKEN = ("adrf_iz",)  # in lava-dl: forward raises TypeError, it gives spike() too few arguments


class Slayer:
    """Adapter of a library with lava-dl's names."""

    time = -1  # axis of a series

    def __init__(self, namespace: Any):
        self.slayer = namespace

    def series(self, rows: Tensor) -> Tensor:
        """Bring ``[N, T, C]`` into the layout in which layers of the library hand it on."""
        return rows.movedim(1, -1).contiguous()

    def data(self, rows: Tensor) -> Tensor:
        """Bring ``[N, T, C]`` into the layout of a user's data."""
        return rows.movedim(1, -1).contiguous()

    def neuron(self, name: str) -> nn.Module:
        """Make a neuron of ``ARGUMENTS``, or what is nearest."""
        return make(name, self.slayer.neuron)

    def layers(self, *sizes: int) -> nn.Sequential:
        """Make layers of CUBA neurons, or of what is nearest, each fed by the one before."""
        dense = self.slayer.block.cuba.Dense
        return nn.Sequential(*(dense(LAYER, i, o) for i, o in itertools.pairwise(sizes)))

    def recurrent(self, inputs: int, neurons: int) -> nn.Sequential:
        """Make a layer of CUBA neurons that also feeds itself."""
        return nn.Sequential(self.slayer.block.cuba.Recurrent(dict(LAYER), inputs, neurons))

    def rest(self, module: nn.Module) -> None:
        """Return to rest, before each call."""


class Lapilli(Slayer):
    def series(self, rows: Tensor) -> Tensor:
        return rows.movedim(1, -1)  # time outside of the neurons


class LavaDl(Slayer):
    def rest(self, module: nn.Module) -> None:
        # its Recurrent keeps the state of one sample for the next
        for part in module.modules():
            for name in ("spike", "current", "voltage", "refractory", "threshold"):
                state = part._buffers.get(f"{name}_state")
                if state is not None:
                    rest = part.threshold if name == "threshold" else 0.0
                    setattr(part, f"{name}_state", torch.full_like(state, rest))


class TimeFirst:
    """Adapter of a library that works on ``[T, N, C]`` and has one neuron for us."""

    time = 0

    def __init__(self, module: Any):
        self.module = module

    def series(self, rows: Tensor) -> Tensor:
        return rows.transpose(0, 1).contiguous()

    data = series

    def neuron(self, name: str, threshold: float = CUBA["threshold"]) -> nn.Module:
        raise NotImplementedError

    def layers(self, *sizes: int) -> nn.Sequential:
        made: list[nn.Module] = []
        for i, o in itertools.pairwise(sizes):
            made += [nn.Linear(i, o, bias=False), self.neuron("cuba", LAYER["threshold"])]
        return nn.Sequential(*made)

    def rest(self, module: nn.Module) -> None:
        pass


class OverTime(nn.Module):
    """A step of a library, called by hand for each step of a series.

    The loops of spikingjelly and norse index their input, of which each gradient is as large as the
    whole series: this one is eight to ten times faster in training.
    """

    def __init__(self, cell: nn.Module):
        super().__init__()
        self.cell = cell

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.cell(x, state)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        spikes = []
        for now in x:
            spike, state = self.step(now, state)
            spikes.append(spike)
        return torch.stack(spikes)


class SnnTorch(TimeFirst):
    def neuron(self, name: str, threshold: float = CUBA["threshold"]) -> nn.Module:
        class Synaptic(OverTime):
            def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
                spike, *state = self.cell(x, *(state or self.cell.reset_mem()))
                return spike, state

        cell = self.module.Synaptic(
            alpha=1 - CUBA["current_decay"], beta=1 - CUBA["voltage_decay"], threshold=threshold,
            reset_mechanism="zero", spike_grad=self.module.surrogate.atan(),
        )  # fmt: skip
        return Synaptic(cell)


class SpikingJelly(TimeFirst):
    def neuron(self, name: str, threshold: float = CUBA["threshold"]) -> nn.Module:
        class Lif(OverTime):
            def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
                return self.cell.single_step_forward(x), None

            def forward(self, x: Tensor) -> Tensor:
                self.cell.reset()
                self.cell.train(torch.is_grad_enabled())
                # its own loop is compiled, and faster, where no gradient is wanted
                return super().forward(x) if torch.is_grad_enabled() else self.cell(x)

        # without a synaptic current, which gathers input, the threshold must be lower
        cell = self.module.LIFNode(
            tau=1 / CUBA["voltage_decay"], decay_input=False, v_reset=0.0, step_mode="m",
            v_threshold=threshold * CUBA["current_decay"], backend="torch",
        )  # fmt: skip
        return Lif(cell)


class Norse(TimeFirst):
    def neuron(self, name: str, threshold: float = CUBA["threshold"]) -> nn.Module:
        dt = 0.001
        parameters = self.module.LIFParameters(
            tau_syn_inv=torch.tensor(CUBA["current_decay"] / dt),
            tau_mem_inv=torch.tensor(CUBA["voltage_decay"] / dt),
            # the voltage decay also scales the current here, so the threshold shrinks with it
            v_th=torch.tensor(threshold * CUBA["voltage_decay"]),
        )
        return OverTime(self.module.LIFCell(parameters, dt=dt))


@dataclass(frozen=True)
class Peer:
    """A library to compare with."""

    name: str
    module: str  # that the adapter needs
    adapter: Callable[[Any], Any]
    install: str  # for pip
    differs: str = ""  # from lapilli's work

    @property
    def equal(self) -> bool:
        """Whether outputs are lapilli's, bit for bit."""
        return self.adapter is LavaDl

    def load(self) -> Any:
        """Import the library and return its adapter; ImportError if that cannot be done."""
        return self.adapter(importlib.import_module(self.module))


PEERS = [
    Peer("lava-dl", "lava.lib.dl.slayer", LavaDl, "lava-nc lava-dl"),
    Peer(
        "snntorch", "snntorch", SnnTorch, "snntorch",
        "`Synaptic`: float32, two states, arctan surrogate",
    ),
    Peer(
        "spikingjelly", "spikingjelly.activation_based.neuron", SpikingJelly, "spikingjelly",
        "`LIFNode`, torch backend: float32, one state, sigmoid surrogate",
    ),
    Peer(
        "norse", "norse.torch", Norse, "norse",
        "`LIFCell`: float32, two states, SuperSpike surrogate",
    ),
]  # fmt: skip


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


def neuron(library: Any, device: torch.device, name: str, mode: str) -> Side:
    """512 neurons over 300 steps, 32 samples: the output, in training also the gradient."""
    torch.manual_seed(0)
    training = mode == "training"
    rows = [_on_grid(0.3 * torch.randn(32, 300, 512)).to(device) for _ in range(parts(name) + 1)]
    *xs, upstream = (library.series(r) for r in rows)
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
    library: Any, device: torch.device, module: nn.Sequential, inputs: tuple[int, int, int],
    density: float, gain: float,
) -> Side:  # fmt: skip
    """A step of training (fused Adam) on random spikes ``[N, T, C]``; draws the weights."""
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
}


def cases() -> list[Case]:
    """List all comparisons; the neurons of the others, and nothing recurrent, stand for CUBA."""
    found = []
    for peer in PEERS:
        names = [n for n in ARGUMENTS if n not in BROKEN] if peer.equal else ["cuba"]
        found += [
            Case(f"neuron {name}", mode, peer, functools.partial(neuron, name=name, mode=mode))
            for name in names
            for mode in ("forward", "training")
        ]
        found += [
            Case(work, "training", peer, build)
            for work, build in NETWORKS.items()
            if peer.equal or not work.startswith("Recurrent")
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


def sentence(rows: dict[str, dict[str, Any]]) -> str:
    """Return what the README of the project says of lava-dl."""
    row = rows["lava-dl-MLP 2312-512-512-10 at 0.6%-training"]
    return (
        f"{row['lapilli_clock_s'] * 1e3:.0f} ms of processor time on one core, with lava-dl "
        f"{row['peer_clock_s'] * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    stored = results.read(report.BENCH / "results" / "peers-cpu.json")["cases"]
    sys.stdout.write("\n".join([*summary(stored), "", *differences(), "", sentence(stored)]) + "\n")
