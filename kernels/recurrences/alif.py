"""ALIF: leaky integrate-and-fire neuron with an adaptive threshold, Loihi fixed point.

Forward (int32, 1 unit = 1 / scale):

    u[t] = D(u[t-1], a_u) + x[t]               synaptic current
    v[t] = D(v[t-1], a_v) + u[t]               membrane voltage; a spike does not reset it
    s[t] = v[t] >= th[t] + r[t]                spike; graded: s[t] v[t]
    D(y, a) = trunc(y * (4096 - a) / 4096)     decay, toward zero

Threshold th and refractory r rise at a spike and decay, see adaptive_threshold.py.

Backward (float32). As in lava-dl, neither the truncation nor the threshold is differentiated; rho
is the surrogate gradient:

    g_v[t] = (1 - a_v / 4096) g_v[t+1] + rho(v[t] - th[t] - r[t]) g_s[t]
    g_u[t] = (1 - a_u / 4096) g_u[t+1] + g_v[t]          = g_x[t]
    g_a_v = -sum g_v[t+1] v[t],    g_a_u = -sum g_u[t+1] u[t]

The decay gradients are per unit of a / 4096; those of the threshold's decays are zero. The current
is not kept: integers make the update invertible, u[t] = v[t] - D(v[t-1], a_v).

Source: lava-dl neuron/alif.py, neuron/dynamics/adaptive_threshold.py, spike/spike.py.
"""

from typing import Any

from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    DEFAULT, SATURATE, both, calm_or_infinite, decay, derivative, fraction_of, from_rows,
    from_state_rows, gradient_after, is_learned, jit, keep_of, kept, kernel_op, lanes, larger,
    load_last, load_or_zero, load_rows, not_calm, plus, rest_of, results, state_rows, store_row,
    store_spike, surrogate, surrogate_constants, tl, to_next, to_real, to_rows, to_state, units_of,
    walk_backward, walk_forward, watch_at_first, with_care, with_reference,
)  # fmt: skip

from .adaptive_threshold import (
    USUAL_THRESHOLD,
    adaptive_threshold,
    largest_threshold,
    margin_above,
    rise,
    settle,
    tested_against,
    threshold_at_first,
    threshold_gradients,
    threshold_misfits,
    threshold_reach,
)
from .cuba import cuba_dynamics, cuba_gain, cuba_misfits
from .decays import decay_sign, learned_decays
from .declared import Recurrence


@jit
def alif_step(
    u, v, th, r, x, keep_u, keep_v, keep_th, keep_r, theta, step, scale,
    EXACT: tl.constexpr, RULE: tl.constexpr,
):  # fmt: skip
    """Advance one step, int32; ``keep`` is 4096 minus the decay.

    Returns the state, the margin (voltage above threshold and refractory), what is sent where there
    is a spike, and the spike.
    """
    u = plus(kept(u, keep_u, RULE), x, RULE)
    v = plus(kept(v, keep_v, RULE), to_next(u, scale, EXACT, RULE), RULE)
    th, r = settle(th, r, theta, keep_th, keep_r, RULE)
    limit = plus(th, r, RULE)
    sent = tested_against(v, limit, RULE)
    s = to_next(v, scale, EXACT, RULE) >= limit
    th, r = rise(th, r, s, sent, step, RULE)
    return u, v, th, r, margin_above(sent, limit, RULE), sent, s


@jit
def alif_step_bwd(
    g_v, g_u, g_s, margin, lam_u, lam_v, height, rate, GRADED: tl.constexpr, SHAPE: tl.constexpr
):
    """Go back one step, float32; ``lam`` is 1 minus the decay."""
    g_v = lam_v * g_v + surrogate(margin, height, rate, GRADED, SHAPE) * g_s
    return g_v, lam_u * g_u + g_v


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def _alif_fwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    u, v, th, r, last, top = carry
    keep_u, keep_v, keep_th, keep_r, theta, step, scale = fixed
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    EXACT: tl.constexpr = flags[2]
    RULE: tl.constexpr = flags[3]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    if not RULE:
        for i in tl.static_range(U):
            top = larger(top, xs[i])
    for i in tl.static_range(U):
        x, u0, v0 = to_state(xs[i], scale, RULE), u, v
        u, v, th, r, margin, sent, s = alif_step(
            u, v, th, r, x, keep_u, keep_v, keep_th, keep_r,
            theta, step, scale, EXACT, RULE)  # fmt: skip
        if RULE and ptrs[4] is not None:
            lost = cuba_misfits(u0, v0, x, u, keep_u, keep_v, scale, EXACT, RULE)
            top += lost | threshold_misfits(th, r)
        row = at + i * C
        last = store_spike(
            ptrs[1], base, row, s, sent, last, live, scale, GRADED, SHIFT, EXACT, RULE)  # fmt: skip
        store_row(ptrs[2], base, row, margin, live)
        store_row(ptrs[3], base, row, v, live)
    return u, v, th, r, last, top


