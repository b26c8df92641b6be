"""LIF: leaky integrate-and-fire neuron whose input is its current, Loihi fixed point.

Forward (int32, 1 unit = 1 / scale; theta is the lowest voltage that spikes):

    v[t] = D(w[t-1], a) + x[t]                 membrane voltage, before reset
    s[t] = v[t] >= theta                       spike; graded: s[t] v[t]
    w[t] = 0 if s[t] else v[t]                 membrane voltage, after reset
    D(y, a) = trunc(y * (4096 - a) / 4096)     decay, toward zero

Backward (float32); neither reset nor truncation is differentiated, rho is the surrogate gradient:

    g_v[t] = (1 - a / 4096) g_v[t+1] + rho(v[t]) g_s[t]      = g_x[t]
    g_a = -sum g_v[t+1] v[t]                                 per unit of a / 4096
"""

from typing import Any

from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    DEFAULT, EPSILON, SATURATE, derivative, fraction_of, from_rows, from_state_rows, gathered,
    gradient_after, is_learned, jit, keep_of, kept, kernel_op, lanes, larger, load_last,
    load_or_zero, load_rows, lowest_spiking, misfit, not_calm, plus, rest_of, results, state_rows,
    store_row, store_spike, surrogate, surrogate_constants, tl, to_real, to_rows, to_state,
    walk_backward, walk_forward, watch_at_first, with_care, with_reference,
)  # fmt: skip

from .decays import decay_sign, learned_decays
from .declared import Recurrence
from .leaky import leaky


@jit
def lif_step(w, x, keep, theta, RULE: tl.constexpr):
    """Advance one step, int32; ``keep`` is 4096 minus the decay."""
    v = plus(kept(w, keep, RULE), x, RULE)
    s = v >= theta
    return v, s, tl.where(s, 0, v)


@jit
def lif_step_bwd(
    g_v, g_s, v, lam, threshold, height, rate, GRADED: tl.constexpr, SHAPE: tl.constexpr
):
    """Go back one step, float32; ``lam`` is 1 minus the decay."""
    return lam * g_v + surrogate(v - threshold, height, rate, GRADED, SHAPE) * g_s


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def _lif_fwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    w, last, top = carry
    keep, scale, theta = fixed
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    EXACT: tl.constexpr = flags[2]
    RULE: tl.constexpr = flags[3]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    if not RULE:
        for i in tl.static_range(U):
            top = larger(top, xs[i])
    for i in tl.static_range(U):
        x, w0 = to_state(xs[i], scale, RULE), w
        v, s, w = lif_step(w, x, keep, theta, RULE)
        if RULE and ptrs[3] is not None:
            lost = misfit(x, SATURATE) | misfit(plus(kept(w0, keep, RULE), x, RULE), RULE)
            top += lost.to(tl.int32)
        row = at + i * C
        last = store_spike(
            ptrs[1], base, row, s, v, last, live, scale, GRADED, SHIFT, EXACT, RULE)  # fmt: skip
        store_row(ptrs[2], base, row, v, live)
    return w, last, top


