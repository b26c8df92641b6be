"""Leaky integrator, Loihi fixed point: one first-order filter, with or without spike and reset.

Forward (int32, 1 unit = 1 / scale; theta is the lowest state that spikes):

    y[t] = D(w[t-1], a) + x[t]                 state, before reset
    s[t] = y[t] >= theta                       spike; graded: s[t] y[t]
    w[t] = 0 if s[t] else y[t]                 state, after reset
    D(y, a) = trunc(y * (4096 - a) / 4096)     decay, toward zero

Backward (float32); neither reset nor truncation is differentiated, rho is the surrogate gradient:

    g_x[t] = (1 - a / 4096) g_x[t+1] + rho(y[t]) g_s[t]      or g_y[t] in place of the second term
    g_a = -sum g_x[t+1] y[t]                                 per unit of a / 4096

A CUBA neuron with a norm between its filters is two of these; without one it is one kernel.

Source: lava-dl neuron/dynamics/leaky_integrator.py, spike/spike.py.
"""

from typing import Any

from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    DEFAULT, EPSILON, NEVER, SATURATE, clipped, derivative, fraction_of, from_rows,
    from_state_rows, gathered, gradient_after, is_learned, jit, keep_of, kept, kernel_op, lanes,
    larger, load_last, load_or_zero, load_rows, lowest_spiking, misfit, not_calm, plus, rest_of,
    results, rule_of, state_rows, store_row, store_spike, surrogate, surrogate_constants, tl,
    to_real, to_rows, to_state, walk_backward, walk_forward, watch_at_first, with_care,
    with_reference, wrapped,
)  # fmt: skip

from .decays import decay_sign, learned_decays
from .declared import Recurrence


@jit
def leaky_step(w, x, keep, theta, CURRENT: tl.constexpr, RULE: tl.constexpr):
    """Advance one step, int32; ``keep`` is 4096 minus the decay, CURRENT says what a state is."""
    y = plus(kept(w, keep, RULE), x, RULE)
    y = wrapped(y, RULE) if CURRENT else clipped(y, RULE)
    s = y >= theta
    return y, s, tl.where(s, 0, y)


@jit
def leaky_misfits(w, x, keep, RULE: tl.constexpr):
    """Return 1 where the input or the state of a step does not fit, else 0."""
    lost = misfit(x, SATURATE) | misfit(plus(kept(w, keep, RULE), x, RULE), RULE)
    return lost.to(tl.int32)


@jit
def leaky_gain(keep, T):
    """Bound the state of T steps, as a multiple of the largest input and first state."""
    return gathered(keep, T) * 2.0


@jit
def leaky_step_bwd(
    g_y, g_s, y, lam, threshold, height, rate, GRADED: tl.constexpr, SHAPE: tl.constexpr
):
    """Go back one step through the spike, float32; ``lam`` is 1 minus the decay."""
    return lam * g_y + surrogate(y - threshold, height, rate, GRADED, SHAPE) * g_s


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def _leaky_fwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    w, last, top = carry
    keep, scale, theta = fixed
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    EXACT: tl.constexpr = flags[2]
    CURRENT: tl.constexpr = flags[3]
    RULE: tl.constexpr = flags[4]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    if not RULE:
        for i in tl.static_range(U):
            top = larger(top, xs[i])
    for i in tl.static_range(U):
        x, w0 = to_state(xs[i], scale, RULE), w
        y, s, w = leaky_step(w, x, keep, theta, CURRENT, RULE)
        if RULE and ptrs[4] is not None:
            top += leaky_misfits(w0, x, keep, RULE)
        row = at + i * C
        last = store_spike(
            ptrs[1], base, row, s, y, last, live, scale, GRADED, SHIFT, EXACT, RULE)  # fmt: skip
        store_row(ptrs[2], base, row, y, live)
        store_row(ptrs[3], base, row, to_real(y, scale, EXACT, RULE), live)
    return w, last, top


