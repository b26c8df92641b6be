"""Recurrent layers on a GPU: in which form, and the launches. The kernels: recurrent_kernels.py.

R stays on the chip where it fits, and one launch goes through all steps (RESIDENT). Larger layers
take a launch a step, which multiplies as well, with the neurons split over programs (SPLIT). Where
the product is not exact in a tensor core, each step is a matrix product and a launch (OUTSIDE).
Nothing waits for the device, so a CUDA graph can hold the loop.

Quantised weights are integers of 8 bits and spikes are 0 or 1, so that the forward product is exact
in int8. On the way back R is exact in bfloat16 and a gradient is the sum of three.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lapilli.kernels.executors.dispatch import launch
from lapilli.kernels.executors.precision import true_float32
from lapilli.kernels.numbers.fixed_point import PLAIN
from lapilli.kernels.numbers.language import BACKEND, tl
from torch import Tensor

from .recurrent_kernels import _recurrent_bwd_kernel, _recurrent_fwd_kernel
from .recurrent_tiles import OUTSIDE, RESIDENT, SPLIT, WIDTH

SAMPLES = 16  # of a program: the least that a tensor core multiplies
LARGEST = 1 << 15  # neurons of a layer that is SPLIT: offsets in R are int32

# neurons of a program, inputs of a block of R, blocks that are on their way, threads
_SPLIT = {torch.int8: (64, 128, 4, 256), torch.bfloat16: (64, 64, 4, 256)}
_BLOCK_K = 32  # inputs of R that the other forms read at once

# neurons (twice as many where two parts have feedback) whose R stays on the chip
_RESIDENT = {torch.int8: 256, torch.bfloat16: 128, torch.float32: 64}
_ROOM = 147456  # bytes of shared memory that hold R of 256 neurons in bfloat16, as an H100 has
_TYPES = {torch.int8: "int8", torch.bfloat16: "bfloat16", torch.float32: "float32"}


# The launches


def _form(
    neurons: int, parts: int, operand: torch.dtype, device: torch.device
) -> tl.constexpr:  # fmt: skip
    """Choose where the feedback of so many parts is."""
    roomy = operand == torch.bfloat16 and _shared_memory(device) >= _ROOM
    if neurons * parts <= (256 if roomy else _RESIDENT[operand]):
        return RESIDENT
    return SPLIT if operand != torch.float32 and neurons <= LARGEST else OUTSIDE


@functools.cache
def _shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a program can have, where it matters."""
    if device.type != "cuda" or torch.version.hip:
        return 0
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


def _operand(
    exact: torch.dtype, quantum: float, device: torch.device, graded: bool = False
) -> torch.dtype:
    """Return the type that the product is exact in; the interpreter multiplies float32 only."""
    narrow = BACKEND != "interpret" and _multiplies_narrow(device)
    return exact if quantum and not graded and narrow else torch.float32


@functools.cache
def _multiplies_narrow(device: torch.device) -> bool:
    """Whether Triton compiles products of int8 and bfloat16 for a device, as from sm_80 on."""
    if device.type != "cuda" or torch.version.hip:
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _block(neurons: int) -> int:
    """Return how many neurons a program computes: a power of two that blocks of R divide."""
    return max(_BLOCK_K, 1 << (neurons - 1).bit_length())


