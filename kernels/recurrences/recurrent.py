"""Recurrent layers over all time steps: the operator, and what runs it on the CPU.

Equations and step functions: recurrent_steps.py. Triton kernels: recurrent_triton.py.

On the CPU the forward pass adds up the columns of R that belong to the neurons that fired, which is
exact in any order for quantised weights and spikes of 0 and 1. The backward pass is dense: one
matrix product a step, and one for the gradient of R over all steps.
"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import executor, has_no_memory, run_watched, with_reference
from lapilli.kernels.executors.layout import (
    contiguous_rows,
    from_rows,
    neurons_a_parameter,
    results,
    state_rows,
    to_rows,
)
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.executors.operators import define_op, differentiable, is_learned
from lapilli.kernels.executors.workers import in_one_order
from lapilli.kernels.numbers.fixed_point import (
    DECAY_SCALE,
    both,
    calm_of,
    calm_or_infinite,
    gradient_after,
    is_power_of_two,
    keep_of,
    multiplier_of,
    one_unit,
    rest_of,
    rule_of,
    spike_value,
    to_real,
    to_state,
    units_of,
)
from lapilli.kernels.numbers.language import tl
from lapilli.kernels.numbers.surrogate import (
    DEFAULT,
    complex_surrogate_constants,
    surrogate_constants,
    surrogate_named,
)
from lapilli.kernels.numbers.threshold import EPSILON, lowest_spiking
from torch import Tensor

from . import recurrent_triton
from .adaptive_threshold import NO_CHIP_RULE, threshold_reach
from .cuba import cuba_step_dynamics_bwd
from .decays import decay_gradients, decay_sign
from .recurrent_steps import advance, gain_of, limit_reach, limited, misfits, slopes
from .resonator_steps import after_spike, rotate_bwd

if TYPE_CHECKING:  # the generated modules import these, see lift.py
    from lapilli.kernels.executors.loop_ops import note
    from lapilli.kernels.executors.scalar_ops import magnitude

GRADIENTS = ("lava-dl", "full", "bounded")
LOOP_GAIN = 0.5  # the most that "bounded" lets go round, see recurrent_steps.py

Parts = Tensor | tuple[Tensor | None, Tensor | None]  # of resonators (real, imaginary)


# CPU: a tile is a sample; neurons innermost, so that the loops vectorise


@cpu_loop
def _recurrent_fwd_cpu(
    first, last, z, z_im, columns, spoilt, spikes, slope_re, slope, series_a, series_b,
    decay_a, decay_b, decay_c, decay_d, a0, b0, c0, d0, s0, a1, b1, c1, d1, s1,
    count, at, at_im, per, lag, bias, bias_im, scale, unit, theta, step, offset,
    height, excess, rate, suspect, N, T, C,
    COMPLEX: tl.constexpr, PHASE: tl.constexpr, ADAPT: tl.constexpr,
    GRADED: tl.constexpr, EXACT: tl.constexpr, SHAPE: tl.constexpr, CARE: int,
    RULE: tl.constexpr,
):  # fmt: skip
    a, b = np.empty(C, np.int32), np.empty(C, np.int32)
    c, d = np.zeros(C, np.int32), np.zeros(C, np.int32)
    k_a, k_b = np.empty(C, np.int32), np.empty(C, np.int32)
    k_c, k_d = np.zeros(C, np.int32), np.zeros(C, np.int32)
    x, x_im = np.zeros(C, np.int32), np.zeros(C, np.int32)
    before_a, before_b = np.empty(C, np.int32), np.empty(C, np.int32)
    above, value = np.empty(C, np.int32), np.zeros(C + 1, np.float32)
    width = columns.shape[1]
    fed = np.zeros(width + C, np.float32)  # zeros at the end, for a part without R
    fed_re, fed_im = fed[at : at + C], fed[at_im : at_im + C]
    active = np.empty(C + 8, np.int64)
    for i in range(C):
        if COMPLEX:
            k_a[i], k_b[i] = multiplier_of(decay_a[i // per]), multiplier_of(decay_b[i // per])
        else:
            k_a[i], k_b[i] = keep_of(decay_a[i // per]), keep_of(decay_b[i // per])
        if ADAPT:
            k_c[i], k_d[i] = keep_of(decay_c[i // per]), keep_of(decay_d[i // per])
    for n in range(first, last):
        if RULE and suspect[1 + n] == 0:
            continue
        top, gain = magnitude(one_unit(scale)), np.int32(0)
        for i in range(C):  # not slice by slice, which takes seconds to compile
            value[i] = s0[n, i]
            rest = rest_of(decay_a[i // per], decay_b[i // per])
            if ADAPT:
                rest += rest_of(decay_c[i // per], decay_d[i // per])
            a_0, b_0 = rest + a0[n, i], rest + b0[n, i]
            a[i], b[i] = to_state(a_0, scale, RULE), to_state(b_0, scale, RULE)
            reach = limit_reach(theta)
            if ADAPT:
                c_0, d_0 = rest + c0[n, i], rest + d0[n, i]
                c[i], d[i] = to_state(c_0, scale, RULE), to_state(d_0, scale, RULE)
                reach = threshold_reach(c_0, d_0, theta, step, k_c[i], k_d[i], scale, T)
            if not RULE:
                top = max(top, magnitude(calm_or_infinite(reach)), magnitude(both(a_0, b_0)))
                top = max(top, magnitude(after_spike(theta, scale)))
                gain = max(gain, magnitude(gain_of(k_a[i], k_b[i], T, COMPLEX)))
        spikes[n, :lag] = 0
        for t in range(T):
            fired = 0
            for i in range(C):
                active[fired] = i
                fired += value[i] != 0
            for k in range(fired, fired + 7):
                active[k] = C  # fill up the last eight with the row of zeros
            for i in range(width):
                fed[i] = spoilt[i]
            for k in range(0, fired, 8):  # eight at once: the sum is read and written less
                j0, j1, j2, j3 = active[k], active[k + 1], active[k + 2], active[k + 3]
                j4, j5, j6, j7 = active[k + 4], active[k + 5], active[k + 6], active[k + 7]
                v0, v1, v2, v3 = value[j0], value[j1], value[j2], value[j3]
                v4, v5, v6, v7 = value[j4], value[j5], value[j6], value[j7]
                r0, r1, r2, r3 = columns[j0], columns[j1], columns[j2], columns[j3]
                r4, r5, r6, r7 = columns[j4], columns[j5], columns[j6], columns[j7]
                for i in range(width):
                    low = (v0 * r0[i] + v1 * r1[i]) + (v2 * r2[i] + v3 * r3[i])
                    fed[i] += low + ((v4 * r4[i] + v5 * r5[i]) + (v6 * r6[i] + v7 * r7[i]))
            z_t = z[n, t]
            for i in range(C):
                total = z_t[i] + fed_re[i] + bias
                x[i] = to_state(total, scale, RULE)
                if not RULE:
                    top = max(top, magnitude(total))
            if COMPLEX:
                z_im_t = z_im[n, t]
                for i in range(C):
                    total = z_im_t[i] + fed_im[i] + bias_im
                    x_im[i] = to_state(total, scale, RULE)
                    if not RULE:
                        top = max(top, magnitude(total))
            for i in range(C):
                a_i, b_i = a[i], b[i]
                a[i], b[i], c_i, d_i, before_a[i], before_b[i], tested, above[i], s = advance(
                    a_i, b_i, c[i], d[i], x[i], x_im[i], k_a[i], k_b[i], k_c[i], k_d[i],
                    theta, step, scale, COMPLEX, PHASE, ADAPT, EXACT, RULE)  # fmt: skip
                if RULE and count is not None:
                    count[n, i] += misfits(
                        a_i, b_i, x[i], x_im[i], before_a[i], c_i, d_i, k_a[i], k_b[i], scale,
                        COMPLEX, ADAPT, EXACT, RULE)  # fmt: skip
                if ADAPT:
                    c[i], d[i] = c_i, d_i
                value[i] = spike_value(s, tested, scale, GRADED, EXACT, RULE)
            if t + lag < T:
                s_t = spikes[n, t + lag]
                for i in range(C):
                    s_t[i] = value[i]
            if slope.size > 0:
                slope_t = slope[n, t]
                if PHASE:
                    slope_re_t = slope_re[n, t]
                for i in range(C):
                    f_re, slope_t[i] = slopes(
                        np.float32(above[i]) * unit + offset, np.float32(before_b[i]) * unit,
                        height, excess, rate, PHASE, GRADED, SHAPE)  # fmt: skip
                    if PHASE:
                        slope_re_t[i] = f_re
                    if RULE:
                        slope_t[i] += gradient_after(above[i])
                        if PHASE:
                            slope_re_t[i] += gradient_after(above[i])
            if series_a.size > 0:
                series_a_t, series_b_t = series_a[n, t], series_b[n, t]
                for i in range(C):
                    series_a_t[i] = to_real(before_a[i], scale, EXACT, RULE)
                    series_b_t[i] = to_real(before_b[i], scale, EXACT, RULE)
        for i in range(C):
            s1[n, i] = value[i]
            a1[n, i] = to_real(a[i], scale, EXACT, RULE)
            b1[n, i] = to_real(b[i], scale, EXACT, RULE)
            if ADAPT:
                c1[n, i] = to_real(c[i], scale, EXACT, RULE)
                d1[n, i] = to_real(d[i], scale, EXACT, RULE)
        if not RULE:
            note(suspect, n, top, gain, scale, calm_of(CARE))


def _fractions(decays: list[Tensor], neurons: int, turns: bool) -> list[Tensor]:
    """Return what a gradient keeps a step, or sine and cosine, as fractions of 1 a neuron."""
    rounded = [d.detach().round().clamp(0, DECAY_SCALE) / DECAY_SCALE for d in decays]
    each = [d.repeat_interleave(neurons // d.numel()) for d in rounded]
    return each if turns else [1 - d for d in each]


_TINY = 1e-30  # in place of 0 where 0 / 0 threatens
_TURNS = (0.0, 1.0, 2.4, 3.9)  # of the vectors that find the spectral norm
_REPEATS = 6


@functools.lru_cache(maxsize=64)
def _first_vectors(neurons: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the vectors that find a spectral norm, kept: a copy to a device waits for it.

    They have the same bits on every device.
    """
    with torch.inference_mode(False):
        count = torch.arange(1, neurons + 1, dtype=torch.float64, device="cpu")
        turns = torch.tensor(_TURNS, dtype=torch.float64, device="cpu")
        return torch.cos(count[:, None] * turns).to(dtype).to(device)


