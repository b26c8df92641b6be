"""Other libraries behind one interface: neurons, layers, layouts and what each lacks.

lava-dl computes what lapilli computes. The others have neurons of their own; the nearest is taken,
with the same decays and threshold, and ``differs`` says what is not the same.
"""

import importlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.benchmark.neurons import ARGUMENTS, make

CUBA = ARGUMENTS["cuba"]
LAYER = CUBA | {"threshold": 4.0}  # of networks: some percent of the neurons spike


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

    def convolution(self, channels: int, outputs: int) -> nn.Sequential:
        """Make a layer of CUBA neurons that see 3 by 3 inputs each."""
        conv = self.slayer.block.cuba.Conv
        return nn.Sequential(conv(dict(LAYER), channels, outputs, 3, padding=1))

    def rest(self, module: nn.Module) -> None:
        """Return to rest, before each call."""


class Lapilli(Slayer):
    def series(self, rows: Tensor) -> Tensor:
        return rows.movedim(1, -1)  # time outside of the neurons


class LavaDl(Slayer):
    def rest(self, module: nn.Module) -> None:
        # its Recurrent keeps the state of one sample for the next
        parts: Iterator[Any] = module.modules()
        for part in parts:
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

    cell: Any  # of a library's own type

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