@jit
def _leaky_fwd_walk(
    ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T, C, M, flags: tl.constexpr,
    RULE: tl.constexpr, CARE: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    per, scale, theta = numbers
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    EXACT: tl.constexpr = flags[2]
    CURRENT: tl.constexpr = flags[3]
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    decay = tl.load(decay_ptrs[0] + c // per, mask=live, other=0.0)
    rest, keep = rest_of(decay, decay), keep_of(decay)
    w = rest + load_or_zero(first_ptrs[0], j, live, rest)
    w, _, top = walk_forward(
        _leaky_fwd_rows,
        (to_state(w, scale, RULE), tl.zeros_like(w), watch_at_first(tl.abs(w), ptrs[4], RULE)),
        ptrs, (keep, scale, theta),
        base, at, live, T, C, (GRADED, SHIFT, EXACT, CURRENT, RULE), U, STAGES)  # fmt: skip
    store_row(last_ptrs[0], 0, j, to_real(w, scale, EXACT, RULE), live)
    if RULE:
        store_row(ptrs[4], 0, j, top, live)
    return not_calm(top, leaky_gain(keep, T), scale, CARE)


@jit
def _leaky_fwd_kernel(
    x_ptr,  # [N, T, C] float32: input
    spike_ptr,  # [N, T, C] float32, out, or None
    saved_ptr,  # [N, T, C] int32, out, or None: state before reset, kept for backward
    y_ptr,  # [N, T, C] float32, out, or None: state before reset
    decay_ptr,  # [1] or [channels] float32, 0..4096
    state0_ptr,  # [N, C] float32 or None: state before the first step
    state1_ptr,  # [N, C] float32, out, or None: state after the last step
    count_ptr,  # [N, C] int32 of zeros, out, or None: steps that did not fit
    per, scale, theta, T, C, M,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, EXACT: tl.constexpr,
    CURRENT: tl.constexpr, CARE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    with_care(
        _leaky_fwd_walk, (x_ptr, spike_ptr, saved_ptr, y_ptr, count_ptr), (decay_ptr,),
        (state0_ptr,), (state1_ptr,), (per, scale, theta), T, C, M,
        (GRADED, SHIFT, EXACT, CURRENT), CARE, U, STAGES, BLOCK)  # fmt: skip


_leaky_fwd_kernel.registers = 56  # the careful walk would take more, and slow the other down


@jit
def _leaky_bwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    g, a, g_later = carry
    lam, unit, threshold, height, rate = fixed
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    DECAYS: tl.constexpr = flags[2]
    SHAPE: tl.constexpr = flags[3]
    gs = load_rows(ptrs[0], base, at, C, live, U)
    gys = load_rows(ptrs[1], base, at, C, live, U)
    ys = load_rows(ptrs[2], base, at, C, live, U)
    for i in tl.static_range(U - 1, -1, -1):
        if DECAYS:  # g still belongs to the step after
            a += g * ys[i].to(tl.float32)
        if ptrs[0] is not None:
            g_s = gs[i]
            if SHIFT:
                g_s = g_later
                g_later = gs[i]
            y = ys[i].to(tl.float32) * unit
            g = leaky_step_bwd(g, g_s, y, lam, threshold, height, rate, GRADED, SHAPE)
        else:
            g = lam * g + gys[i]
        store_row(ptrs[3], base, at + i * C, g, live)
    return g, a, g_later


@jit
def _leaky_bwd_kernel(
    g_spike_ptr,  # [N, T, C] float32, or None: then the next
    g_y_ptr,  # [N, T, C] float32, or None
    saved_ptr,  # [N, T, C] int32, or None where neither surrogate nor decay needs it
    gx_ptr,  # [N, T, C] float32, out
    decay_ptr,  # [1] or [channels] float32
    a_ptr,  # [N, C] float32, out, or None: decay gradient, not reduced
    per, unit, threshold, height, rate, T, C, M,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, DECAYS: tl.constexpr, SHAPE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    lam = fraction_of(keep_of(tl.load(decay_ptr + c // per, mask=live, other=0.0)))
    rest = tl.zeros([BLOCK], tl.float32)
    g, a = rest, rest
    if saved_ptr is not None:
        a = gradient_after(load_last(saved_ptr, base, at, live, T, C))
        if g_spike_ptr is not None:
            g = a
    _, a, _ = walk_backward(
        _leaky_bwd_rows, (g, a, rest), (g_spike_ptr, g_y_ptr, saved_ptr, gx_ptr),
        (lam, unit, threshold, height, rate),
        base, at, live, T, C, (GRADED, SHIFT, DECAYS, SHAPE), U, STAGES)  # fmt: skip
    store_row(a_ptr, 0, j, a * unit, live)


# The operators


@kernel_op(
    _leaky_fwd_kernel, samples="x state0",
    outputs={
        "spikes": "[N, T, C] if spiking", "saved": "[N, T, C] int32 if save",
        "y": "[N, T, C] if dynamics", "state1": "[N, C] if final",
        "misfits": "[N, C] int32 zeros if count",
    },
    values={"spike": "spikes", "decay": "decays", "count": "misfits", "CURRENT": "is_current"},
)  # fmt: skip
def leaky_fwd(
    x: Tensor, decays: Tensor, state0: Tensor | None, scale: float, theta: int,
    spiking: bool, dynamics: bool, save: bool, final: bool, graded: bool, shift: bool,
    threshold: float, height: float, rate: float, surrogate: str, decay_sign: float,
    is_current: bool, care: int, count: bool,
):  # fmt: skip
    """Walk forward; what only backward needs is handed on."""


@kernel_op(
    _leaky_bwd_kernel, samples="g_spikes g_y saved",
    outputs={"gx": "[N, T, C]", "partials": "[N, C] if learning"},
    values={"g_spike": "g_spikes", "decay": "decays", "a": "partials", "DECAYS": "learning"},
)  # fmt: skip
def leaky_bwd(
    g_spikes: Tensor | None, g_y: Tensor | None, saved: Tensor | None, decays: Tensor,
    scale: float, threshold: float, height: float, rate: float, surrogate: str,
    graded: bool, shift: bool, learning: bool,
):  # fmt: skip
    """Walk backward."""


@derivative(leaky_fwd, leaky_bwd)
def _leaky_gradients(back):
    gx, partials = back.run(learning=back.wants("decays"))
    return {"x": gx, **learned_decays(back, back.decay_sign, decays=partials)}


@with_reference
def leaky(
    x: Tensor, decay: Tensor, scale: int, *, threshold: float | None = None,
    state: Tensor | None = None, is_current: bool = False,
    overflow: str = "saturate", count: bool = False,
) -> Any:  # fmt: skip
    """Filter ``x`` over time and return the state before each reset.

    Parameters
    ----------
    x
        Input ``[N, neurons..., T]``, in real units (1 is ``scale`` state units).
    decay
        ``[1]``, or one value a channel (dimension 1 of ``x``), 0..4096; rounded when used.
    scale
        Number of state units in a value of 1.
    threshold
        The state returns to zero after a step that exceeds it; None leaves the reset out.
    state
        State ``[N, neurons...]`` before the first step; zeros if None. Not differentiated.
    is_current
        The state is a current, which wraps around by the chip's rule; others stay at the limit.
    overflow, count
        See ``lapilli.kernels.recurrences.cuba.cuba``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.leaky import leaky
    >>> half = torch.tensor([2048.0])  # of 4096
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> leaky(x, half, scale=4096)
    tensor([[[1.0000, 0.5000, 0.2500, 0.1250, 0.0625]]])
    """
    theta = NEVER if threshold is None else lowest_spiking(threshold, scale)
    saving = is_learned(decay)
    _, _, y, _, misfits = leaky_fwd(
        to_rows(x), decay, state_rows(state), scale, theta,
        False, True, saving, False, False, False, 0.0, 0.0, 0.0, DEFAULT, decay_sign(),
        is_current, rule_of(overflow), count,
    )  # fmt: skip
    return results(from_rows(y, x.shape[1:-1]), from_state_rows(misfits, x) if count else None)


@with_reference
def leaky_spike(
    x: Tensor, decay: Tensor, threshold: float, scale: int, *,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: Tensor | None = None, return_state: bool = False,
    overflow: str = "saturate", count: bool = False,
) -> Any:  # fmt: skip
    """Filter ``x`` over time, spike above the threshold and reset.

    Parameters are those of ``leaky`` and of ``cuba`` in cuba.py. Returns spikes of the shape of
    ``x`` and, with ``return_state``, the state ``[N, neurons...]`` after the last step; with
    ``count`` also the number of steps that did not fit.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.leaky import leaky_spike
    >>> half = torch.tensor([2048.0])  # of 4096
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> leaky_spike(x, half, threshold=0.75, scale=4096)
    tensor([[[1., 0., 0., 0., 0.]]])
    """
    height, rate = surrogate_constants(tau_rho, scale_rho, graded, surrogate)
    saving = is_learned(x, decay)
    spikes, _, _, state1, misfits = leaky_fwd(
        to_rows(x), decay, state_rows(state), scale, lowest_spiking(threshold, scale),
        True, False, saving, return_state, graded, shift,
        threshold + EPSILON / scale, height, rate, surrogate, decay_sign(),
        False, rule_of(overflow), count,
    )  # fmt: skip
    return results(
        from_rows(spikes, x.shape[1:-1]),
        from_state_rows(state1, x) if return_state else None,
        from_state_rows(misfits, x) if count else None,
    )


LEAKY = Recurrence(
    leaky_spike, leaky, name="leaky", strict=True, kept=(4, 4),
    growth=lambda steps: steps + 1,
    usual={"decay": 410, "threshold": 1.0, "scale": 4096},
)  # fmt: skip