def _spectral_norm(parts: list[Tensor]) -> Tensor:
    """Return the spectral norm of matrices one below the other, by power iteration.

    Four vectors, 1 and cosines, are multiplied six times. That comes within a few percent from
    below, at the price of a step of the layer.
    """
    first = parts[0]
    find = _first_vectors.__wrapped__ if has_no_memory(first) else _first_vectors
    v = find(first.shape[1], first.dtype, first.device)
    square = v.new_zeros(())
    for _ in range(_REPEATS):
        v = v / v.norm(dim=0).clamp(min=_TINY)
        v = sum(torch.mm(r.t(), torch.mm(r, v)) for r in parts)
        square = v.norm(dim=0).max()
    return square.sqrt()


def _room(feedback: list[Tensor | None], decays: list[Tensor], neurons: int) -> Tensor:
    """Return the slope that feedback may meet, one value a neuron, see recurrent_steps.py."""
    turns = len(feedback) == 2
    a, b = _fractions(decays, neurons, turns)
    memory = 1 - torch.sqrt(a * a + b * b) if turns else (1 - a) * (1 - b)
    with in_one_order(a.device):
        norm = _spectral_norm([r for r in feedback if r is not None])
    return (LOOP_GAIN * memory / norm.clamp(min=_TINY)).clamp(min=_TINY)