@jit
def _lif_fwd_walk(
    ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T, C, M, flags: tl.constexpr,
    RULE: tl.constexpr, CARE: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    per, scale, theta = numbers
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    EXACT: tl.constexpr = flags[2]
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    decay = tl.load(decay_ptrs[0] + c // per, mask=live, other=0.0)
    rest, keep = rest_of(decay, decay), keep_of(decay)
    w = rest + load_or_zero(first_ptrs[0], j, live, rest)
    w, _, top = walk_forward(
        _lif_fwd_rows,
        (to_state(w, scale, RULE), tl.zeros_like(w), watch_at_first(tl.abs(w), ptrs[3], RULE)),
        ptrs, (keep, scale, theta),
        base, at, live, T, C, (GRADED, SHIFT, EXACT, RULE), U, STAGES)  # fmt: skip
    store_row(last_ptrs[0], 0, j, to_real(w, scale, EXACT, RULE), live)
    if RULE:
        store_row(ptrs[3], 0, j, top, live)
    return not_calm(top, gathered(keep, T) * 2.0, scale, CARE)


@jit
def _lif_fwd_kernel(
    x_ptr,  # [N, T, C] float32: weighted input
    spike_ptr,  # [N, T, C] float32, out
    saved_ptr,  # [N, T, C] int32, out, or None: voltage before reset, kept for backward
    voltage_decay_ptr,  # [1] or [channels] float32, 0..4096
    voltage0_ptr,  # [N, C] float32 or None: state before the first step
    voltage1_ptr,  # [N, C] float32, out, or None: state after the last step
    count_ptr,  # [N, C] int32 of zeros, out, or None: steps that did not fit
    per, scale, theta, T, C, M,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, EXACT: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    with_care(
        _lif_fwd_walk, (x_ptr, spike_ptr, saved_ptr, count_ptr), (voltage_decay_ptr,),
        (voltage0_ptr,), (voltage1_ptr,), (per, scale, theta), T, C, M, (GRADED, SHIFT, EXACT),
        SATURATE, U, STAGES, BLOCK)  # fmt: skip


_lif_fwd_kernel.registers = 56  # the careful walk would take more, and slow the other down


@jit
def _lif_bwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    g, a, g_later = carry
    lam, unit, threshold, height, rate = fixed
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    DECAYS: tl.constexpr = flags[2]
    SHAPE: tl.constexpr = flags[3]
    gs = load_rows(ptrs[0], base, at, C, live, U)
    vs = load_rows(ptrs[1], base, at, C, live, U)
    for i in tl.static_range(U - 1, -1, -1):
        if DECAYS:  # g still belongs to the step after
            a += g * vs[i].to(tl.float32)
        g_s = gs[i]
        if SHIFT:
            g_s = g_later
            g_later = gs[i]
        v = vs[i].to(tl.float32) * unit
        g = lif_step_bwd(g, g_s, v, lam, threshold, height, rate, GRADED, SHAPE)
        store_row(ptrs[2], base, at + i * C, g, live)
    return g, a, g_later


@jit
def _lif_bwd_kernel(
    g_spike_ptr,  # [N, T, C] float32
    saved_ptr,  # [N, T, C] int32
    gx_ptr,  # [N, T, C] float32, out
    voltage_decay_ptr,  # [1] or [channels] float32
    a_ptr,  # [N, C] float32, out, or None: decay gradient, not reduced
    per, unit, threshold, height, rate, T, C, M,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, DECAYS: tl.constexpr, SHAPE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    lam = fraction_of(keep_of(tl.load(voltage_decay_ptr + c // per, mask=live, other=0.0)))
    rest = tl.zeros([BLOCK], tl.float32)
    behind = gradient_after(load_last(saved_ptr, base, at, live, T, C))
    _, a, _ = walk_backward(
        _lif_bwd_rows, (behind, behind, rest), (g_spike_ptr, saved_ptr, gx_ptr),
        (lam, unit, threshold, height, rate),
        base, at, live, T, C, (GRADED, SHIFT, DECAYS, SHAPE), U, STAGES)  # fmt: skip
    store_row(a_ptr, 0, j, a * unit, live)


# The operators


@kernel_op(
    _lif_fwd_kernel, samples="x voltage0",
    outputs={
        "spikes": "[N, T, C]", "saved": "[N, T, C] int32 if save", "voltage1": "[N, C] if final",
        "misfits": "[N, C] int32 zeros if count",
    },
    values={"spike": "spikes", "count": "misfits"},
)  # fmt: skip
def lif_fwd(
    x: Tensor, voltage_decay: Tensor, voltage0: Tensor | None, scale: float, theta: int,
    save: bool, final: bool, graded: bool, shift: bool,
    threshold: float, height: float, rate: float, surrogate: str, decay_sign: float, count: bool,
):  # fmt: skip
    """Walk forward; what only backward needs is handed on."""


@kernel_op(
    _lif_bwd_kernel, samples="g_spikes saved",
    outputs={"gx": "[N, T, C]", "partials": "[N, C] if learning"},
    values={"g_spike": "g_spikes", "a": "partials", "DECAYS": "learning"},
)  # fmt: skip
def lif_bwd(
    g_spikes: Tensor, saved: Tensor, voltage_decay: Tensor,
    scale: float, threshold: float, height: float, rate: float, surrogate: str,
    graded: bool, shift: bool, learning: bool,
):  # fmt: skip
    """Walk backward."""


@derivative(lif_fwd, lif_bwd)
def _lif_gradients(back):
    gx, partials = back.run(learning=back.wants("voltage_decay"))
    return {"x": gx, **learned_decays(back, back.decay_sign, voltage_decay=partials)}


@with_reference
def lif(
    x: Tensor, voltage_decay: Tensor, threshold: float, scale: int, *,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: Tensor | None = None, return_state: bool = False, count: bool = False,
) -> Any:  # fmt: skip
    """Run LIF neurons over time: voltage, spike and reset in one pass.

    Parameters and results are those of ``lapilli.kernels.recurrences.cuba.cuba``, with the voltage
    alone as state.
    """
    height, rate = surrogate_constants(tau_rho, scale_rho, graded, surrogate)
    spikes, _, voltage1, misfits = lif_fwd(
        to_rows(x), voltage_decay, state_rows(state), scale, lowest_spiking(threshold, scale),
        is_learned(x, voltage_decay), return_state, graded, shift,
        threshold + EPSILON / scale, height, rate, surrogate, decay_sign(), count,
    )  # fmt: skip
    return results(
        from_rows(spikes, x.shape[1:-1]),
        from_state_rows(voltage1, x) if return_state else None,
        from_state_rows(misfits, x) if count else None,
    )


@with_reference
def lif_dynamics(
    x: Tensor, voltage_decay: Tensor, threshold: float | None, scale: int, *,
    state: Tensor | None = None, count: bool = False,
) -> Any:  # fmt: skip
    """Return the voltage before the reset, of the shape of ``x`` and differentiable."""
    return leaky(x, voltage_decay, scale, threshold=threshold, state=state, count=count)


LIF = Recurrence(
    lif, lif_dynamics, strict=True, kept=(4, 4), growth=lambda steps: steps + 1,
    usual={"voltage_decay": 164, "threshold": 1.0, "scale": 4096},
)  # fmt: skip
