"""What is compiled ahead of time: every kernel, in the calls that layers make of it.

The calls of recurrences are those that their files declare (calls.py); of recurrent layers, those
listed here. Kernels that walk over time are in the form of many neurons, where no chunks wait in
shared memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from lapilli.kernels.executors.dispatch import FULL
from lapilli.kernels.executors.layout import from_rows
from lapilli.kernels.executors.rows import BLOCK, CHUNK
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.recurrences.recurrent_tiles import SPLIT
from lapilli.kernels.recurrences.recurrent_triton import SAMPLES
from lapilli.kernels.synapses.bfloat16 import terms
from lapilli.kernels.synapses.quantize import quantize_8bit
from lapilli.kernels.synapses.tiled_convolution import convolve, gradient_of_weight
from torch import Tensor

from .aot import (
    Launch,
    convolution_launches,
    launches,
    recurrent_launches,
    signature,
    terms_launches,
)
from .calls import RECURRENCES, Recurrence

STEPS = 300  # of the sequences that are recorded
NEURONS = 512  # of a sample
BATCH = 2


@dataclass(frozen=True)
class Layer:
    """A recurrent layer whose feedback is multiplied inside the kernel."""

    name: str
    neurons: int
    phase: bool = False
    learns: bool = False  # whether the use with learned decays is listed

    @property
    def recurrence(self) -> Recurrence:
        """Return that of its neuron."""
        return RECURRENCES[self.name.partition(" ")[0]]

    def call(self, train: bool, learn: bool = False) -> None:
        """Run it forward and, for training, backward."""
        z = [
            _series(BATCH * SAMPLES, self.neurons).requires_grad_(train)
            for _ in range(self.recurrence.inputs)
        ]
        weight = torch.zeros(self.neurons, self.neurons)
        y = recurrent(
            z[0] if len(z) == 1 else (z[0], z[1]),
            weight if len(z) == 1 else (weight, weight),
            tuple(decay.requires_grad_(learn) for decay in self.recurrence.tensors()),
            1.0, 4096,
            phase=self.phase, threshold_step=0.125, quantum=1 / 32, shift=True,
            gradient="full" if learn else "lava-dl",
        )  # fmt: skip
        if train:
            torch.autograd.grad(y, z, y.detach())


# the forms of the feedback (recurrent_triton.py) for CUBA; the other neurons in that of 128
LAYERS = [
    Layer("cuba 128", 128, learns=True),
    Layer("cuba 256", 256),
    Layer("cuba 512", 512),
    Layer("alif 128", 128),
    Layer("rf 128", 128, phase=True),
    Layer("rf_iz 128", 128),
    Layer("adrf 128", 128, phase=True),
    Layer("adrf_iz 128", 128),
    Layer("adrf 512", 512, phase=True),
]


# recurrences whose backward kernel is listed with another surrogate: by threshold and by phase
SHAPED = {"cuba": "fast_sigmoid", "rf": "fast_sigmoid"}


@dataclass(frozen=True)
class Entry:
    """A kernel in one use: what is compiled, and how much work a launch of it is."""

    name: str
    mode: str  # inference, training, backward; with learned parameters, another surrogate
    launch: Launch
    neurons: int  # of a sample
    steps: int  # of the sequence
    lanes: int  # neurons of a program, all samples together
    chunk: float  # steps that a pass of the main loop advances
    bytes: float  # of the launch's tensors, a neuron-step
    products: int = 0  # multiply-adds of matrix units, of a program in a pass
    is_step: bool = False  # whether a launch is one step: a pass is all of it

    def __str__(self) -> str:
        return f"{self.name}, {self.mode}"


def entries(*wanted: str) -> Iterator[Entry]:
    """Record every use of the kernels that are wanted, out of ``names()``; nothing is run."""
    for recurrence in RECURRENCES.values():
        if recurrence.name in wanted:
            yield from _uses(recurrence)
    if "quantize" in wanted:
        yield from _quantize()
    if "terms" in wanted:
        yield _terms()
    if "convolution" in wanted:
        yield from _convolution()
    if "recurrent" in wanted:
        for layer in LAYERS:
            yield from _layer_uses(layer)


def names() -> list[str]:
    """Names that ``entries`` takes."""
    return [*RECURRENCES, "quantize", "terms", "convolution", "recurrent"]


def _series(batch: int, neurons: int) -> Tensor:
    return from_rows(torch.empty(batch, STEPS, neurons), torch.Size([neurons]))


def _distinct(found: list[tuple[str, Launch]]) -> list[tuple[str, Launch]]:
    """Keep the first of launches that compile to the same."""
    kept: dict[Any, tuple[str, Launch]] = {}
    for mode, launch in found:
        types, constants = signature(launch, "sm_90")
        key = launch.kernel.__name__, tuple(types.items()), tuple(constants.items())
        kept.setdefault(key, (mode, launch))
    return list(kept.values())


def _modes(call: Callable[[bool, bool], None], record: Any, train: bool, learn: bool) -> Any:
    """Record inference, training, and training with learned parameters.

    A second launch of a forward pass, which follows the rule of fixed_point.py, is over at once.
    """
    forward, *_ = record(lambda: call(False, False))
    found = [("inference", forward)]
    for learning in (False, True)[: train + (train and learn)]:
        suffix = ", learned" * learning
        forward, *_, backward = record(lambda learning=learning: call(True, learning))
        found += [(f"training{suffix}", forward), (f"backward{suffix}", backward)]
    return _distinct(found)


def _uses(recurrence: Recurrence) -> Iterator[Entry]:
    function = recurrence.callable()  # imported before it is recorded

    def call(train: bool, learn: bool, **options: str) -> None:
        xs = [_series(BATCH, NEURONS).requires_grad_(train) for _ in range(recurrence.inputs)]
        parameters = [p.requires_grad_(learn) for p in recurrence.tensors()]
        x = xs[0] if recurrence.inputs == 1 else tuple(xs)
        y = function(x, *parameters, *recurrence.numbers, **options)
        if train:
            torch.autograd.grad(y, [*xs, *(p for p in parameters if learn)], y.detach())

    def record(call: Callable[[], Any]) -> list[Launch]:
        return [replace(launch, lanes=FULL) for launch in launches(call)]

    found = _modes(call, record, recurrence.trains, recurrence.learns)
    if recurrence.name in SHAPED:
        shape = SHAPED[recurrence.name]
        _, backward = record(lambda: call(True, False, surrogate=shape))
        found.append((f"backward, {shape}", backward))
    for mode, launch in found:
        moved = _bytes(launch, BATCH) / (BATCH * NEURONS * STEPS)
        yield Entry(recurrence.name, mode, launch, NEURONS, STEPS, BLOCK, CHUNK, moved)


def _quantize() -> Iterator[Entry]:
    """Weights; one counts as a neuron-step, and there is no loop over time."""
    weight = torch.empty(NEURONS, requires_grad=True)

    def call() -> None:
        quantize_8bit(weight).sum().backward()

    for mode, launch in zip(("inference", "backward"), launches(call), strict=True):
        yield Entry(
            "quantize", mode, launch, NEURONS, 1, BLOCK, 1, _bytes(launch, NEURONS) / NEURONS
        )


def _terms() -> Entry:
    """Entries of a matrix; one counts as a neuron-step."""
    x = torch.empty(BATCH, NEURONS)
    (launch,) = terms_launches(lambda: terms(x))
    each = launch.constants[-1]
    return Entry(
        "terms", "inference", launch, NEURONS, 1, each, 1, _bytes(launch, BATCH) / x.numel()
    )


def _convolution() -> Iterator[Entry]:
    """3 x 3 from 16 to 32 channels; an output counts as a neuron, and a frame as a sample.

    Of the gradient of the weight, each tile of columns reads them all. The main loop goes through
    the products of an output, or through positions; of an input that one bfloat16 does not hold.
    """
    x, y = torch.empty(BATCH, 16, 32, 32), torch.empty(BATCH, 32, 32, 32)
    w = torch.empty(32, 16, 3, 3)
    options = (1, 1), (1, 1), (1, 1), 1

    def call() -> None:
        convolve(x, w, (32, 32), *options, False, True)
        convolve(y, w, (32, 32), *options, True, False)
        gradient_of_weight(y, x, (3, 3), *options, False)

    forward, back, weight = convolution_launches(call)
    for mode, launch, made, inner in (("inference", forward, y, 16), ("backward", back, x, 32)):
        block, each, positions = launch.constants[-3:]
        yield Entry(
            "convolution", mode, launch, made[0].numel(), 1, block * positions,
            1 / (-(-inner // each) * 9), _bytes(launch, BATCH) / made.numel(),
            3 * block * each * positions,
        )  # fmt: skip
    block, columns, positions = weight.constants[-3:]
    tiles = -(-16 * 9 // columns)
    yield Entry(
        "convolution", "backward, weight", weight, tiles * y[0].numel(), 1, block * positions, 1,
        _bytes(weight, BATCH) / (tiles * y.numel()), 6 * block * columns * positions,
    )  # fmt: skip


def _layer_uses(layer: Layer) -> Iterator[Entry]:
    """Of a layer that is split over programs, a launch is one step: the second is listed."""
    batch = BATCH * SAMPLES

    def record(call: Callable[[], Any]) -> list[Launch]:
        return [x for x in recurrent_launches(call) if _argument(x, "start") in (None, 1)]

    for mode, launch in _modes(layer.call, record, True, layer.learns):
        *_, form, operand, samples, block, inner, _ = launch.constants
        types, _ = signature(launch, "sm_90")
        parts = len({"r_ptr", "r_im_ptr"} & types.keys())
        multiplied = parts * (3 if operand == "bfloat16" else 1) * samples * block
        if form == SPLIT.value:
            steps, lanes = 1, samples * block
            multiplied *= -(-layer.neurons // inner) * inner
        else:
            steps, lanes = STEPS, samples * layer.neurons
            multiplied *= block
        yield Entry(
            f"recurrent {layer.name}", mode, launch, layer.neurons, steps, lanes, chunk=1,
            bytes=_bytes(launch, batch, steps) / (batch * layer.neurons * steps),
            products=multiplied, is_step=form == SPLIT.value,
        )  # fmt: skip


def _argument(launch: Launch, name: str) -> Any:
    return dict(zip(launch.kernel.arg_names, launch.args, strict=False))[name]


def _bytes(launch: Launch, batch: int, steps: int | None = None) -> int:
    """Bytes of the tensors of a launch that grow with the batch, each once: of so many steps."""
    tensors = [a for a in launch.args if isinstance(a, Tensor) and a.shape[0] == batch]
    parts = [a[:, :steps] if a.dim() == 3 else a for a in tensors]
    return sum(a.numel() * a.element_size() for a in parts)