@jit
def _alif_fwd_walk(
    ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T, C, M, flags: tl.constexpr,
    RULE: tl.constexpr, CARE: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    per, scale, theta, step = numbers
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    EXACT: tl.constexpr = flags[2]
    ROWS: tl.constexpr = U if EXACT else (U + 1) // 2  # divisions leave too few registers for more
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    decay_u = tl.load(decay_ptrs[0] + c // per, mask=live, other=0.0)
    decay_v = tl.load(decay_ptrs[1] + c // per, mask=live, other=0.0)
    decay_th = tl.load(decay_ptrs[2] + c // per, mask=live, other=0.0)
    decay_r = tl.load(decay_ptrs[3] + c // per, mask=live, other=0.0)
    keep_u, keep_v = keep_of(decay_u), keep_of(decay_v)
    keep_th, keep_r = keep_of(decay_th), keep_of(decay_r)
    rest = rest_of(decay_u, decay_v) + rest_of(decay_th, decay_r)
    u = rest + load_or_zero(first_ptrs[0], j, live, rest)
    v = rest + load_or_zero(first_ptrs[1], j, live, rest)
    th, th0 = threshold_at_first(first_ptrs[2], j, live, rest, theta, scale, RULE)
    r0 = rest + load_or_zero(first_ptrs[3], j, live, rest)
    reach = threshold_reach(th0, r0, theta, step, keep_th, keep_r, scale, T)
    u, v, th, r, _, top = walk_forward(
        _alif_fwd_rows,
        (to_state(u, scale, RULE), to_state(v, scale, RULE), th, to_state(r0, scale, RULE),
         tl.zeros_like(u),
         watch_at_first(larger(calm_or_infinite(reach), both(u, v)), ptrs[4], RULE)), ptrs,
        (keep_u, keep_v, keep_th, keep_r, theta, step, scale),
        base, at, live, T, C, (GRADED, SHIFT, EXACT, RULE), ROWS, STAGES)  # fmt: skip
    store_row(last_ptrs[0], 0, j, to_real(u, scale, EXACT, RULE), live)
    store_row(last_ptrs[1], 0, j, to_real(v, scale, EXACT, RULE), live)
    store_row(last_ptrs[2], 0, j, to_real(th, scale, EXACT, RULE), live)
    store_row(last_ptrs[3], 0, j, to_real(r, scale, EXACT, RULE), live)
    if RULE:
        store_row(ptrs[4], 0, j, top, live)
    return not_calm(top, cuba_gain(keep_u, keep_v, T), scale, CARE)


@jit
def _alif_fwd_kernel(
    x_ptr,  # [N, T, C] float32: weighted input
    spike_ptr,  # [N, T, C] float32, out
    margin_ptr,  # [N, T, C] int32, out, or None: voltage above the threshold, kept for backward
    saved_ptr,  # [N, T, C] int32, out, or None: voltage, kept for learned decays
    current_decay_ptr, voltage_decay_ptr,  # [1] or [channels] float32, 0..4096
    threshold_decay_ptr, refractory_decay_ptr,  # the same
    current0_ptr, voltage0_ptr,  # [N, C] float32 or None: state before the first step
    threshold0_ptr, refractory0_ptr,  # the same
    current1_ptr, voltage1_ptr,  # [N, C] float32, out, or None: state after the last step
    threshold1_ptr, refractory1_ptr,  # the same
    count_ptr,  # [N, C] int32 of zeros, out, or None: steps that did not fit
    per, scale, theta, step, T, C, M,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, EXACT: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    with_care(
        _alif_fwd_walk, (x_ptr, spike_ptr, margin_ptr, saved_ptr, count_ptr),
        (current_decay_ptr, voltage_decay_ptr, threshold_decay_ptr, refractory_decay_ptr),
        (current0_ptr, voltage0_ptr, threshold0_ptr, refractory0_ptr),
        (current1_ptr, voltage1_ptr, threshold1_ptr, refractory1_ptr),
        (per, scale, theta, step), T, C, M, (GRADED, SHIFT, EXACT), SATURATE,
        U, STAGES, BLOCK)  # fmt: skip


_alif_fwd_kernel.registers = 72  # the careful walk would take more, and slow the other down


@jit
def _alif_bwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    g_v, g_u, a_v, a_u, g_later = carry
    keep_v, lam_u, lam_v, v0, unit, height, rate = fixed
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    DECAYS: tl.constexpr = flags[2]
    SHAPE: tl.constexpr = flags[3]
    gs = load_rows(ptrs[0], base, at, C, live, U)
    margins = load_rows(ptrs[1], base, at, C, live, U)
    vs = load_rows(ptrs[2], base, at, C, live, U)
    us = ()
    if DECAYS:
        before = live & (at * 0 + t > 0)
        v = tl.where(before, tl.load(ptrs[2] + base + (at - C), mask=before, other=0), v0)
        for i in tl.static_range(U):
            us = us + (vs[i] - decay(v, keep_v),)  # noqa: RUF005 (Triton knows no starred tuples)
            v = vs[i]
    for i in tl.static_range(U - 1, -1, -1):
        if DECAYS:  # g_v and g_u still belong to the step after
            a_v += g_v * vs[i].to(tl.float32)
            # pyright takes the tuple for empty, which it is not where DECAYS holds
            a_u += g_u * us[i].to(tl.float32)  # pyright: ignore[reportAttributeAccessIssue]
        g_s = gs[i]
        if SHIFT:
            g_s = g_later
            g_later = gs[i]
        margin = margins[i].to(tl.float32) * unit
        g_v, g_u = alif_step_bwd(g_v, g_u, g_s, margin, lam_u, lam_v, height, rate, GRADED, SHAPE)
        store_row(ptrs[3], base, at + i * C, g_u, live)
    return g_v, g_u, a_v, a_u, g_later


@jit
def _alif_bwd_kernel(
    g_spike_ptr,  # [N, T, C] float32
    margin_ptr,  # [N, T, C] int32
    saved_ptr,  # [N, T, C] int32, or None where the decays are not learned
    gx_ptr,  # [N, T, C] float32, out
    current_decay_ptr, voltage_decay_ptr,  # [1] or [channels] float32
    voltage0_ptr,  # [N, C] float32 or None
    a_current_ptr, a_voltage_ptr,  # [N, C] float32, out, or None: decay gradients, not reduced
    per, scale, unit, height, rate, T, C, M,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, DECAYS: tl.constexpr, SHAPE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    keep_v = keep_of(tl.load(voltage_decay_ptr + c // per, mask=live, other=0.0))
    lam_u = fraction_of(keep_of(tl.load(current_decay_ptr + c // per, mask=live, other=0.0)))
    lam_v = fraction_of(keep_v)
    rest = tl.zeros([BLOCK], tl.float32)
    v0 = to_state(load_or_zero(voltage0_ptr, j, live, rest), scale, SATURATE)
    behind = gradient_after(load_last(margin_ptr, base, at, live, T, C))
    _, _, a_v, a_u, _ = walk_backward(
        _alif_bwd_rows, (behind, rest, rest, rest, rest),
        (g_spike_ptr, margin_ptr, saved_ptr, gx_ptr),
        (keep_v, lam_u, lam_v, v0, unit, height, rate),
        base, at, live, T, C, (GRADED, SHIFT, DECAYS, SHAPE), U, STAGES)  # fmt: skip
    store_row(a_current_ptr, 0, j, a_u * unit, live)
    store_row(a_voltage_ptr, 0, j, a_v * unit, live)


# The operators


@kernel_op(
    _alif_fwd_kernel, samples="x current0 voltage0 threshold0 refractory0",
    outputs={
        "spikes": "[N, T, C]", "margin": "[N, T, C] int32 if save",
        "saved": "[N, T, C] int32 if learning",
        "current1 voltage1 threshold1 refractory1": "[N, C] if final",
        "misfits": "[N, C] int32 zeros if count",
    },
    values={"spike": "spikes", "count": "misfits"},
    at_rest={"threshold1": "theta / scale"},
)  # fmt: skip
def alif_fwd(
    x: Tensor, current_decay: Tensor, voltage_decay: Tensor,
    threshold_decay: Tensor, refractory_decay: Tensor,
    current0: Tensor | None, voltage0: Tensor | None,
    threshold0: Tensor | None, refractory0: Tensor | None,
    scale: float, theta: int, step: int,
    save: bool, learning: bool, final: bool, graded: bool, shift: bool,
    height: float, rate: float, surrogate: str, decay_sign: float, count: bool,
):  # fmt: skip
    """Walk forward; what only backward needs is handed on."""


@kernel_op(
    _alif_bwd_kernel, samples="g_spikes margin saved voltage0",
    outputs={"gx": "[N, T, C]", "a_current a_voltage": "[N, C] if saved is not None"},
    values={"g_spike": "g_spikes", "DECAYS": "saved is not None"},
)  # fmt: skip
def alif_bwd(
    g_spikes: Tensor, margin: Tensor, saved: Tensor | None,
    current_decay: Tensor, voltage_decay: Tensor, voltage0: Tensor | None,
    scale: float, height: float, rate: float, surrogate: str, graded: bool, shift: bool,
):  # fmt: skip
    """Walk backward."""


@derivative(alif_fwd, alif_bwd)
def _alif_gradients(back):
    gx, a_current, a_voltage = back.run()
    decays = learned_decays(
        back, back.decay_sign, current_decay=a_current, voltage_decay=a_voltage
    )  # fmt: skip
    return {"x": gx, **decays, **threshold_gradients(back)}


State = tuple[Tensor, Tensor, Tensor, Tensor]  # current, voltage, threshold, refractory


@with_reference
def alif(
    x: Tensor, current_decay: Tensor, voltage_decay: Tensor,
    threshold_decay: Tensor, refractory_decay: Tensor,
    threshold: float, threshold_step: float, scale: int, *,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: State | None = None, return_state: bool = False, count: bool = False,
) -> Any:  # fmt: skip
    """Run ALIF neurons over time: current, voltage, adaptive threshold and spike in one pass.

    Parameters and results are those of ``lapilli.kernels.recurrences.cuba.cuba``, but for these.

    Parameters
    ----------
    threshold_decay, refractory_decay
        Of the size of ``current_decay``, 0..4096; they get a gradient of zero.
    threshold
        Threshold at rest, a multiple of ``1 / scale``; a voltage that reaches it spikes.
    threshold_step
        What a spike adds to the threshold, a multiple of ``1 / scale``.
    state
        Current, voltage, threshold and refractory ``[N, neurons...]`` before the first step; rest
        if None: ``threshold`` and zeros. No gradient flows into it.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.alif import alif
    >>> half, x = torch.tensor([2048.0]), torch.ones(1, 1, 6)  # decays in 1/4096
    >>> alif(x, half, half, half, half, threshold=1.0, threshold_step=0.5, scale=4096)
    tensor([[[1., 0., 1., 1., 1., 0.]]])
    """
    height, rate = surrogate_constants(tau_rho, scale_rho, graded, surrogate)
    decays = current_decay, voltage_decay, threshold_decay, refractory_decay
    saving = is_learned(x, *decays)
    learning = is_learned(current_decay, voltage_decay)
    initial = (None,) * 4 if state is None else map(state_rows, state)
    spikes, _, _, *last, misfits = alif_fwd(
        to_rows(x), *decays, *initial, scale, units_of(threshold, scale),
        units_of(threshold_step, scale), saving, learning, return_state, graded, shift,
        height, rate, surrogate, decay_sign(), count,
    )  # fmt: skip
    spikes = from_rows(spikes, x.shape[1:-1])
    states = tuple(from_state_rows(s, x) for s in last) if return_state else None
    return results(spikes, states, from_state_rows(misfits, x) if count else None)


@with_reference
def alif_dynamics(
    x: Tensor, current_decay: Tensor, voltage_decay: Tensor,
    threshold_decay: Tensor, refractory_decay: Tensor,
    threshold: float, threshold_step: float, scale: int, *,
    state: State | None = None, count: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return current, voltage, threshold and refractory before each spike.

    All are ``[N, neurons..., T]``; the first two are differentiable. Parameters are those of
    ``alif``; with ``count`` also how many steps of each neuron had a current or a voltage that did
    not fit.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.alif import alif_dynamics
    >>> half, x = torch.tensor([2048.0]), torch.full((1, 1, 4), 2.0)
    >>> alif_dynamics(x, half, half, half, half, 1.0, threshold_step=0.5, scale=4096)[2]
    tensor([[[1.0000, 1.2500, 1.3750, 1.4375]]])
    """
    current, voltage, *others = cuba_dynamics(
        x, current_decay, voltage_decay, None, scale, state=state and state[:2], count=count
    )
    th, r = adaptive_threshold(
        voltage, threshold_decay, refractory_decay, threshold, threshold_step, scale,
        state=state and state[2:],
    )  # fmt: skip
    return current, voltage, th, r, *others


ALIF = Recurrence(
    alif, alif_dynamics, kept=(4, 8), dynamics_kernels=2, resets=False, growth=largest_threshold,
    usual={"current_decay": 410, "voltage_decay": 164} | USUAL_THRESHOLD,
)  # fmt: skip
