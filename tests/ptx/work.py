"""The calls that the executor runs: every recurrence and recurrent layer, in all its forms."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from lapilli.blocks import tensor_cores
from lapilli.blocks.convolution import convolve
from lapilli.kernels.executors import dispatch
from lapilli.kernels.proof.calls import Recurrence as Called
from lapilli.kernels.proof.catalogue import SHAPED
from lapilli.kernels.recurrences import decays
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.synapses.bfloat16 import terms
from lapilli.kernels.synapses.quantize import quantize_8bit
from problems import Problem, fixed_problem, shared_parameters
from recurrences import TABLE, Recurrence
from recurrent_layers import Layer
from tolerances import EXECUTED_GRADIENT, FUSED_GRADIENT
from torch import Tensor
from torch.testing import assert_close

from ptx.launcher import Emulation, emulated
from ptx.schedule import Schedule

Answer = tuple[list[Tensor], list[Tensor]]  # outputs, gradients

# What hardware may choose: approximate results lie above and below the nearest, within what PTX
# names for them.
SCHEDULES = (
    Schedule("together", "late"),
    Schedule("backward", "early", 2),
    Schedule("shuffled", "late", -2),
    Schedule("forward", "early"),
)

# (samples, neurons, steps): a program of 128 neurons is filled in part or twice; chunks of eight
# steps are none, one and six, with rests
SHAPES = (
    (1, 1, 1), (2, 3, 2), (3, 31, 7), (1, 127, 8), (2, 128, 9), (1, 129, 17), (1, 128, 48),
    (2, 31, 49), (3, 129, 2),
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """A call, which gives outputs and gradients."""

    name: str
    call: Callable[[], Answer]
    room: int | None = None  # bytes of shared memory, if not those of the architecture

    def __str__(self) -> str:
        return self.name

    def run(self, target: str, schedule: Schedule, **how: Any) -> tuple[Emulation, Answer]:
        """Run it on the executor."""
        with emulated(target, schedule, room=self.room, **how) as emulation:
            answer = self.call()
        assert emulation.launched
        return emulation, answer

    def check(self, target: str, schedule: Schedule, exact: bool = False, **how: Any) -> Emulation:
        """Compare with the CPU's loops: outputs bit for bit, gradients to the order of sums.

        ``exact``: gradients bit for bit as well.
        """
        emulation, (outputs, gradients) = self.run(target, schedule, **how)
        with _terms_of_sums() as added:
            want, want_gradients = self.call()
        for got, right in zip(outputs, want, strict=True):
            assert_close(got, right, rtol=0, atol=0)
        for got, right in zip(gradients, want_gradients, strict=True):
            share, largest = EXECUTED_GRADIENT, right.abs().max().item()
            if right.dim() <= 2:  # parameters' are sums over all neurons, which cancel
                share = FUSED_GRADIENT
                if schedule.steps:  # all terms are moved the same way
                    largest = max(largest, added.get(tuple(right.abs().flatten().tolist()), 0.0))
            atol = share * largest + 1e-30
            assert_close(got, right, rtol=0, atol=0 if exact else atol)
        return emulation


@contextlib.contextmanager
def _terms_of_sums() -> Iterator[dict[tuple[float, ...], float]]:
    """Record, for each gradient of a decay, what its terms would add up to without their signs."""
    terms: dict[tuple[float, ...], float] = {}
    reduce_to = decays.reduce_to

    def recorded(parameter: Tensor, partials: Tensor) -> Tensor:
        total = reduce_to(parameter, partials)
        size = reduce_to(parameter, partials.abs()).abs().max().item()
        terms[tuple(total.abs().flatten().tolist())] = size
        return total

    with mock.patch.object(decays, "reduce_to", recorded):
        yield terms


# Recurrences


def walk(recurrence: Recurrence, variant: str, shape: tuple[int, int, int] | None = None) -> Work:
    """Return a recurrence in one of its variants; without a shape, with a parameter a channel."""
    problem = fixed_problem(recurrence, **recurrence.variants()[variant])
    if shape is not None:
        batch, neurons, steps = shape
        problem = replace(shared_parameters(problem), batch=batch, shape=(neurons,), steps=steps)
    return Work(f"{recurrence}, {variant}, {shape}", lambda: _answer(problem))


def _answer(problem: Problem) -> Answer:
    outputs, after, gradients = problem.fast()
    return [*outputs, *after], [*gradients]


def walks() -> list[tuple[Recurrence, str]]:
    """Every recurrence in every variant."""
    return [(r, variant) for r in TABLE for variant in r.variants()]


MODES = ("inference", "training", "learned")


def listed(recurrence: Called, mode: str, shape: tuple[int, int, int]) -> Work:
    """Return a call of catalogue.py, which has one value of a parameter for all neurons."""

    def call() -> Answer:
        batch, neurons, steps = shape
        random = _seed()
        xs = [4 * torch.rand(batch, neurons, steps, generator=random) - 1.5
              for _ in range(recurrence.inputs)]  # fmt: skip
        parameters = recurrence.tensors()
        wanted = [*xs, *parameters][: None if mode == "learned" else len(xs)]
        for x in wanted if mode != "inference" else ():
            x.requires_grad_()
        x = xs[0] if len(xs) == 1 else tuple(xs)
        options = {"surrogate": mode} if mode not in MODES else {}
        y = recurrence.callable()(x, *parameters, *recurrence.numbers, **options)
        outputs = [y] if isinstance(y, Tensor) else [*y]
        if mode == "inference":
            return outputs, []
        return outputs, [*torch.autograd.grad(y, wanted, torch.randn(y.shape, generator=random))]

    return Work(f"{recurrence.name}, {mode}, {shape}", call)


def modes(recurrence: Called) -> tuple[str, ...]:
    """Return the uses that a recurrence has."""
    shaped = [SHAPED[recurrence.name]] if recurrence.name in SHAPED else []
    return *shaped, *MODES[: 1 + recurrence.trains + (recurrence.trains and recurrence.learns)]


# Recurrent layers


@dataclass(frozen=True)
class Feedback:
    """A recurrent layer in one use."""

    family: str
    neurons: int
    batch: int
    steps: int
    mode: str = "training"  # inference, training, learned
    coarse: float = 4.0  # largest weights
    options: tuple[tuple[str, Any], ...] = ()
    room: int | None = None

    def work(self) -> Work:
        """Return the call."""
        more = "".join(f", {k} {v}" for k, v in self.options)
        name = f"recurrent {self.family} {self.neurons} x {self.batch} x {self.steps}, {self.mode}"
        return Work(name + more + f", {self.room} bytes" * (self.room is not None), self._call,
                    self.room)  # fmt: skip

    def _call(self) -> Answer:
        options = dict(self.options)
        learned = self.mode == "learned"
        layer = Layer(
            self.family, self.neurons, self.batch, self.steps, learn=learned, coarse=self.coarse,
            **{"return_state": "state" in options, **options},
            gradient="full" if learned else "lava-dl",
        )  # fmt: skip
        with torch.set_grad_enabled(self.mode != "inference"):
            found = layer.call(recurrent)
        y, states, last = (found, (), None) if isinstance(found, Tensor) else found
        outputs = [y, *states, *([] if last is None else [last])]
        if self.mode == "inference":
            return outputs, []
        torch.manual_seed(1)
        return outputs, [*torch.autograd.grad(y, layer.learned, torch.randn(y.shape))]


def _layers(family: str, neurons: int, **more: Any) -> list[Feedback]:
    sizes: dict[str, Any] = {"batch": 3, "steps": 4} | more
    return [Feedback(family, neurons, mode=m, **sizes) for m in ("inference", "training")]


_STATE, _SHIFT = ("state", True), ("shift", True)
LAYERS = [
    # R on the chip, in the smallest block, in those of catalogue.py, and split over programs
    Feedback("cuba", 1, 1, 1),
    Feedback("cuba", 3, 2, 2, options=(_STATE,)),
    Feedback("cuba", 31, 3, 17, options=(_SHIFT,)),
    *_layers("cuba", 127),
    Feedback("cuba", 128, 17, 4, "learned", options=(_SHIFT,)),
    Feedback("cuba", 97, 2, 4, "learned", options=(_STATE,)),
    *_layers("cuba", 129, coarse=2.0),
    Feedback("cuba", 129, 2, 3, coarse=2.0, room=0),  # its backward is split over programs
    *(replace(f, batch=2, steps=3, coarse=1.0) for f in _layers("cuba", 257)),
    Feedback("cuba", 257, 2, 3, coarse=1.0, options=(_STATE, _SHIFT)),
    *(f for family in ("alif", "rf", "rf_iz", "adrf", "adrf_iz") for f in _layers(family, 97)),
    Feedback("alif", 128, 2, 3, "learned"),
    Feedback("rf", 31, 2, 7, "learned", options=(_STATE, _SHIFT)),
    Feedback("rf_iz", 129, 1, 2),
    *(replace(f, batch=1, steps=3, coarse=1.0) for f in _layers("adrf", 257)),
    Feedback("rf", 130, 17, 3, "learned", coarse=1.0, options=(_STATE, _SHIFT)),
    # products that are not exact in a tensor core: float32 on the chip, and a launch a step
    Feedback("cuba", 31, 2, 4, options=(("quantum", None),)),
    Feedback("cuba", 65, 2, 3, options=(("quantum", None), _STATE, _SHIFT)),
    Feedback("rf", 31, 2, 3, options=(("graded", True),)),
]


# Entries of matrices


def quantised(size: int) -> Work:
    """Return the quantisation of weights."""

    def call() -> Answer:
        x = torch.linspace(-5, 5, size).requires_grad_()
        y = quantize_8bit(x)
        return [y.detach()], [*torch.autograd.grad(y, x, torch.randn(size, generator=_seed()))]

    return Work(f"quantize, {size}", call)


def split(rows: int, columns: int) -> Work:
    """Return the split of float32 into three bfloat16."""
    return Work(
        f"terms, {rows} x {columns}",
        lambda: ([terms(torch.randn(rows, columns, generator=_seed()))], []),
    )


def convolved(shape: tuple[int, ...], outputs: int, **options: Any) -> Work:
    """Return a convolution of ``[N, C, H, W, T]`` with a kernel of 3 x 3.

    Numbers are whole, those of the frames with more bits than a bfloat16 has.
    """
    options = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1} | options

    def call() -> Answer:
        def whole(most: int, *size: int) -> Tensor:
            return torch.randint(-most, most, size, generator=random).float()

        random, groups = _seed(), options["groups"]
        ends = (outputs, shape[1] // groups)
        if "transposed" in options:
            ends = (shape[1], outputs // groups)
        n, c, h, w, t = shape
        x = whole(300, n, t, c, h, w).movedim(1, -1).requires_grad_()  # as blocks have it
        weight = whole(31, *ends, 3, 3).requires_grad_()
        with (
            mock.patch.object(tensor_cores, "convolutions_usable", _has_kernels),
            mock.patch.object(tensor_cores, "_LEAST_ROWS", 1),
        ):
            (y,) = convolve(x, weight, product="dense", step=1.0, **options)
            gradients = torch.autograd.grad(y, (x, weight), whole(300, *y.shape))
        return [y.detach()], [*gradients]

    more = "".join(f", {k} {v}" for k, v in options.items())
    return Work(f"convolution, {shape} to {outputs}{more}", call)


def _has_kernels(device: torch.device) -> bool:
    return dispatch.executor(device) == "triton"


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


CONVOLUTIONS = [
    # every use of the catalogue; entries out of order, strides, groups, a transpose
    convolved((1, 16, 7, 6, 2), 32, padding=(1, 1)),
    convolved((1, 5, 6, 7, 1), 9, stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    convolved((2, 10, 4, 4, 1), 34, groups=2, stride=(1, 2), transposed=True),
]
ENTRIES = [
    *(quantised(n) for n in (1, 127, 128, 129, 1000)),
    *(split(*size) for size in ((1, 2), (3, 31), (2, 600))),
]
