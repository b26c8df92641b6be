"""Resonators: kernels and operators of RF, RF-Izhikevich, ADRF and ADRF-Izhikevich neurons.

Equations and step functions: resonator_steps.py. The functions to call: rf.py and rf_iz.py.
"""

from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    calm_or_infinite, derivative, fraction_of, jit, keep_of, kernel_op, lanes, larger, less_itself,
    load_last, load_or_zero, load_rows, multiplier_of, not_calm, one_unit, rest_of, store_row,
    store_spike, tl, to_real, to_state, walk_backward, walk_forward, watch_at_first, with_care,
)  # fmt: skip

from .adaptive_threshold import (
    margin_above,
    threshold_at_first,
    threshold_gradients,
    threshold_misfits,
    threshold_reach,
)
from .decays import learned_decays
from .resonator_steps import (
    after_spike,
    resonator_after,
    resonator_spike_bwd,
    resonator_step,
    rotate_bwd,
    rotation_misfits,
    turning_gain,
)

# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def _resonator_fwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    re, im, th, r, last, top = carry
    sin, cos, keep_th, keep_r, theta, step, scale = fixed
    PHASE: tl.constexpr = flags[0]
    ADAPT: tl.constexpr = flags[1]
    GRADED: tl.constexpr = flags[2]
    SHIFT: tl.constexpr = flags[3]
    EXACT: tl.constexpr = flags[4]
    RULE: tl.constexpr = flags[5]
    res = load_rows(ptrs[0], base, at, C, live, U)
    ims = load_rows(ptrs[1], base, at, C, live, U)
    if not RULE:
        for i in tl.static_range(U):
            top = larger(larger(top, res[i]), ims[i])
    for i in tl.static_range(U):
        x_re, x_im = to_state(res[i], scale, RULE), to_state(ims[i], scale, RULE)
        if RULE and ptrs[8] is not None:
            lost = rotation_misfits(re, im, sin, cos, x_re, x_im, RULE)
        re, im, th, r, tested, limit, s = resonator_step(
            re, im, th, r, x_re, x_im, sin, cos, keep_th, keep_r, theta,
            PHASE, ADAPT, RULE)  # fmt: skip
        row = at + i * C
        last = store_spike(
            ptrs[2], base, row, s, tested, last, live, scale,
            GRADED, SHIFT, EXACT, RULE)  # fmt: skip
        store_row(ptrs[3], base, row, to_real(re, scale, EXACT, RULE), live)
        store_row(ptrs[4], base, row, to_real(im, scale, EXACT, RULE), live)
        margin = margin_above(tested, limit, RULE)
        store_row(ptrs[5], base, row, to_real(margin, scale, EXACT, RULE), live)
        store_row(ptrs[6], base, row, to_real(th, scale, EXACT, RULE), live)
        store_row(ptrs[7], base, row, to_real(r, scale, EXACT, RULE), live)
        re, im, th, r = resonator_after(
            re, im, th, r, s, tested, theta, step, PHASE, ADAPT, RULE)  # fmt: skip
        if RULE and ptrs[8] is not None:
            if ADAPT:
                lost = lost | threshold_misfits(th, r)
            top += lost
    return re, im, th, r, last, top


