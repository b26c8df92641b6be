"""Recurrent layers on a GPU: in which form, and the launches. The kernels: recurrent_kernels.py.

R stays on the chip where it fits (RESIDENT); up to 512 neurons it streams through in blocks of
inputs (STREAMED). Beyond, or where the product is not exact in a tensor core, each step is a matrix
product and a launch (OUTSIDE); nothing waits for the device, so a CUDA graph can hold the loop.

Quantised weights are integers of 8 bits and spikes are 0 or 1, so that the forward product is exact
in int8. On the way back R is exact in bfloat16 and a gradient is the sum of three.
"""

import functools
from typing import Any

import torch
from lapilli.kernels.executors.dispatch import launch
from lapilli.kernels.numbers.fixed_point import PLAIN
from lapilli.kernels.numbers.language import BACKEND, tl
from torch import Tensor

from .recurrent_kernels import _recurrent_bwd_kernel, _recurrent_fwd_kernel
from .recurrent_tiles import OUTSIDE, RESIDENT, STREAMED

SAMPLES = 16  # of a program: the least that a tensor core multiplies
BLOCK_K = 32  # inputs of a block of R that streams
LARGEST = 512  # neurons of a program

# neurons (twice as many where two parts have feedback) whose R stays on the chip
_RESIDENT = {torch.int8: 256, torch.bfloat16: 128, torch.float32: 64}
_ROOM = 147456  # bytes of shared memory that hold R of 256 neurons in bfloat16, as an H100 has
_TYPES = {torch.int8: "int8", torch.bfloat16: "bfloat16", torch.float32: "float32"}


# The launches


def _form(
    neurons: int, parts: int, operand: torch.dtype, largest: int, device: torch.device
) -> tl.constexpr:  # fmt: skip
    """Choose where the feedback of so many parts is."""
    roomy = operand == torch.bfloat16 and parts == 1 and _shared_memory(device) >= _ROOM
    if neurons * parts <= (256 if roomy else _RESIDENT[operand]):
        return RESIDENT
    return STREAMED if operand != torch.float32 and neurons <= largest else OUTSIDE


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
    return max(BLOCK_K, 1 << (neurons - 1).bit_length())


def _filled(r: Tensor | None, quantum: float, operand: torch.dtype) -> Tensor | None:
    """Return R as multiples of ``quantum``, filled up with zeros, in the type of the product."""
    if r is None:
        return None
    missing = _block(len(r)) - len(r)
    r = torch.nn.functional.pad(r if quantum == 1 else (r / quantum).round(), (0, missing) * 2)
    return r.to(operand)


