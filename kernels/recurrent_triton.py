"""Recurrent layers on a GPU. Equations and step functions: recurrent_steps.py.

A program owns 16 samples and all neurons of a layer, and walks over time with the feedback product
inside its loop, so nothing crosses programs. R stays on the chip where it fits (RESIDENT); up to
512 neurons it streams through in blocks of inputs (STREAMED). Beyond, or where the product is not
exact in a tensor core, each step is a matrix product and a launch (OUTSIDE); nothing waits for the
device, so a CUDA graph can hold the loop.

Quantised weights are integers of 8 bits and spikes are 0 or 1, so that the forward product is exact
in int8. On the way back R is exact in bfloat16 and a gradient is the sum of three.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from .cuba import cuba_step_dynamics_bwd
from .dispatch import launch
from .fixed_point import PLAIN, fraction_of, keep_of, multiplier_of, to_fixed, to_float
from .language import BACKEND, jit, tl
from .recurrent_steps import advance, limited, slopes
from .resonator_steps import rotate_bwd

SAMPLES = 16  # of a program: the least that a tensor core multiplies
BLOCK_K = 32  # inputs of a block of R that streams
LARGEST = 512  # neurons of a program

OUTSIDE, RESIDENT, STREAMED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)

# neurons (twice as many where two parts have feedback) whose R stays on the chip
_RESIDENT = {torch.int8: 256, torch.bfloat16: 128, torch.float32: 64}
_ROOM = 147456  # bytes of shared memory that hold R of 256 neurons in bfloat16, as an H100 has
_TYPES = {torch.int8: "int8", torch.bfloat16: "bfloat16", torch.float32: "float32"}


@jit
def _store(ptr, offset, value, live):
    """Store a tile, where the tensor is wanted."""
    if ptr is not None:
        tl.store(ptr + offset, value, mask=live)


@jit
def _square(r_ptr, BLOCK_N: tl.constexpr):
    """Load R ``[to, from]``, which is filled up with zeros."""
    n = tl.arange(0, BLOCK_N)
    return tl.load(r_ptr + n[:, None] * BLOCK_N + n[None, :])


@jit
def _streamed(
    total, from_ptr, rows, here, r_ptr, C,
    DOT: tl.constexpr, TRANSPOSED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Add s R, or s R^T with ``TRANSPOSED``, block by block; s are rows in memory."""
    n = tl.arange(0, BLOCK_N)
    for k0 in range(0, C, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        s = tl.load(from_ptr + rows + k[None, :], mask=here & (k < C)[None, :], other=0.0)
        if TRANSPOSED:  # contiguous in k, then turned: int8 would be read byte by byte
            r = tl.trans(tl.load(r_ptr + n[:, None] * BLOCK_N + k[None, :]))
        else:
            r = tl.load(r_ptr + k[:, None] * BLOCK_N + n[None, :])
        total = _product(_operand_of(s, DOT), r, total, DOT)
    return total


@jit
def _operand_of(x, DOT: tl.constexpr):
    """Convert a float32 tile to what ``_product`` multiplies; bfloat16 splits it there."""
    if DOT == "int8":
        return x.to(tl.int8)
    else:
        return x


@jit
def _product(a, b, total, DOT: tl.constexpr):
    """Add ``a b`` to a tile, exact in the type ``DOT`` of ``b``; int8 adds up in int32."""
    if DOT == "bfloat16":  # a float32 is the sum of three
        for _ in tl.static_range(3):
            part = a.to(tl.bfloat16)
            total = tl.dot(part, b, total)
            a -= part.to(tl.float32)
        return total
    elif DOT == "int8":
        return tl.dot(a, b, total, out_dtype=tl.int32)
    else:
        return tl.dot(a, b, total, input_precision="ieee")


@jit
def _nothing(BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DOT: tl.constexpr):
    """Tile of zeros that products of the type ``DOT`` add to."""
    if DOT == "int8":
        return tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
    else:
        return tl.zeros([BLOCK_M, BLOCK_N], tl.float32)


@jit
def _recurrent_fwd_kernel(
    z_ptr, z_im_ptr,  # [N, T, C] float32; the second for resonators
    r_ptr, r_im_ptr,  # [BLOCK_N, BLOCK_N] of type DOT: R as multiples of quantum, or None
    spike_ptr,  # [N, T, C] float32, out, or None
    slope_re_ptr, slope_ptr,  # [N, T, C] float32, out, or None: surrogate gradients
    series_a_ptr, series_b_ptr,  # [N, T, C] float32, out, or None: states before the spike
    decay_a_ptr, decay_b_ptr, decay_c_ptr, decay_d_ptr,  # [1] or [channels] float32, 0..4096
    a0_ptr, b0_ptr, c0_ptr, d0_ptr, s0_ptr,  # [N, C] float32: before the first step
    a1_ptr, b1_ptr, c1_ptr, d1_ptr, s1_ptr,  # [N, C] float32, out: after the last step
    per, lag, bias, bias_im, scale, unit, theta, step, offset, height, excess, rate,
    quantum, steps, N, T, C,
    COMPLEX: tl.constexpr, PHASE: tl.constexpr, ADAPT: tl.constexpr,
    GRADED: tl.constexpr, EXACT: tl.constexpr, SHAPE: tl.constexpr,
    FORM: tl.constexpr, DOT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    m = tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    first = tl.program_id(0) * BLOCK_M
    here = (first + m < N)[:, None]
    live = here & (n < C)[None, :]
    base = first.to(tl.int64) * T * C  # scalar; lanes carry an int32 offset
    at = m[:, None] * (T * C) + n[None, :]
    j = (first + m)[:, None] * C + n[None, :]
    decay_at = (n // per)[None, :]
    some = (n < C)[None, :]
    k_a = tl.load(decay_a_ptr + decay_at, mask=some, other=0.0)
    k_b = tl.load(decay_b_ptr + decay_at, mask=some, other=0.0)
    if COMPLEX:
        k_a, k_b = multiplier_of(k_a), multiplier_of(k_b)
    else:
        k_a, k_b = keep_of(k_a), keep_of(k_b)
    k_c, k_d = k_a, k_a
    if ADAPT:
        k_c = keep_of(tl.load(decay_c_ptr + decay_at, mask=some, other=0.0))
        k_d = keep_of(tl.load(decay_d_ptr + decay_at, mask=some, other=0.0))
    a = to_fixed(tl.load(a0_ptr + j, mask=live, other=0.0), scale)
    b = to_fixed(tl.load(b0_ptr + j, mask=live, other=0.0), scale)
    c, d = a, a
    if ADAPT:
        c = to_fixed(tl.load(c0_ptr + j, mask=live, other=0.0), scale)
        d = to_fixed(tl.load(d0_ptr + j, mask=live, other=0.0), scale)
    last = _operand_of(tl.load(s0_ptr + j, mask=live, other=0.0), DOT)
    if FORM == RESIDENT:
        # contiguous in the input, then turned: int8 would be read byte by byte
        if r_ptr is not None:
            r = tl.trans(_square(r_ptr, BLOCK_N))
        if r_im_ptr is not None:
            r_im = tl.trans(_square(r_im_ptr, BLOCK_N))
    if lag > 0:
        _store(spike_ptr, base + at, last.to(tl.float32) * 0.0, live)
    for t in tl.range(steps, num_stages=STAGES):
        row = at + t * C
        x = tl.load(z_ptr + base + row, mask=live, other=0.0)
        x_im = x
        if COMPLEX:
            x_im = tl.load(z_im_ptr + base + row, mask=live, other=0.0)
        if FORM == STREAMED:
            tl.debug_barrier()  # the spikes of this program's last step are read again
            rows = m[:, None] * (T * C) + (t - 1 + lag) * C
            before = here & (m[:, None] * 0 + t > 0)
        if FORM != OUTSIDE:
            if r_ptr is not None:
                fed = _nothing(BLOCK_M, BLOCK_N, DOT)
                if FORM == RESIDENT:
                    fed = _product(last, r, fed, DOT)
                else:
                    fed = _streamed(
                        fed, spike_ptr + base, rows, before, r_ptr, C, DOT, True, BLOCK_N, BLOCK_K
                    )
                x += fed.to(tl.float32) * quantum
            if r_im_ptr is not None:
                fed = _nothing(BLOCK_M, BLOCK_N, DOT)
                if FORM == RESIDENT:
                    fed = _product(last, r_im, fed, DOT)
                else:
                    fed = _streamed(
                        fed, spike_ptr + base, rows, before, r_im_ptr, C, DOT, True,
                        BLOCK_N, BLOCK_K)  # fmt: skip
                x_im += fed.to(tl.float32) * quantum
        a, b, c_next, d_next, before_a, before_b, tested, above, s = advance(
            a, b, c, d, to_fixed(x + bias, scale), to_fixed(x_im + bias_im, scale),
            k_a, k_b, k_c, k_d, theta, step, scale, COMPLEX, PHASE, ADAPT, EXACT,
            PLAIN)  # fmt: skip
        if ADAPT:
            c, d = c_next, d_next
        s_out = s.to(tl.float32)
        if GRADED:
            s_out = s_out * to_float(tested, scale, EXACT)
        last = _operand_of(s_out, DOT)
        _store(spike_ptr, base + (row + lag * C), s_out, live & (m[:, None] * 0 + t + lag < T))
        if slope_ptr is not None:
            f_re, f = slopes(
                above.to(tl.float32) * unit + offset, before_b.to(tl.float32) * unit,
                height, excess, rate, PHASE, GRADED, SHAPE)  # fmt: skip
            _store(slope_ptr, base + row, f, live)
            if PHASE:
                _store(slope_re_ptr, base + row, f_re, live)
        _store(series_a_ptr, base + row, to_float(before_a, scale, EXACT), live)
        _store(series_b_ptr, base + row, to_float(before_b, scale, EXACT), live)
    _store(a1_ptr, j, to_float(a, scale, EXACT), live)
    _store(b1_ptr, j, to_float(b, scale, EXACT), live)
    if ADAPT:
        _store(c1_ptr, j, to_float(c, scale, EXACT), live)
        _store(d1_ptr, j, to_float(d, scale, EXACT), live)
    _store(s1_ptr, j, last.to(tl.float32), live)


@jit
def _recurrent_bwd_kernel(
    g_ptr,  # [N, T, C] float32: gradient of the spikes, ``lag`` rows late
    r_ptr, r_im_ptr,  # [BLOCK_N, BLOCK_N] of type DOT: R, or None
    slope_re_ptr, slope_ptr,  # [N, T, C] float32
    series_a_ptr, series_b_ptr,  # [N, T, C] float32, or None where the decays are not learned
    decay_a_ptr, decay_b_ptr,  # [1] or [channels] float32
    gx_ptr, gx_im_ptr,  # [N, T, C] float32, out; the second for resonators
    partial_a_ptr, partial_b_ptr,  # [N, C] float32, out, or None: decay gradients, not reduced
    room_ptr,  # [C] float32, or None where feedback is not limited
    per, lag, N, T, C,
    COMPLEX: tl.constexpr, PHASE: tl.constexpr, FULL: tl.constexpr,
    FORM: tl.constexpr, DOT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    first = tl.program_id(0) * BLOCK_M
    here = (first + m < N)[:, None]
    live = here & (n < C)[None, :]
    base = first.to(tl.int64) * T * C
    at = m[:, None] * (T * C) + n[None, :]
    j = (first + m)[:, None] * C + n[None, :]
    if FULL:
        k_a = tl.load(decay_a_ptr + (n // per)[None, :], mask=(n < C)[None, :], other=0.0)
        k_b = tl.load(decay_b_ptr + (n // per)[None, :], mask=(n < C)[None, :], other=0.0)
        if COMPLEX:
            k_a, k_b = fraction_of(multiplier_of(k_a)), fraction_of(multiplier_of(k_b))
        else:
            k_a, k_b = fraction_of(keep_of(k_a)), fraction_of(keep_of(k_b))
    if room_ptr is not None:
        room = tl.load(room_ptr + n[None, :], mask=(n < C)[None, :], other=1.0)
    zero = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    g_a, g_b, p_a, p_b, fed = zero, zero, zero, zero, zero
    if FORM == RESIDENT:
        if r_ptr is not None:
            r = _square(r_ptr, BLOCK_N)
        if r_im_ptr is not None:
            r_im = _square(r_im_ptr, BLOCK_N)
    for back in tl.range(T, num_stages=STAGES):
        t = T - 1 - back
        row = at + t * C
        f = tl.load(slope_ptr + base + row, mask=live, other=0.0)
        f_re = zero
        if PHASE:
            f_re = tl.load(slope_re_ptr + base + row, mask=live, other=0.0)
        late = live & (m[:, None] * 0 + t + lag < T)
        if room_ptr is not None:
            fed = limited(fed, tl.abs(f_re) + tl.abs(f), room)
        g = fed + tl.load(g_ptr + base + (row + lag * C), mask=late, other=0.0)
        if partial_a_ptr is not None:  # g_a and g_b still belong to the step after
            y_a = tl.load(series_a_ptr + base + row, mask=live, other=0.0)
            y_b = tl.load(series_b_ptr + base + row, mask=live, other=0.0)
            if COMPLEX:
                p_a += g_b * y_a - g_a * y_b
                p_b += g_a * y_a + g_b * y_b
            else:
                p_a += g_b * y_a
                p_b += g_a * y_b
        if COMPLEX:
            gx, gx_im = f_re * g, f * g
            if FULL:
                g_a, g_b = rotate_bwd(g_a, g_b, k_a, k_b, gx, gx_im)
                gx, gx_im = g_a, g_b
            _store(gx_im_ptr, base + row, gx_im, live)
        else:
            gx = f * g
            if FULL:
                g_a, g_b = cuba_step_dynamics_bwd(g_a, g_b, gx, 0.0, k_a, k_b)
                gx = g_b
        _store(gx_ptr, base + row, gx, live)
        fed = zero
        if FORM == STREAMED:
            tl.debug_barrier()  # what this program has just written is read again
            rows = m[:, None] * (T * C) + t * C
            if r_ptr is not None:
                fed = _streamed(
                    fed, gx_ptr + base, rows, here, r_ptr, C, DOT, False, BLOCK_N, BLOCK_K
                )
            if r_im_ptr is not None:
                fed = _streamed(
                    fed, gx_im_ptr + base, rows, here, r_im_ptr, C, DOT, False, BLOCK_N, BLOCK_K
                )
        else:
            if r_ptr is not None:
                fed = _product(gx, r, fed, DOT)
            if r_im_ptr is not None:
                fed = _product(gx_im, r_im, fed, DOT)
    _store(partial_a_ptr, j, p_a, live)
    _store(partial_b_ptr, j, p_b, live)


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


def _operand(exact: torch.dtype, quantum: float, graded: bool = False) -> torch.dtype:
    """Return the type that the product is exact in; the interpreter multiplies float32 only."""
    return exact if quantum and not graded and BACKEND != "interpret" else torch.float32


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
    numbers: tuple[Any, ...], flags: tuple[bool, ...], quantum: float, has_spikes: bool,
) -> None:  # fmt: skip
    """Run the forward pass of ``lapilli.kernels.recurrent``.

    ``has_spikes`` says that there are spikes before the first step.
    """
    N, T, C = z[0].shape
    operand = _operand(torch.int8, quantum, graded=flags[3])
    largest = LARGEST // 2 if any(flags[:3]) else LARGEST  # four states leave too few registers
    form = _form(C, sum(r is not None for r in feedback), operand, largest, z[0].device)
    if form is OUTSIDE:
        _forward_outside(z, feedback, rows, decays, state, last, numbers, flags)
        return
    if form is STREAMED and has_spikes:  # the kernel reads back what it wrote, nothing earlier
        z = tuple(
            part if r is None else _with_first(part, state[-1], r)
            for part, r in zip(z, feedback, strict=True)
        )
    quantum = quantum if operand == torch.int8 else 1.0
    codes = (_filled(r, quantum, operand) for r in feedback)
    _launch(
        _recurrent_fwd_kernel,
        (*z, *codes, *rows, *decays, *state, *last, *numbers, quantum, T, N, T, C),
        flags, form, operand,
    )  # fmt: skip


def _with_first(z: Tensor, spikes: Tensor, r: Tensor) -> Tensor:
    """Add the feedback of earlier spikes to the first step of a copy of ``z``."""
    z = z.clone()
    z[:, 0].addmm_(spikes, r.t())
    return z


def _forward_outside(z, feedback, rows, decays, state, last, numbers, flags):
    """Run one product and one launch a step; states go from one launch to the next in place."""
    N, T, C = z[0].shape
    spikes, *kept = rows
    per, lag, *others = numbers
    for before, after in zip(state, last, strict=True):
        if after is not None:
            after.copy_(before)
    spikes[:, :lag] = 0
    x = [part if r is None else torch.empty_like(part) for part, r in zip(z, feedback, strict=True)]
    for t in range(T):
        for part, r, total in zip(z, feedback, x, strict=True):
            if r is not None:
                torch.addmm(part[:, t], last[-1], r.t(), out=total[:, t])
        out = spikes[:, t + lag] if t + lag < T else None
        before, after = ([None if row is None else row[:, t] for row in rows] for rows in (x, kept))
        _launch(
            _recurrent_fwd_kernel,
            (*before, None, None, out, *after, *decays, *last, *last, per, 0, *others,
             1.0, 1, N, T, C),
            flags, OUTSIDE, torch.float32,
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
    operand = _operand(torch.bfloat16, quantum)
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