@jit
def _resonator_fwd_walk(
    ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T, C, M, flags: tl.constexpr,
    RULE: tl.constexpr, CARE: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    per, scale, theta, step = numbers
    PHASE: tl.constexpr = flags[0]
    ADAPT: tl.constexpr = flags[1]
    GRADED: tl.constexpr = flags[2]
    SHIFT: tl.constexpr = flags[3]
    EXACT: tl.constexpr = flags[4]
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    sin = tl.load(decay_ptrs[0] + c // per, mask=live, other=0.0)
    cos = tl.load(decay_ptrs[1] + c // per, mask=live, other=0.0)
    rest = rest_of(sin, cos)
    sin, cos = multiplier_of(sin), multiplier_of(cos)
    keep_th, keep_r = sin, sin
    if ADAPT:
        decay_th = tl.load(decay_ptrs[2] + c // per, mask=live, other=0.0)
        decay_r = tl.load(decay_ptrs[3] + c // per, mask=live, other=0.0)
        keep_th, keep_r = keep_of(decay_th), keep_of(decay_r)
        rest += rest_of(decay_th, decay_r)
    re = rest + load_or_zero(first_ptrs[0], j, live, rest)
    im = rest + load_or_zero(first_ptrs[1], j, live, rest)
    th, th0 = threshold_at_first(first_ptrs[2], j, live, rest, theta, scale, RULE)
    r0 = rest + load_or_zero(first_ptrs[3], j, live, rest)
    top = larger(larger(one_unit(scale), re), im)
    if ADAPT:
        reach = threshold_reach(th0, r0, theta, step, keep_th, keep_r, scale, T)
        top = larger(top, calm_or_infinite(reach))
    elif not PHASE:
        top = larger(top, after_spike(theta, scale))
    re, im, th, r, _, top = walk_forward(
        _resonator_fwd_rows,
        (to_state(re, scale, RULE), to_state(im, scale, RULE), th, to_state(r0, scale, RULE),
         tl.zeros_like(re), watch_at_first(top, ptrs[8], RULE)), ptrs,
        (sin, cos, keep_th, keep_r, theta, step, scale),
        base, at, live, T, C, (PHASE, ADAPT, GRADED, SHIFT, EXACT, RULE), U, STAGES)  # fmt: skip
    store_row(last_ptrs[0], 0, j, to_real(re, scale, EXACT, RULE), live)
    store_row(last_ptrs[1], 0, j, to_real(im, scale, EXACT, RULE), live)
    store_row(last_ptrs[2], 0, j, to_real(th, scale, EXACT, RULE), live)
    store_row(last_ptrs[3], 0, j, to_real(r, scale, EXACT, RULE), live)
    if RULE:
        store_row(ptrs[8], 0, j, top, live)
    return not_calm(top, turning_gain(sin, cos, T), scale, CARE)


@jit
def _resonator_fwd_kernel(
    x_re_ptr, x_im_ptr,  # [N, T, C] float32: input
    spike_ptr,  # [N, T, C] float32, out, or None
    re_ptr, im_ptr,  # [N, T, C] float32, out, or None: state before the reset
    distance_ptr,  # [N, T, C] float32, out, or None: above an adaptive threshold
    th_ptr, r_ptr,  # [N, T, C] float32, out, or None: adaptive threshold before the spike
    sin_ptr, cos_ptr,  # [1] or [channels] float32, 0..4096
    threshold_decay_ptr, refractory_decay_ptr,  # the same, or None
    re0_ptr, im0_ptr, th0_ptr, r0_ptr,  # [N, C] float32 or None: state before the first step
    re1_ptr, im1_ptr, th1_ptr, r1_ptr,  # [N, C] float32, out, or None: after the last step
    count_ptr,  # [N, C] int32 of zeros, out, or None: steps that did not fit
    per, scale, theta, step, T, C, M,
    PHASE: tl.constexpr, ADAPT: tl.constexpr,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, EXACT: tl.constexpr, CARE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    with_care(
        _resonator_fwd_walk,
        (x_re_ptr, x_im_ptr, spike_ptr, re_ptr, im_ptr, distance_ptr, th_ptr, r_ptr, count_ptr),
        (sin_ptr, cos_ptr, threshold_decay_ptr, refractory_decay_ptr),
        (re0_ptr, im0_ptr, th0_ptr, r0_ptr), (re1_ptr, im1_ptr, th1_ptr, r1_ptr),
        (per, scale, theta, step), T, C, M, (PHASE, ADAPT, GRADED, SHIFT, EXACT),
        CARE, U, STAGES, BLOCK)  # fmt: skip


_resonator_fwd_kernel.registers = 88  # the careful walk would take more, and slow the other down


@jit
def _resonator_bwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    g_re, g_im, a_sin, a_cos, g_later = carry
    sin, cos, threshold, height, excess, rate = fixed
    PHASE: tl.constexpr = flags[0]
    GRADED: tl.constexpr = flags[1]
    SHIFT: tl.constexpr = flags[2]
    LEARN: tl.constexpr = flags[3]
    SHAPE: tl.constexpr = flags[4]
    gs = load_rows(ptrs[0], base, at, C, live, U)
    d_res = load_rows(ptrs[1], base, at, C, live, U)
    d_ims = load_rows(ptrs[2], base, at, C, live, U)
    res = load_rows(ptrs[3], base, at, C, live, U)
    ims = load_rows(ptrs[4], base, at, C, live, U)
    distances = load_rows(ptrs[5], base, at, C, live, U)
    for i in tl.static_range(U - 1, -1, -1):
        if LEARN:  # g_re and g_im still belong to the step after
            a_sin += g_im * res[i] - g_re * ims[i]
            a_cos += g_re * res[i] + g_im * ims[i]
        if ptrs[0] is not None:
            g_s = gs[i]
            if SHIFT:
                g_s = g_later
                g_later = gs[i]
            if ptrs[5] is not None:
                distance = distances[i]
            elif PHASE:
                distance = res[i] - threshold
            else:
                distance = ims[i] - threshold
            im = distance
            if PHASE:
                im = ims[i]
            d_re, d_im = resonator_spike_bwd(
                g_s, distance, im, height, excess, rate, PHASE, GRADED, SHAPE)  # fmt: skip
        else:
            d_re, d_im = d_res[i], d_ims[i]
        g_re, g_im = rotate_bwd(g_re, g_im, sin, cos, d_re, d_im)
        store_row(ptrs[6], base, at + i * C, g_re, live)
        store_row(ptrs[7], base, at + i * C, g_im, live)
    return g_re, g_im, a_sin, a_cos, g_later


@jit
def _resonator_bwd_kernel(
    g_spike_ptr,  # [N, T, C] float32, or None: then the two below
    g_re_ptr, g_im_ptr,  # [N, T, C] float32, or None
    re_ptr, im_ptr, distance_ptr,  # [N, T, C] float32, or None where not needed
    gx_re_ptr, gx_im_ptr,  # [N, T, C] float32, out
    sin_ptr, cos_ptr,  # [1] or [channels] float32
    a_sin_ptr, a_cos_ptr,  # [N, C] float32, out, or None: decay gradients, not reduced
    per, threshold, height, excess, rate, T, C, M,
    PHASE: tl.constexpr, GRADED: tl.constexpr, SHIFT: tl.constexpr, LEARN: tl.constexpr,
    SHAPE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    sin = fraction_of(multiplier_of(tl.load(sin_ptr + c // per, mask=live, other=0.0)))
    cos = fraction_of(multiplier_of(tl.load(cos_ptr + c // per, mask=live, other=0.0)))
    rest = tl.zeros([BLOCK], tl.float32)
    g_re, g_im, a = rest, rest, rest
    if re_ptr is not None:
        a += less_itself(load_last(re_ptr, base, at, live, T, C))
    if im_ptr is not None:
        a += less_itself(load_last(im_ptr, base, at, live, T, C))
    if distance_ptr is not None:
        a += less_itself(load_last(distance_ptr, base, at, live, T, C))
    if g_spike_ptr is not None:
        g_re, g_im = a, a
    _, _, a_sin, a_cos, _ = walk_backward(
        _resonator_bwd_rows, (g_re, g_im, a, a, rest),
        (g_spike_ptr, g_re_ptr, g_im_ptr, re_ptr, im_ptr, distance_ptr, gx_re_ptr, gx_im_ptr),
        (sin, cos, threshold, height, excess, rate),
        base, at, live, T, C, (PHASE, GRADED, SHIFT, LEARN, SHAPE), U, STAGES)  # fmt: skip
    store_row(a_sin_ptr, 0, j, a_sin, live)
    store_row(a_cos_ptr, 0, j, a_cos, live)


_resonator_bwd_kernel.registers = 88


# The operators


@kernel_op(
    _resonator_fwd_kernel, samples="x_re x_im real0 imag0 threshold0 refractory0",
    outputs={  # dynamics want the states; spikes want what the surrogate needs, and learning
        "spikes": "[N, T, C] if spiking",
        "real": "[N, T, C] if not spiking or learning or (save and phase and not adapt)",
        "imag": "[N, T, C] if not spiking or learning or (save and (phase or not adapt))",
        "distance": "[N, T, C] if save and adapt",
        "threshold_series refractory": "[N, T, C] if adapt and not spiking",
        "real1 imag1": "[N, C] if final", "threshold1 refractory1": "[N, C] if final and adapt",
        "misfits": "[N, C] int32 zeros if count",
    },
    values={
        "spike": "spikes", "re": "real", "im": "imag", "th": "threshold_series", "r": "refractory",
        "sin": "sin_decay", "cos": "cos_decay", "re0": "real0", "im0": "imag0",
        "th0": "threshold0", "r0": "refractory0", "re1": "real1", "im1": "imag1",
        "th1": "threshold1", "r1": "refractory1", "count": "misfits",
    },
    where={"adapt": "threshold_decay is not None"},
    at_rest={"threshold1": "theta / scale"},
)  # fmt: skip
def resonator_fwd(
    x_re: Tensor, x_im: Tensor, sin_decay: Tensor, cos_decay: Tensor,
    threshold_decay: Tensor | None, refractory_decay: Tensor | None,
    real0: Tensor | None, imag0: Tensor | None,
    threshold0: Tensor | None, refractory0: Tensor | None,
    scale: float, theta: int, step: int, phase: bool,
    spiking: bool, save: bool, learning: bool, final: bool, graded: bool, shift: bool,
    threshold: float, height: float, excess: float, rate: float, surrogate: str,
    care: int, count: bool,
):  # fmt: skip
    """Walk forward; what only backward needs is handed on."""


@kernel_op(
    _resonator_bwd_kernel, samples="g_spikes g_real g_imag real imag distance",
    outputs={"gx_re gx_im": "[N, T, C]", "a_sin a_cos": "[N, C] if learning"},
    values={
        "g_spike": "g_spikes", "g_re": "g_real", "g_im": "g_imag", "re": "real", "im": "imag",
        "sin": "sin_decay", "cos": "cos_decay", "LEARN": "learning",
    },
)  # fmt: skip
def resonator_bwd(
    g_spikes: Tensor | None, g_real: Tensor | None, g_imag: Tensor | None,
    real: Tensor | None, imag: Tensor | None, distance: Tensor | None,
    sin_decay: Tensor, cos_decay: Tensor,
    threshold: float, height: float, excess: float, rate: float, surrogate: str,
    phase: bool, graded: bool, shift: bool, learning: bool,
):  # fmt: skip
    """Walk backward."""


@derivative(resonator_fwd, resonator_bwd, keep_outputs="spiking or learning")
def _resonator_gradients(back):
    of_threshold = threshold_gradients(back)
    learning = back.wants("sin_decay", "cos_decay")
    if not (learning or back.wants("x_re", "x_im")):  # the states were not kept
        return of_threshold
    gx_re, gx_im, a_sin, a_cos = back.run(learning=learning)
    rotation = learned_decays(back, 1.0, sin_decay=a_sin, cos_decay=a_cos)
    return {"x_re": gx_re, "x_im": gx_im, **rotation, **of_threshold}
