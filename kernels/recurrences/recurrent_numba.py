"""Recurrent layers on a CPU, forward. Equations and step functions: recurrent_steps.py.

The columns of R that belong to the neurons that fired are added up, which is exact in any order for
quantised weights and spikes of 0 and 1.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import run_watched
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.numbers.fixed_point import (
    both,
    calm_of,
    calm_or_infinite,
    gradient_after,
    keep_of,
    multiplier_of,
    one_unit,
    rest_of,
    spike_value,
    to_real,
    to_state,
)
from lapilli.kernels.numbers.language import tl

from .adaptive_threshold import threshold_reach
from .recurrent_steps import advance, gain_of, limit_reach, misfits, slopes
from .resonator_steps import after_spike

if TYPE_CHECKING:  # the generated modules import these, see lift.py
    from lapilli.kernels.executors.loop_ops import note
    from lapilli.kernels.executors.scalar_ops import magnitude


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


def forward(z, feedback, rows, decays, state, last, count, numbers, flags, _quantum, _has_spikes):
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