def _whole(size: int, multiple: int) -> int:
    """Return the least multiple that is not below a size."""
    return -(-size // multiple) * multiple


def _filled(
    r: Tensor | None, quantum: float, operand: torch.dtype, form: tl.constexpr
) -> Tensor | None:  # fmt: skip
    """Return R as multiples of ``quantum``, filled up with zeros, in the type of the product."""
    if r is None:
        return None
    missing = (_whole(len(r), WIDTH.value) if form is SPLIT else _block(len(r))) - len(r)
    r = torch.nn.functional.pad(r if quantum == 1 else (r / quantum).round(), (0, missing) * 2)
    return r.to(operand)


def _launcher(
    kernel: Any, sizes: tuple[int, int, int], flags: tuple[Any, ...], form: tl.constexpr,
    operand: torch.dtype,
) -> Callable[..., None]:  # fmt: skip
    """Return what launches a kernel on blocks that fit ``N, T, C``, its last arguments."""
    N, T, C = sizes
    if SAMPLES * T * C >= 2**31:
        raise ValueError(
            f"T x neurons is {T} x {C}: {SAMPLES} samples must have fewer than 2**31 neuron-steps. "
            "Run the sequence in chunks with persistent_state=True."
        )
    block_k = _BLOCK_K
    if form is SPLIT:
        # the interpreter, which multiplies float32, takes it for float32 as well
        block, block_k, stages, threads = _SPLIT.get(operand, _SPLIT[torch.int8])
    else:
        block = 128 if form is OUTSIDE else _block(C)
        # inputs of the next steps are on their way, where R leaves room; None: as the compiler will
        stages = 3 if block <= 128 and not flags[0] else None
        threads = 512 if block > 128 else 256
        if form is RESIDENT and block > 128 and operand == torch.bfloat16:
            stages, threads = 1, 256  # no room, and a product in three parts wants registers
    constants = (*flags, form.value, _TYPES[operand], SAMPLES, block, block_k, stages)
    grid = _whole(N, SAMPLES) // SAMPLES, _whole(C, block) // block
    return lambda *args: launch(kernel, grid, (*args, N, T, C), constants, threads)


def forward(
    z: tuple[Tensor, Tensor | None], feedback: tuple[Tensor | None, ...],
    rows: tuple[Tensor | None, ...], decays: tuple[Tensor | None, ...],
    state: list[Tensor | None], last: list[Tensor | None],
    count: Tensor | None, numbers: tuple[Any, ...], flags: tuple[Any, ...], quantum: float,
    has_spikes: bool,
) -> None:  # fmt: skip
    """Run the forward pass of ``lapilli.kernels.recurrences.recurrent``.

    ``has_spikes`` says that there are spikes before the first step.
    """
    N, T, C = z[0].shape
    operand = _operand(torch.int8, quantum, z[0].device, graded=flags[3])
    form = _form(C, sum(r is not None for r in feedback), operand, z[0].device)
    if form is OUTSIDE:
        with true_float32(z[0].device, "matmul"):
            _forward_outside(z, feedback, rows, decays, state, last, count, numbers, flags)
        return
    if operand == torch.int8:  # has no NaN and no infinity: their neurons are NaN from the start
        spoilt = [(r - r).sum(1) for r in feedback if r is not None]
        first, *others = state
        assert first is not None
        state = [first + sum(spoilt), *others]
    quantum = quantum if operand == torch.int8 else 1.0
    codes = [_filled(r, quantum, operand, form) for r in feedback]
    if form is SPLIT:
        sent = _places((2,), z[0], operand)
        if has_spikes:
            spikes = state[-1]
            assert spikes is not None
            if operand == torch.int8:
                spikes = torch.where(spikes - spikes == 0, spikes, -1.0)  # as kernels send NaN
            sent[0, :N, :C] = spikes
        run = _launcher(_recurrent_fwd_kernel, (N, T, C), (*flags, flags[-1]), form, operand)
        for t, first, then in _states_of_steps(state, last, T):
            run(*z, *codes, *rows, *decays, *first, *then, count, *numbers, None, sent, quantum, t)
        return
    marks = z[0].new_empty(-(-N // SAMPLES), dtype=torch.int32)
    outs = (*rows, *decays, *state, *last, count)
    # two launches: in one, the careful walk would take registers from the other; it is over at once
    # where it is not wanted
    for rule in (PLAIN.value, flags[-1]):
        run = _launcher(_recurrent_fwd_kernel, (N, T, C), (*flags, rule), form, operand)
        run(*z, *codes, *outs, *numbers, marks, None, quantum, None)


def _places(kinds: tuple[int, ...], rows: Tensor, operand: torch.dtype) -> Tensor:
    """Return zeros where programs send each other a step of ``rows``, filled up."""
    N, _, C = rows.shape
    return rows.new_zeros(*kinds, _whole(N, SAMPLES), _whole(C, WIDTH.value), dtype=operand)


def _states_of_steps(
    state: list[Tensor | None], last: list[Tensor | None], steps: int
) -> Iterator[tuple[int, list[Tensor | None], list[Tensor | None]]]:
    """Give each step, and the states and spikes before and after: integers between two launches."""
    *states, spikes = state
    between = [None if y is None else torch.empty_like(y, dtype=torch.int32) for y in states]
    for t in range(steps):
        first = state if t == 0 else [*between, spikes]
        then = last if t == steps - 1 else [*between, None]
        yield t, first, then


def _forward_outside(z, feedback, rows, decays, state, last, count, numbers, flags):
    """Run one product and one launch a step, with integer states from one launch to the next."""
    N, T, C = z[0].shape
    run = _launcher(_recurrent_fwd_kernel, (N, T, C), (*flags, flags[-1]), OUTSIDE, torch.float32)
    x = [part if r is None else torch.empty_like(part) for part, r in zip(z, feedback, strict=True)]
    before = state[-1]
    for t, first, then in _states_of_steps(state, last, T):
        for part, r, total in zip(z, feedback, x, strict=True):
            if r is not None:
                torch.addmm(part[:, t], before, r.t(), out=total[:, t])
        then = [*then[:-1], last[-1]]  # the spikes of this step
        run(*x, None, None, *rows, *decays, *first, *then, count, *numbers, None, None, 1.0, t)
        before = last[-1]


def backward(
    g: Tensor, feedback: list[Tensor | None], slope: list[Tensor], series: list[Tensor],
    decays: list[Tensor], gx: list[Tensor], partials: list[Tensor], room: Tensor | None,
    phase: bool, shift: bool, full: bool, quantum: float,
) -> bool:  # fmt: skip
    """Run the backward pass, unless each step needs a product outside; say if it ran."""
    N, T, C = g.shape
    turns = len(gx) == 2
    if turns and not phase and not full:  # the real part gets no gradient to send back
        feedback = [None, feedback[1]]
    operand = _operand(torch.bfloat16, quantum, g.device)
    form = _form(C, sum(r is not None for r in feedback), operand, g.device)
    if form is OUTSIDE:
        return False
    square = [_filled(r, 1.0, operand, form) for r in feedback]
    none = (None, None)
    carry, sent = none, None
    if form is SPLIT:
        sent = _places((len(square), 2, 3), g, operand)
        if full:
            carry = g.new_empty(N, C), g.new_empty(N, C)
    run = _launcher(_recurrent_bwd_kernel, (N, T, C), (turns, phase, full), form, operand)
    for step in range(T) if form is SPLIT else (None,):
        run(
            g, *(square if turns else (*square, None)), *(slope if phase else (None, *slope)),
            *(series or none), *decays, *(gx if turns else (*gx, None)), *(partials or none),
            *carry, sent, room, C // decays[0].numel(), int(shift), step,
        )  # fmt: skip
    return True