def _launch(kernel: Any, args: Any, flags: Any, form: Any, operand: torch.dtype) -> None:
    """Launch a kernel on blocks that fit its sizes, ``N, T, C`` at the end of ``args``."""
    N, T, C = args[-3:]
    if SAMPLES * T * C >= 2**31:
        raise ValueError(
            f"T x neurons is {T} x {C}: {SAMPLES} samples must have fewer than 2**31 neuron-steps. "
            "Run the sequence in chunks with persistent_state=True."
        )
    block = 128 if form is OUTSIDE else _block(C)
    # inputs of the next steps are on their way, where R leaves room; None is the compiler's choice
    stages = 3 if block <= 128 and not flags[0] else None
    threads = 512 if block > 128 else 256
    if form is RESIDENT and block > 128 and operand == torch.bfloat16:
        stages, threads = 1, 256  # no room, and a product in three parts wants registers
    constants = (*flags, form.value, _TYPES[operand], SAMPLES, block, BLOCK_K, stages)
    launch(kernel, (-(-N // SAMPLES), -(-C // block)), args, constants, threads)


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
    largest = LARGEST // 2 if any(flags[:3]) else LARGEST  # four states leave too few registers
    form = _form(C, sum(r is not None for r in feedback), operand, largest, z[0].device)
    if form is OUTSIDE:
        _forward_outside(z, feedback, rows, decays, state, last, count, numbers, flags)
        return
    if form is STREAMED and has_spikes:  # the kernel reads back what it wrote, nothing earlier
        spikes, z_im = state[-1], z[1]
        assert spikes is not None
        z = (
            _with_first(z[0], spikes, feedback[0]),
            None if z_im is None else _with_first(z_im, spikes, feedback[1]),
        )
    if operand == torch.int8:  # has no NaN and no infinity: their neurons are NaN from the start
        spoilt = [(r - r).sum(1) for r in feedback if r is not None]
        first, *others = state
        assert first is not None
        state = [first + sum(spoilt), *others]
    quantum = quantum if operand == torch.int8 else 1.0
    codes = [_filled(r, quantum, operand) for r in feedback]
    marks = z[0].new_empty(-(-N // SAMPLES), dtype=torch.int32)
    outs = (*rows, *decays, *state, *last, count)
    args = (*z, *codes, *outs, *numbers, marks, quantum, T, N, T, C)
    # two launches: in one, the careful walk would take registers from the other; it is over at once
    # where it is not wanted
    for rule in (PLAIN.value, flags[-1]):
        _launch(_recurrent_fwd_kernel, args, (*flags, rule), form, operand)


def _with_first(z: Tensor, spikes: Tensor, r: Tensor | None) -> Tensor:
    """Add the feedback of earlier spikes, if there is any, to the first step of a copy of ``z``."""
    if r is None:
        return z
    z = z.clone()
    z[:, 0].addmm_(spikes, r.t())
    return z


def _forward_outside(z, feedback, rows, decays, state, last, count, numbers, flags):
    """Run one product and one launch a step, with integer states from one launch to the next."""
    N, T, C = z[0].shape
    spikes, *kept = rows
    per, lag, *others = numbers
    between = [None if y is None else torch.empty_like(y, dtype=torch.int32) for y in last[:-1]]
    fired = last[-1].copy_(state[-1])
    spikes[:, :lag] = 0
    x = [part if r is None else torch.empty_like(part) for part, r in zip(z, feedback, strict=True)]
    for t in range(T):
        for part, r, total in zip(z, feedback, x, strict=True):
            if r is not None:
                torch.addmm(part[:, t], fired, r.t(), out=total[:, t])
        out = spikes[:, t + lag] if t + lag < T else None
        before, after = ([None if row is None else row[:, t] for row in rows] for rows in (x, kept))
        first = between if t > 0 else state[:-1]
        then = between if t < T - 1 else last[:-1]
        _launch(
            _recurrent_fwd_kernel,
            (*before, None, None, out, *after, *decays, *first, fired, *then, fired, count, per,
             0, *others, None, 1.0, 1, N, T, C),
            (*flags, flags[-1]), OUTSIDE, torch.float32,
        )  # fmt: skip


def backward(
    g: Tensor, feedback: list[Tensor | None], slope: list[Tensor], series: list[Tensor],
    decays: list[Tensor], gx: list[Tensor], partials: list[Tensor], room: Tensor | None,
    phase: bool, shift: bool, full: bool, quantum: float,
) -> bool:  # fmt: skip
    """Run the backward pass, unless the layer is too large for one program; say if it ran."""
    N, T, C = g.shape
    turns = len(gx) == 2
    if turns and not phase and not full:  # the real part gets no gradient to send back
        feedback = [None, feedback[1]]
    operand = _operand(torch.bfloat16, quantum, g.device)
    form = _form(C, sum(r is not None for r in feedback), operand, LARGEST, g.device)
    if form is OUTSIDE:
        return False
    square = [_filled(r, 1.0, operand) for r in feedback]
    none = (None, None)
    _launch(
        _recurrent_bwd_kernel,
        (g, *(square if turns else (*square, None)), *(slope if phase else (None, *slope)),
         *(series or none), *decays, *(gx if turns else (*gx, None)), *(partials or none), room,
         C // decays[0].numel(), int(shift), N, T, C),
        (turns, phase, full), form, operand,
    )  # fmt: skip
    return True