def _backward_loop(
    g: Tensor, feedback: list[Tensor | None], slope: list[Tensor], series: list[Tensor],
    decays: list[Tensor], gx: list[Tensor], partials: list[Tensor], room: Tensor | None,
    phase: bool, shift: bool, full: bool,
) -> None:  # fmt: skip
    """Go back over the steps with one matrix product each; nothing waits for a device.

    ``feedback`` and ``gx`` have an entry for each part; ``slope`` has one, with ``phase`` two.
    """
    N, T, C = g.shape
    turns = len(gx) == 2
    rows = [y.unbind(1) for y in gx]
    slope_rows = [f.unbind(1) for f in slope]
    series_rows = [y.unbind(1) for y in series]
    g_rows = g.unbind(1)[1:] if shift else g.unbind(1)
    fed = [(r, part) for r, part in zip(feedback, rows, strict=True) if r is not None]
    rates = _fractions(decays, C, turns) if full else []
    g_s, zero = g.new_zeros(N, C), g.new_zeros(())
    carried = g.new_zeros(N, C), g.new_zeros(N, C)
    for unused in (*partials, *gx[: len(gx) - len(slope)]):
        unused.zero_()
    for t in range(T - 1, -1, -1):
        if t < T - 1:
            torch.mm(fed[0][1][t + 1], fed[0][0], out=g_s)
            for r, part in fed[1:]:
                g_s.addmm_(part[t + 1], r)
            if room is not None:
                size = sum(f[t].abs() for f in slope_rows)
                g_s.copy_(limited.fn(g_s, size, room))
        if t < len(g_rows):
            g_s += g_rows[t]
        if not full:
            for f, part in zip(slope_rows, rows[-len(slope) :], strict=True):
                torch.mul(g_s, f[t], out=part[t])
            continue
        if partials:  # carried still belongs to the step after
            terms = _terms(*carried, *(y[t] for y in series_rows), turns)
            for partial, term in zip(partials, terms, strict=True):
                partial += term
        d = [f[t] * g_s for f in slope_rows]
        if turns:
            carried = rotate_bwd.fn(*carried, *rates, *(d if phase else (zero, *d)))
            rows[0][t].copy_(carried[0])
            rows[1][t].copy_(carried[1])
        else:
            carried = cuba_step_dynamics_bwd.fn(*carried, *d, zero, *rates)
            rows[0][t].copy_(carried[1])
    if turns and not phase and not full:  # nothing, but where the gradient is not a number
        torch.sub(gx[1], gx[1], out=gx[0])


