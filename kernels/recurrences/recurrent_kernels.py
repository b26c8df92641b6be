"""Recurrent layers as Triton kernels. Equations and step functions: recurrent_steps.py.

A program owns 16 samples. Where R is RESIDENT it owns all neurons of a layer as well, and walks
over time with the feedback product inside its loop, so nothing crosses programs. Else a launch is
one step, ``start``, and the neurons are split over programs. In a layer that is SPLIT a step
multiplies what those of the launch before have sent; two places for that take turns.
recurrent_triton.py says where R is, and launches.

To pyright ``tl.constexpr`` is a class; where a constant is assigned to a name of that type, which
Triton wants, it is told to look away.

420 lines, since each kernel is one function in all its forms.
"""

from lapilli.kernels.numbers.fixed_point import (
    PLAIN,
    both,
    calm_or_infinite,
    fraction_of,
    gradient_after,
    keep_of,
    larger,
    less_itself,
    multiplier_of,
    not_calm,
    one_unit,
    rest_of,
    spike_value,
    to_real,
    to_state,
)
from lapilli.kernels.numbers.language import jit, tl

from .adaptive_threshold import threshold_reach
from .cuba import cuba_step_dynamics_bwd
from .recurrent_steps import advance, gain_of, limit_reach, limited, misfits, slopes
from .recurrent_tiles import (
    RESIDENT,
    SPLIT,
    add_product,
    add_sent,
    bound_of_inputs,
    first_state,
    largest_of_pairs,
    load_feedback,
    lost_below,
    lost_samples,
    operand_of,
    send,
    sent_width,
    store_state,
    store_tile,
    tile_of_zeros,
)
from .resonator_steps import after_spike, rotate_bwd

# Four states of so many neurons leave no register for the largest input: then the second launch
# looks for it, and for all the feedback that there can be.
_WATCHED = tl.constexpr(128)


