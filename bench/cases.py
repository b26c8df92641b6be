"""What is measured: recurrences and blocks, forward and in training, and what each must move.

A recurrence reads its inputs and writes its output, 4 bytes each, and in training also what it
keeps for backward (``saved`` bytes a neuron-step): written once, read once, beside the gradient of
the output, which is read, and those of the inputs, which are written. No fusion can do with less,
so bytes over the bandwidth of a copy is the time to compare with.
"""

import functools
import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from lapilli.kernels.executors import memory
from lapilli.kernels.executors.layout import from_rows
from lapilli.kernels.proof import calls
from torch import Tensor

from lapilli.benchmark.neurons import ARGUMENTS

SHAPES = {  # batch, neurons..., steps
    "dense": (32, 512, 300),
    "conv": (8, 16, 32, 32, 100),
    "step": (1, 128, 1),
    "long": (4, 64, 4000),
}
MODES = ("forward", "training")
SHORT = ("dense", "step")  # shapes of the short form
REFERENCE_NEURON_STEPS = 1 << 18  # the loop in torch is slow: it gets fewer steps, this many in all


@dataclass(frozen=True)
class Workload:
    """A call that can be repeated; ``neuron_steps`` is what it advances."""

    run: Callable[[], Any]
    neuron_steps: int
    bytes: float | None = None  # that it must move a neuron-step; None where other work dominates


@dataclass(frozen=True)
class Case:
    """A row of the results. ``build(device, steps, reference)`` makes its workload."""

    name: str
    shape: str
    mode: str  # forward or training
    lanes: int  # neurons of all samples
    steps: int
    build: Callable[[torch.device, int, bool], Workload]
    loops: bool = True  # whether the reference is a loop, and so slow in earnest

    def __str__(self) -> str:
        return f"{self.name}-{self.shape}-{self.mode}"

    def executor(self, device: torch.device) -> Workload:
        """Make the workload of the executor that serves the device."""
        return self.build(device, self.steps, False)

    def reference(self, device: torch.device) -> Workload:
        """Make the workload of the loop in torch: as many lanes, fewer steps."""
        steps = max(1, min(self.steps, REFERENCE_NEURON_STEPS // self.lanes))
        return self.build(device, steps, True)


def warm(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return random numbers in memory of the pool, as a layer would hand them on."""
    return memory.empty(shape, torch.float32, torch.empty(0, device=device)).normal_()


@dataclass(frozen=True)
class Recurrence:
    """A kernel function, called with what its file declares as usual."""

    call: calls.Recurrence

    @property
    def name(self) -> str:
        """Its name."""
        return self.call.name

    @property
    def saved(self) -> float:
        """Bytes kept for backward a neuron-step, where no parameter is learned."""
        return self.call.kept[0]

    @property
    def loops(self) -> bool:
        """Whether its reference is slow in earnest; a sum or a hop, without parameters, is not."""
        return bool(self.call.usual)

    def build(
        self, shape: tuple[int, ...], training: bool, device: torch.device, steps: int,
        reference: bool,
    ) -> Workload:  # fmt: skip
        """Make a workload: a call, in training with its backward."""
        function = self.call.callable(
            "lapilli.kernels." + ("reference" if reference else "recurrences")
        )
        inputs = self.call.inputs
        batch, *neurons, _ = shape
        torch.manual_seed(0)
        rows = (batch, steps, math.prod(neurons))

        def series() -> Tensor:
            return from_rows(warm(rows, device), torch.Size(neurons))

        xs = [series().mul_(0.3).requires_grad_(training) for _ in range(inputs)]
        parameters = self.call.tensors(device)
        x = xs[0] if inputs == 1 else tuple(xs)

        def forward() -> Tensor:
            return function(x, *parameters, *self.call.numbers)

        once = 4 * (inputs + 1)
        if not training:
            return Workload(torch.no_grad()(forward), math.prod(rows), once)
        upstream = series()
        return Workload(
            lambda: torch.autograd.grad(forward(), xs, upstream),
            math.prod(rows),
            2 * (once + self.saved),
        )


RECURRENCES = [Recurrence(call) for call in calls.RECURRENCES.values() if call.trains]


@dataclass(frozen=True)
class Block:
    """A block or network of CUBA neurons; its work is synapse and neuron together."""

    name: str
    kinds: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...]
    shape: tuple[int, ...]
    neurons: int  # of all layers, in a sample
    optimiser: bool = False

    def build(
        self, shape: tuple[int, ...], training: bool, device: torch.device, steps: int,
        reference: bool,
    ) -> Workload:  # fmt: skip
        """Make a workload: a forward pass, or a step of training."""
        blocks = importlib.import_module("lapilli.blocks.cuba")
        params = ARGUMENTS["cuba"]
        torch.manual_seed(0)
        layers = [getattr(blocks, k)(params, *args, **options) for k, args, options in self.kinds]
        network = torch.nn.Sequential(*layers).to(device)
        batch, *channels, _ = self.shape
        rows = warm((batch, steps, math.prod(channels)), device).gt(1).float()
        x = from_rows(rows, torch.Size(channels))
        work = batch * self.neurons * steps
        oracle = _with_reference if reference else nullcontext

        def forward() -> Tensor:
            with oracle():
                return network(x)

        forward()  # layers learn their shapes
        if not training:
            return Workload(torch.no_grad()(forward), work)
        parameters = list(network.parameters())
        wanted = [p for p in parameters if p.requires_grad]
        capturable = device.type == "cuda"  # a graph can hold the step
        optimiser = (
            torch.optim.Adam(wanted, lr=1e-3, capturable=capturable) if self.optimiser else None
        )

        def train() -> None:
            loss = (forward().mean(-1) - 0.1).square().sum()
            gradients = torch.autograd.grad(loss, wanted)
            if optimiser is not None:
                for parameter, gradient in zip(wanted, gradients, strict=True):
                    parameter.grad = gradient
                optimiser.step()

        return Workload(train, work)


@contextmanager
def _with_reference() -> Iterator[None]:
    """Let the layers of CUBA neurons run the loops in torch."""
    reference = "lapilli.kernels.reference"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lapilli.neurons.cuba.kernel", importlib.import_module(f"{reference}.cuba"))
        oracle = importlib.import_module(f"{reference}.recurrent").recurrent
        patch.setattr("lapilli.neurons.fixed_point.recurrent", oracle)
        yield


BLOCKS = [
    Block("Dense", (("Dense", (200, 512), {}),), (32, 200, 300), 512),
    Block(
        "MLP", tuple(("Dense", s, {}) for s in ((2312, 512), (512, 512), (512, 10))),
        (8, 2312, 300), 512 + 512 + 10, optimiser=True,
    ),
    Block("Conv", (("Conv", (16, 32, 3), {"padding": 1}),), (4, 16, 32, 32, 50), 32 * 32 * 32),
    Block("Recurrent", (("Recurrent", (128, 256), {}),), (16, 128, 200), 256),
]  # fmt: skip


def cases() -> list[Case]:
    """List all cases."""
    return [
        Case(
            item.name, label, mode, math.prod(shape[:-1]), shape[-1],
            functools.partial(item.build, shape, mode == "training"), item.loops,
        )
        for mode in MODES
        for item in RECURRENCES
        for label, shape in SHAPES.items()
    ] + [
        Case(
            item.name, "block", mode, item.shape[0] * item.neurons, item.shape[-1],
            functools.partial(item.build, item.shape, mode == "training"),
        )
        for mode in MODES
        for item in BLOCKS
        if mode == "training" or not item.optimiser
    ]  # fmt: skip