def _terms(g_a: Tensor, g_b: Tensor, a: Tensor, b: Tensor, turns: bool) -> tuple[Tensor, Tensor]:
    """Return what one step adds to the gradients of the two decays."""
    if turns:
        return g_b * a - g_a * b, g_a * a + g_b * b
    return g_b * a, g_a * b


# The operator


@define_op(samples="z z_im a0 b0 c0 d0 s0")
def recurrent_fwd(
    z: Tensor, z_im: Tensor | None, feedback: Tensor | None, feedback_im: Tensor | None,
    decay_a: Tensor, decay_b: Tensor, decay_c: Tensor | None, decay_d: Tensor | None,
    a0: Tensor | None, b0: Tensor | None, c0: Tensor | None, d0: Tensor | None, s0: Tensor | None,
    bias: float, quantum: float, scale: float, theta: int, step: int, phase: bool,
    save: bool, learning: bool, final: bool, graded: bool, shift: bool,
    offset: float, height: float, excess: float, rate: float, surrogate: str,
    gradient: int, decay_sign: float, care: int, count: bool,
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    """Return spikes, two slopes, two states over time, four last states, last spikes, misfits.

    Training wants the slopes: the surrogate gradients, the first for ``phase`` alone. Learned
    decays want the states before each spike.
    """
    N, T, C = z.shape
    turns, adapt = z_im is not None, decay_c is not None
    spikes = empty(z.shape, torch.float32, z)
    wanted = save and phase, save, learning, learning
    rows = [empty(z.shape, torch.float32, z) if w else None for w in wanted]
    last = [z.new_empty(N, C) if w else None for w in (True, True, adapt, adapt, True)]
    lost = z.new_zeros(N, C, dtype=torch.int32) if count else None
    outputs = (spikes, *rows, *(last if final else [None] * 5), lost)
    if has_no_memory(z) or N * C == 0:
        return outputs
    decays = decay_a, decay_b, decay_c, decay_d
    numbers = (
        neurons_a_parameter(C, *(d for d in decays if d is not None)), int(shift),
        *((0.0, bias) if turns and not phase else (bias, 0.0)),
        scale, 1 / scale, theta, step, offset, height, excess, rate,
    )  # fmt: skip
    at_rest = (a0, 0.0), (b0, 0.0), (c0, theta / scale), (d0, 0.0), (s0, 0.0)
    state = [
        z.new_full((N, C), rest) if given is None and used is not None else given
        for (given, rest), used in zip(at_rest, last, strict=True)
    ]
    if T == 0:
        for after, before in zip(last, state, strict=True):
            if after is not None:
                after.copy_(before)
        return outputs
    run = _forward_loop if executor(z.device) == "numba" else recurrent_triton.forward
    run(
        (z, z_im), (feedback, feedback_im), (spikes, *rows), decays, state, last, lost, numbers,
        (turns, phase, adapt, graded, is_power_of_two(scale), surrogate_named(surrogate).shape,
         care),
        quantum, s0 is not None,
    )  # fmt: skip
    return outputs


def _forward_loop(
    z, feedback, rows, decays, state, last, count, numbers, flags, _quantum, _has_spikes
):
    """Run the CPU loop, which is compiled once for each neuron: it takes 3 s."""
    N, T, C = z[0].shape
    fed = [r for r in feedback if r is not None]
    columns = torch.nn.functional.pad(torch.cat([r.t() for r in fed], 1), (0, 0, 0, 1))
    at = 0 if feedback[0] is not None else C * len(fed)
    at_im = C * (len(fed) - 1) if feedback[1] is not None else C * len(fed)
    # a weight that is not finite reaches its neuron, whether its input spikes or not
    spoilt = (columns - columns).sum(0)
    spikes, slope_re, *others = rows
    if flags[1] and slope_re is None:
        slope_re = z[0].new_empty(0, 0, 0)
    others = [z[0].new_empty(0, 0, 0) if row is None else row for row in others]
    run_watched(
        _recurrent_fwd_cpu, N, (N, T, C),
        (*z, columns, spoilt, spikes, slope_re, *others, *decays, *state, *last, count, at,
         at_im, *numbers),
        flags,
    )  # fmt: skip


@define_op(samples="g_spikes slope_re slope series_a series_b")
def recurrent_bwd(
    g_spikes: Tensor, feedback: Tensor | None, feedback_im: Tensor | None,
    slope_re: Tensor | None, slope: Tensor, series_a: Tensor | None, series_b: Tensor | None,
    decay_a: Tensor, decay_b: Tensor,
    quantum: float, turns: bool, phase: bool, shift: bool, gradient: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of the input and the partial gradients of the first two decays."""
    N, T, C = g_spikes.shape
    gx = [empty(g_spikes.shape, torch.float32, g_spikes) for _ in range(1 + turns)]
    learning = series_a is not None
    partials = [g_spikes.new_empty(N, C) for _ in range(2 * learning)]
    if not (has_no_memory(g_spikes) or N * T * C == 0):
        parts = [feedback, feedback_im][: 1 + turns]
        bounded = GRADIENTS[gradient] == "bounded"
        arguments = (
            g_spikes, parts,
            [f for f in (slope_re, slope) if f is not None],
            [y for y in (series_a, series_b) if y is not None],
            [decay_a, decay_b], gx, partials,
            _room(parts, [decay_a, decay_b], C) if bounded else None,
            phase, shift, GRADIENTS[gradient] != "lava-dl",
        )  # fmt: skip
        on_cpu = executor(g_spikes.device) == "numba"
        if on_cpu or not recurrent_triton.backward(*arguments, quantum):
            _backward_loop(*arguments)
    return *gx, *(None,) * (1 - turns), *(partials or (None, None))


def _save(ctx, inputs, output):
    feedback, decays, s0 = inputs[2:4], inputs[4:8], inputs[12]
    _, quantum, _, _, _, phase, _, _, _, _, shift, *_, gradient, sign, _, _ = inputs[13:]
    spikes, *kept = output[:5]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    kept = [k if k.numel() else None for k in kept]
    learns = any(ctx.needs_input_grad[2:4])
    ctx.save_for_backward(spikes if learns else None, *kept, *feedback, *decays, s0)
    ctx.turns, ctx.constants = inputs[1] is not None, (phase, shift, gradient)
    ctx.quantum, ctx.decay_sign = quantum, sign


def _backward(ctx, g_spikes, *_others):
    spikes, *kept, feedback, feedback_im, decay_a, decay_b, decay_c, decay_d, s0 = ctx.saved_tensors
    slope_re, slope, series_a, series_b = kept
    phase, shift, gradient = ctx.constants
    *gx, p_a, p_b = recurrent_bwd(
        contiguous_rows(g_spikes), feedback, feedback_im, slope_re, slope, series_a, series_b,
        decay_a, decay_b, ctx.quantum, ctx.turns, phase, shift, gradient,
    )  # fmt: skip
    g_feedback = (
        feedback_bwd(g, spikes, s0, shift) if wanted else None
        for g, wanted in zip(gx, ctx.needs_input_grad[2:4], strict=True)
    )
    if series_a is not None:
        sign = 1.0 if ctx.turns else ctx.decay_sign
        g_decays = decay_gradients(sign, (decay_a, p_a), (decay_b, p_b), wanted=True)
    else:
        g_decays = _zeros((decay_a, decay_b), ctx.needs_input_grad[4:6])
    # the threshold is not differentiated; its decays get zeros, as in lava-dl
    g_threshold = _zeros((decay_c, decay_d), ctx.needs_input_grad[6:8])
    gx[1] = gx[1] if ctx.turns else None
    return *gx, *g_feedback, *g_decays, *g_threshold, *(None,) * 25


def _zeros(parameters: tuple[Tensor, ...], wanted: tuple[bool, ...]) -> list[Tensor | None]:
    return [torch.zeros_like(p) if w else None for p, w in zip(parameters, wanted, strict=True)]


@define_op
def feedback_bwd(gx: Tensor, spikes: Tensor, s0: Tensor | None, shift: bool) -> Tensor:
    """Sum ``gx[t]^T s[t-1]`` over steps and samples: one product over all rows."""
    if gx.numel() == 0:
        return gx.new_zeros(gx.shape[2], gx.shape[2])
    with in_one_order(gx.device):
        if shift:  # the spikes already are those of the step before
            total = torch.mm(gx.flatten(0, 1).t(), spikes.flatten(0, 1))
        else:
            total = torch.mm(gx.flatten(0, 1)[1:].t(), spikes.flatten(0, 1)[:-1])
            # a sample's first step stands behind the last one of another sample
            total.addmm_(gx[1:, 0].t(), spikes[:-1, -1], alpha=-1)
        return total if s0 is None else total.addmm_(gx[:, 0].t(), s0)


differentiable(recurrent_fwd, _backward, _save)


def _pair(parts: Parts) -> tuple[Tensor | None, Tensor | None]:
    return (parts, None) if isinstance(parts, Tensor) else tuple(parts)


@with_reference
def recurrent(
    z: Tensor | tuple[Tensor, Tensor],
    feedback: Parts,
    decays: tuple[Tensor, ...],
    threshold: float,
    scale: int,
    *,
    phase: bool = False,
    threshold_step: float = 0.0,
    bias: float = 0.0,
    quantum: float | None = None,
    tau_rho: float = 1.0,
    scale_rho: float = 1.0,
    surrogate: str = DEFAULT,
    graded: bool = False,
    shift: bool = False,
    state: tuple[Tensor, ...] | None = None,
    spikes: Tensor | None = None,
    return_state: bool = False,
    gradient: str = "lava-dl",
    overflow: str = "saturate",
    count: bool = False,
) -> Any:
    """Run a layer of neurons whose spikes come back through ``feedback``, over all time steps.

    Parameters
    ----------
    z
        Weighted input ``[N, neurons..., T]``, in real units (1 is ``scale`` state units); of
        resonators a pair (real, imaginary).
    feedback
        Weight ``[neurons, neurons]`` (to, from); of resonators a pair, where None feeds nothing
        back to that part.
    decays
        Two, or four if the threshold adapts, each ``[1]`` or one value a channel, 0..4096: current
        and voltage decay, of resonators sine and cosine; then threshold and refractory decay.
    threshold
        Threshold (at rest), a multiple of ``1 / scale``.
    scale
        State units in 1.
    phase
        Resonators spike by their phase (RF, ADRF) and not by their imaginary part.
    threshold_step
        What a spike adds to the threshold, where that adapts.
    bias
        Added to the input of every step; of resonators to the part that the threshold tests.
    quantum
        Step of ``feedback`` if it is an integer from -128 to 127 times this number, which lets a
        GPU multiply integers; None if it is not.
    tau_rho, scale_rho
        Width and height of the surrogate gradient, both above 0; the formula is that of the neuron
        alone, such as ``lapilli.kernels.recurrences.cuba.cuba``.
    surrogate
        Its shape, see ``lapilli.kernels.recurrences.cuba.cuba``.
    graded
        Spikes carry the state that is tested instead of 1.
    shift
        Delay the output by one step; the first is 0 and the last is dropped.
    state
        States ``[N, neurons...]`` before the first step, as many as ``decays``; rest if None.
    spikes
        Spikes ``[N, neurons...]`` before the first step; none if None.
    return_state
        Also return the states and the spikes of the last step, detached.
    gradient
        ``"lava-dl"``: only the feedback links steps, decays get a gradient of zero. ``"full"``:
        through the states as well. ``"bounded"``: likewise, but what comes back through
        ``feedback`` is weakened so that it at most doubles the gradient.
    overflow, count
        See ``lapilli.kernels.recurrences.cuba.cuba``; ``"loihi"`` for two decays only.

    Returns
    -------
    Tensor
        Spikes, of the shape of each part of ``z``; with ``return_state`` also the states, and the
        last spikes; with ``count`` also how many steps of each neuron did not fit.

    Raises
    ------
    ValueError
        For a ``feedback`` of another shape, an unknown ``gradient`` or ``overflow``, and for
        ``"loihi"`` where the threshold adapts.
    """
    if gradient not in GRADIENTS:
        raise ValueError(
            f"gradient is {gradient!r}; expected one of {', '.join(map(repr, GRADIENTS))}"
        )
    parts, weights = _pair(z), _pair(feedback)
    shape = parts[0].shape
    rows = [None if part is None else to_rows(part) for part in parts]
    neurons = rows[0].shape[2]
    for weight in weights:
        if weight is not None and weight.shape != (neurons, neurons):
            raise ValueError(
                f"feedback of {neurons} neurons must have shape ({neurons}, {neurons}); got "
                f"{tuple(weight.shape)}"
            )
    turns, adapts = parts[1] is not None, len(decays) == 4
    care = rule_of(overflow)
    if adapts and overflow == "loihi":
        raise ValueError(NO_CHIP_RULE)
    if turns and phase:
        height, excess, rate = complex_surrogate_constants(tau_rho, scale_rho, graded, surrogate)
    else:
        height, rate = surrogate_constants(tau_rho, scale_rho, graded, surrogate)
        excess = 0.0
    theta, offset = units_of(threshold, scale), 0.0
    if not turns and not adapts:
        theta = lowest_spiking(threshold, scale)
        offset = (1 - EPSILON) / scale  # from the lowest state that spikes to the threshold
    learned = *decays, *(w for w in weights if w is not None), *(p for p in parts if p is not None)
    saving = is_learned(*learned)
    learning = gradient != "lava-dl" and is_learned(*decays[:2])
    initial = [None if s is None else state_rows(s) for s in state or ()]
    out, _, _, _, _, *last, lost = recurrent_fwd(
        *rows, *weights, *decays, *(None,) * (4 - len(decays)),
        *initial, *(None,) * (4 - len(initial)), state_rows(spikes),
        bias, quantum or 0.0, scale, theta, units_of(threshold_step, scale), phase,
        saving, learning, return_state, graded, shift,
        offset, height, excess, rate, surrogate, GRADIENTS.index(gradient), decay_sign(), care,
        count,
    )  # fmt: skip
    others: list[Any] = []
    if return_state:
        *states, last_spikes = (
            s.view(shape[:-1]) if s is not None and s.numel() else s for s in last
        )
        others += tuple(states[: len(decays)]), last_spikes
    return results(from_rows(out, shape[1:-1]), *others, lost.view(shape[:-1]) if count else None)