@jit
def _recurrent_fwd_walk(
    ptrs, row_ptrs, decay_ptrs, first_ptrs, last_ptrs, count_ptr, numbers, sent_ptr, quantum, start,
    N, T, C, flags: tl.constexpr, RULE: tl.constexpr, FORM: tl.constexpr, DOT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Walk over the steps; return 1 if a state may not have fitted (fixed_point.py), else 0."""
    z_ptr, r_ptr, r_im_ptr, spike_ptr = ptrs[0], ptrs[2], ptrs[3], row_ptrs[0]
    per, lag, bias, bias_im, scale, unit, theta, step, offset, height, excess, rate = numbers
    COMPLEX: tl.constexpr = flags[0]
    PHASE: tl.constexpr = flags[1]
    ADAPT: tl.constexpr = flags[2]
    GRADED: tl.constexpr = flags[3]
    EXACT: tl.constexpr = flags[4]
    SHAPE: tl.constexpr = flags[5]
    CARE: tl.constexpr = flags[6]
    WATCH: tl.constexpr = not (ADAPT and BLOCK_N > _WATCHED)  # pyright: ignore[reportAssignmentType]
    # with care alone: a spike that is not a number has no 8-bit integer
    LOST: tl.constexpr = RULE != PLAIN and DOT == "int8"  # pyright: ignore[reportAssignmentType]
    AHEAD: tl.constexpr = 1 if FORM == SPLIT else STAGES  # pyright: ignore[reportAssignmentType]
    begin, steps = 0, T
    if start is not None:
        begin, steps = start, 1
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
    k_a = tl.load(decay_ptrs[0] + decay_at, mask=some, other=0.0)
    k_b = tl.load(decay_ptrs[1] + decay_at, mask=some, other=0.0)
    k_c, k_d = k_a, k_a
    if ADAPT:
        k_c = tl.load(decay_ptrs[2] + decay_at, mask=some, other=0.0)
        k_d = tl.load(decay_ptrs[3] + decay_at, mask=some, other=0.0)
    a = tl.load(first_ptrs[0] + j, mask=live, other=0)
    b = tl.load(first_ptrs[1] + j, mask=live, other=0)
    c, d = a, a
    if ADAPT:
        c = tl.load(first_ptrs[2] + j, mask=live, other=0)
        d = tl.load(first_ptrs[3] + j, mask=live, other=0)
    s_out = tl.load(first_ptrs[4] + j, mask=live, other=0.0)
    if FORM == SPLIT:  # in one step: all loads are on their way, then the products, then the rest
        z = tl.load(z_ptr + base + at + begin * C, mask=live, other=0.0)
        z_im = z
        if COMPLEX:
            z_im = tl.load(ptrs[1] + base + at + begin * C, mask=live, other=0.0)
        width = sent_width(C)
        plane = tl.num_programs(0).to(tl.int64) * BLOCK_M * width
        own = first.to(tl.int64) * width
        read_ptr = sent_ptr + (begin % 2 * plane + own)
        send_ptr = sent_ptr + ((1 - begin % 2) * plane + own)
        if r_ptr is not None:
            fed = tile_of_zeros(BLOCK_M, BLOCK_N, DOT)
            fed, least = add_sent(
                fed, read_ptr, plane, r_ptr, n, C, DOT, True, BLOCK_M, BLOCK_K, STAGES
            )
            z += fed.to(tl.float32) * quantum + lost_below(least, LOST)
        if r_im_ptr is not None:
            fed = tile_of_zeros(BLOCK_M, BLOCK_N, DOT)
            fed, least = add_sent(
                fed, read_ptr, plane, r_im_ptr, n, C, DOT, True, BLOCK_M, BLOCK_K, STAGES
            )
            z_im += fed.to(tl.float32) * quantum + lost_below(least, LOST)
    rest = rest_of(k_a, k_b)
    if COMPLEX:
        k_a, k_b = multiplier_of(k_a), multiplier_of(k_b)
    else:
        k_a, k_b = keep_of(k_a), keep_of(k_b)
    reach = limit_reach(theta)
    if ADAPT:
        rest += rest_of(k_c, k_d)
        k_c, k_d = keep_of(k_c), keep_of(k_d)
    rest = tl.broadcast_to(rest, [BLOCK_M, BLOCK_N])
    a, a0 = first_state(a, rest, scale, RULE)
    b, b0 = first_state(b, rest, scale, RULE)
    top = larger(both(a0, b0), rest + after_spike(theta, scale))
    c, c0 = first_state(c, rest, scale, RULE)
    d, d0 = first_state(d, rest, scale, RULE)
    if ADAPT:
        reach = threshold_reach(c0, d0, theta, step, k_c, k_d, scale, T)
    top = larger(larger(top, rest + one_unit(scale)), calm_or_infinite(reach))
    if RULE != PLAIN and FORM == RESIDENT and not WATCH:
        most = bound_of_inputs(
            top, z_ptr + base, at, live, bias, r_ptr, quantum, T, C, BLOCK_N, BLOCK_K
        )  # fmt: skip
        if COMPLEX:
            most = larger(most, bound_of_inputs(
                top, ptrs[1] + base, at, live, bias_im, r_im_ptr, quantum, T, C, BLOCK_N, BLOCK_K,
            ))  # fmt: skip
        wanted = not_calm(most, gain_of(k_a, k_b, T, COMPLEX), scale, CARE)
        steps *= wanted  # or nothing is done, and nothing stored
        live = live & (m[:, None] * 0 + wanted > 0)
    top = largest_of_pairs(top)
    if RULE and count_ptr is not None:
        lost_steps = tl.load(count_ptr + j, mask=live, other=0)
    lost = lost_samples(s_out, LOST)
    last = operand_of(s_out, DOT)
    if FORM == RESIDENT:
        # contiguous in the input, then turned: int8 would be read byte by byte
        if r_ptr is not None:
            r = tl.trans(load_feedback(r_ptr, BLOCK_N))
        if r_im_ptr is not None:
            r_im = tl.trans(load_feedback(r_im_ptr, BLOCK_N))
    if lag > 0 and begin == 0:
        store_tile(spike_ptr, base + at, tile_of_zeros(BLOCK_M, BLOCK_N, "float32"), live)
    for t in tl.range(begin, begin + steps, num_stages=AHEAD):
        row = at + t * C
        if FORM == SPLIT:
            x, x_im = z, z_im
        else:
            x = tl.load(z_ptr + base + row, mask=live, other=0.0)
            x_im = x
            if COMPLEX:
                x_im = tl.load(ptrs[1] + base + row, mask=live, other=0.0)
        if FORM == RESIDENT:
            if r_ptr is not None:
                fed = add_product(last, r, tile_of_zeros(BLOCK_M, BLOCK_N, DOT), DOT)
                x += fed.to(tl.float32) * quantum
                if LOST:
                    x += lost
            if r_im_ptr is not None:
                fed = add_product(last, r_im, tile_of_zeros(BLOCK_M, BLOCK_N, DOT), DOT)
                x_im += fed.to(tl.float32) * quantum
                if LOST:
                    x_im += lost
        x, x_im = x + bias, x_im + bias_im
        if RULE == PLAIN and WATCH:
            top = larger(top, largest_of_pairs(x))
            if COMPLEX:
                top = larger(top, largest_of_pairs(x_im))
        x, x_im = to_state(x, scale, RULE), to_state(x_im, scale, RULE)
        a_was, b_was = a, b
        a, b, c_next, d_next, before_a, before_b, tested, above, s = advance(
            a, b, c, d, x, x_im, k_a, k_b, k_c, k_d, theta, step, scale,
            COMPLEX, PHASE, ADAPT, EXACT, RULE)  # fmt: skip
        if RULE and count_ptr is not None:
            lost_steps += misfits(
                a_was, b_was, x, x_im, before_a, c_next, d_next, k_a, k_b, scale,
                COMPLEX, ADAPT, EXACT, RULE)  # fmt: skip
        if ADAPT:
            c, d = c_next, d_next
        s_out = spike_value(s, tested, scale, GRADED, EXACT, RULE)
        lost = lost_samples(s_out, LOST)
        last = operand_of(s_out, DOT)
        if FORM == SPLIT:
            send(send_ptr, plane, m[:, None] * width + n[None, :], s_out, live, DOT)
        store_tile(spike_ptr, base + (row + lag * C), s_out, live & (m[:, None] * 0 + t + lag < T))
        if row_ptrs[2] is not None:
            f_re, f = slopes(
                above.to(tl.float32) * unit + offset, before_b.to(tl.float32) * unit,
                height, excess, rate, PHASE, GRADED, SHAPE)  # fmt: skip
            if RULE:
                f_re, f = f_re + gradient_after(above), f + gradient_after(above)
            store_tile(row_ptrs[2], base + row, f, live)
            if PHASE:
                store_tile(row_ptrs[1], base + row, f_re, live)
        store_tile(row_ptrs[3], base + row, to_real(before_a, scale, EXACT, RULE), live)
        store_tile(row_ptrs[4], base + row, to_real(before_b, scale, EXACT, RULE), live)
    store_state(last_ptrs[0], j, a, live, scale, EXACT, RULE)
    store_state(last_ptrs[1], j, b, live, scale, EXACT, RULE)
    if ADAPT:
        store_state(last_ptrs[2], j, c, live, scale, EXACT, RULE)
        store_state(last_ptrs[3], j, d, live, scale, EXACT, RULE)
    if RULE and count_ptr is not None:
        tl.store(count_ptr + j, lost_steps, mask=live)
    if not LOST:  # or they would stay in registers twice
        s_out = last.to(tl.float32)
    store_tile(last_ptrs[4], j, s_out, live)
    if RULE == PLAIN and WATCH:
        gain = tl.broadcast_to(gain_of(k_a, k_b, T, COMPLEX), [BLOCK_M, BLOCK_N])
        return not_calm(top, largest_of_pairs(gain), scale, CARE)
    else:
        return 0


@jit
def _recurrent_fwd_kernel(
    z_ptr, z_im_ptr,  # [N, T, C] float32; the second for resonators
    r_ptr, r_im_ptr,  # [neurons, neurons] of type DOT: R as multiples of quantum, or None
    spike_ptr,  # [N, T, C] float32, out, or None
    slope_re_ptr, slope_ptr,  # [N, T, C] float32, out, or None: surrogate gradients
    series_a_ptr, series_b_ptr,  # [N, T, C] float32, out, or None: states before the spike
    decay_a_ptr, decay_b_ptr, decay_c_ptr, decay_d_ptr,  # [1] or [channels] float32, 0..4096
    a0_ptr, b0_ptr, c0_ptr, d0_ptr, s0_ptr,  # [N, C] float32: before the first step
    a1_ptr, b1_ptr, c1_ptr, d1_ptr, s1_ptr,  # [N, C] float32, out: after the last step
    count_ptr,  # [N, C] int32, in and out, or None: steps that did not fit
    per, lag, bias, bias_im, scale, unit, theta, step, offset, height, excess, rate,
    mark_ptr,  # [programs] int32: whether a state may not have fitted; None: care in any case
    sent_ptr,  # [2, samples, neurons] of type DOT, both filled up with zeros, or None: spikes
    quantum,
    start,  # step of this launch; None: all of them
    N, T, C,
    COMPLEX: tl.constexpr, PHASE: tl.constexpr, ADAPT: tl.constexpr,
    GRADED: tl.constexpr, EXACT: tl.constexpr, SHAPE: tl.constexpr, CARE: tl.constexpr,
    RULE: tl.constexpr, FORM: tl.constexpr, DOT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    ptrs = (z_ptr, z_im_ptr, r_ptr, r_im_ptr)
    row_ptrs = (spike_ptr, slope_re_ptr, slope_ptr, series_a_ptr, series_b_ptr)
    decay_ptrs = (decay_a_ptr, decay_b_ptr, decay_c_ptr, decay_d_ptr)
    first_ptrs = (a0_ptr, b0_ptr, c0_ptr, d0_ptr, s0_ptr)
    last_ptrs = (a1_ptr, b1_ptr, c1_ptr, d1_ptr, s1_ptr)
    numbers = (per, lag, bias, bias_im, scale, unit, theta, step, offset, height, excess, rate)
    flags: tl.constexpr = (  # pyright: ignore[reportAssignmentType]
        COMPLEX, PHASE, ADAPT, GRADED, EXACT, SHAPE, CARE)  # fmt: skip
    wanted = 1
    WATCH: tl.constexpr = not (ADAPT and BLOCK_N > _WATCHED)  # pyright: ignore[reportAssignmentType]
    if RULE != PLAIN and mark_ptr is not None and WATCH:
        wanted = tl.load(mark_ptr + tl.program_id(0))
    if wanted != 0:
        beyond = _recurrent_fwd_walk(
            ptrs, row_ptrs, decay_ptrs, first_ptrs, last_ptrs, count_ptr, numbers, sent_ptr,
            quantum, start, N, T, C, flags, RULE, FORM, DOT,
            BLOCK_M, BLOCK_N, BLOCK_K, STAGES)  # fmt: skip
        if RULE == PLAIN:
            tl.store(mark_ptr + tl.program_id(0), beyond)


_recurrent_fwd_kernel.registers_of = {256: 176}  # without a limit some forms take more to no end


@jit
def _decays_of(ptr, n, per, C):
    """Load the decays of neurons, in a row."""
    return tl.load(ptr + (n // per)[None, :], mask=(n < C)[None, :], other=0.0)


@jit
def _recurrent_bwd_kernel(
    g_ptr,  # [N, T, C] float32: gradient of the spikes, ``lag`` rows late
    r_ptr, r_im_ptr,  # [neurons, neurons] of type DOT: R, or None
    slope_re_ptr, slope_ptr,  # [N, T, C] float32
    series_a_ptr, series_b_ptr,  # [N, T, C] float32, or None where the decays are not learned
    decay_a_ptr, decay_b_ptr,  # [1] or [channels] float32
    gx_ptr, gx_im_ptr,  # [N, T, C] float32, out; the second for resonators
    partial_a_ptr, partial_b_ptr,  # [N, C] float32, out, or None: decay gradients, not reduced
    carry_a_ptr, carry_b_ptr,  # [N, C] float32, in and out, or None: gradients of the states
    sent_ptr,  # [parts, 2, 3, samples, neurons] of type DOT, filled up, or None: g_x as terms
    room_ptr,  # [C] float32, or None where feedback is not limited
    per, lag,
    start,  # step of this launch, the last one is 0; None: all of them
    N, T, C,
    COMPLEX: tl.constexpr, PHASE: tl.constexpr, FULL: tl.constexpr,
    FORM: tl.constexpr, DOT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    AHEAD: tl.constexpr = 1 if FORM == SPLIT else STAGES  # pyright: ignore[reportAssignmentType]
    begin, steps = 0, T
    if start is not None:
        begin, steps = start, 1
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    if FORM == SPLIT:
        n += tl.program_id(1) * BLOCK_N
    first = tl.program_id(0) * BLOCK_M
    here = (first + m < N)[:, None]
    live = here & (n < C)[None, :]
    base = first.to(tl.int64) * T * C
    at = m[:, None] * (T * C) + n[None, :]
    j = (first + m)[:, None] * C + n[None, :]
    if FULL and FORM == RESIDENT:
        k_a = _decays_of(decay_a_ptr, n, per, C)
        k_b = _decays_of(decay_b_ptr, n, per, C)
    if room_ptr is not None:
        room = tl.load(room_ptr + n[None, :], mask=(n < C)[None, :], other=1.0)
    zero = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    g_a, g_b, p_a, p_b, fed = zero, zero, zero, zero, zero
    if FORM == RESIDENT:
        if r_ptr is not None:
            r = load_feedback(r_ptr, BLOCK_N)
        if r_im_ptr is not None:
            r_im = load_feedback(r_im_ptr, BLOCK_N)
    if FORM == SPLIT:
        behind = live & (m[:, None] * 0 + begin > 0)  # a launch was before this one
        if carry_a_ptr is not None:
            g_a = tl.load(carry_a_ptr + j, mask=behind, other=0.0)
            g_b = tl.load(carry_b_ptr + j, mask=behind, other=0.0)
        if partial_a_ptr is not None:
            p_a = tl.load(partial_a_ptr + j, mask=behind, other=0.0)
            p_b = tl.load(partial_b_ptr + j, mask=behind, other=0.0)
        width = sent_width(C)
        plane = tl.num_programs(0).to(tl.int64) * BLOCK_M * width
        own = first.to(tl.int64) * width
        read_ptr = sent_ptr + (begin % 2 * 3 * plane + own)
        send_ptr = sent_ptr + ((1 - begin % 2) * 3 * plane + own)
        # of each part both places for three terms
        read_im_ptr, send_im_ptr = read_ptr + 6 * plane, send_ptr + 6 * plane
    for back in tl.range(begin, begin + steps, num_stages=AHEAD):
        t = T - 1 - back
        row = at + t * C
        if FULL and FORM == SPLIT:  # here, or what is made of them would be waited for at once
            k_a = _decays_of(decay_a_ptr, n, per, C)
            k_b = _decays_of(decay_b_ptr, n, per, C)
        f = tl.load(slope_ptr + base + row, mask=live, other=0.0)
        f_re = zero
        if PHASE:
            f_re = tl.load(slope_re_ptr + base + row, mask=live, other=0.0)
        late = live & (m[:, None] * 0 + t + lag < T)
        g = tl.load(g_ptr + base + (row + lag * C), mask=late, other=0.0)
        if partial_a_ptr is not None:
            y_a = tl.load(series_a_ptr + base + row, mask=live, other=0.0)
            y_b = tl.load(series_b_ptr + base + row, mask=live, other=0.0)
        if FORM == SPLIT:
            if r_ptr is not None:
                fed, _ = add_sent(
                    fed, read_ptr, plane, r_ptr, n, C, DOT, False, BLOCK_M, BLOCK_K, STAGES
                )
            if r_im_ptr is not None:
                fed, _ = add_sent(
                    fed, read_im_ptr, plane, r_im_ptr, n, C, DOT, False,
                    BLOCK_M, BLOCK_K, STAGES)  # fmt: skip
            fed = tl.where(m[:, None] * 0 + back > 0, fed, 0.0)
        if room_ptr is not None:
            fed = limited(fed, tl.abs(f_re) + tl.abs(f), room)
        g += fed
        if partial_a_ptr is not None:  # g_a and g_b still belong to the step after
            if COMPLEX:
                p_a += g_b * y_a - g_a * y_b
                p_b += g_a * y_a + g_b * y_b
            else:
                p_a += g_b * y_a
                p_b += g_a * y_b
        if COMPLEX:
            gx, gx_im = f_re * g, f * g
            if not PHASE:  # nothing, but where the gradient is not a number
                gx = less_itself(gx_im)
            if FULL:
                rate_a, rate_b = fraction_of(multiplier_of(k_a)), fraction_of(multiplier_of(k_b))
                g_a, g_b = rotate_bwd(g_a, g_b, rate_a, rate_b, gx, gx_im)
                gx, gx_im = g_a, g_b
            store_tile(gx_im_ptr, base + row, gx_im, live)
        else:
            gx = f * g
            if FULL:
                rate_a, rate_b = fraction_of(keep_of(k_a)), fraction_of(keep_of(k_b))
                g_a, g_b = cuba_step_dynamics_bwd(g_a, g_b, gx, 0.0, rate_a, rate_b)
                gx = g_b
        store_tile(gx_ptr, base + row, gx, live)
        if FORM == SPLIT:
            sent_at = m[:, None] * width + n[None, :]
            if r_ptr is not None:
                send(send_ptr, plane, sent_at, gx, live, DOT)
            if r_im_ptr is not None:
                send(send_im_ptr, plane, sent_at, gx_im, live, DOT)
        fed = zero
        if FORM == RESIDENT:
            if r_ptr is not None:
                fed = add_product(gx, r, fed, DOT)
            if r_im_ptr is not None:
                fed = add_product(gx_im, r_im, fed, DOT)
    store_tile(carry_a_ptr, j, g_a, live)
    store_tile(carry_b_ptr, j, g_b, live)
    store_tile(partial_a_ptr, j, p_a, live)
    store_tile(partial_b_ptr, j, p_b, live)
