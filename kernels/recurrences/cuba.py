"""CUBA: current-based leaky integrate-and-fire neuron, Loihi fixed point.

Forward (int32, 1 unit = 1 / scale; theta is the lowest voltage that spikes):

    u[t] = D(u[t-1], a_u) + x[t]               synaptic current
    v[t] = D(w[t-1], a_v) + u[t]               membrane voltage, before reset
    s[t] = v[t] >= theta                       spike; graded: s[t] v[t]
    w[t] = 0 if s[t] else v[t]                 membrane voltage, after reset
    D(y, a) = trunc(y * (4096 - a) / 4096)     decay, toward zero

Backward (float32). As in lava-dl, neither the reset nor the truncation is differentiated, so this
is not the derivative of the forward pass; rho is the surrogate gradient:

    g_v[t] = (1 - a_v / 4096) g_v[t+1] + rho(v[t]) g_s[t]
    g_u[t] = (1 - a_u / 4096) g_u[t+1] + g_v[t]          = g_x[t]
    g_a_v = -sum g_v[t+1] v[t],    g_a_u = -sum g_u[t+1] u[t]

The decay gradients are per unit of a / 4096. The current is not kept for them: integers make the
update invertible, u[t] = v[t] - D(w[t-1], a_v).

Source: lava-dl neuron/cuba.py, neuron/dynamics/leaky_integrator.py, spike/spike.py.
"""

from typing import Any

from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    DEFAULT, EPSILON, NEVER, SATURATE, both, clipped, decay, derivative, fraction_of, from_rows,
    from_state_rows, gathered, gradient_after, is_learned, jit, keep_of, kept, kernel_op, lanes,
    larger, load_last, load_or_zero, load_rows, lowest_spiking, misfit, not_calm, plus, rest_of,
    results, rule_of, state_rows, store_row, store_spike, surrogate, surrogate_constants, tl,
    to_next, to_real, to_rows, to_state, walk_backward, walk_forward, watch_at_first, with_care,
    with_reference, wrapped,
)  # fmt: skip

from .decays import decay_sign, learned_decays
from .declared import Recurrence


@jit
def cuba_step(u, w, x, keep_u, keep_v, theta, scale, EXACT: tl.constexpr, RULE: tl.constexpr):
    """Advance one step, int32; ``keep`` is 4096 minus the decay."""
    u = wrapped(plus(kept(u, keep_u, RULE), x, RULE), RULE)
    v = clipped(plus(kept(w, keep_v, RULE), to_next(u, scale, EXACT, RULE), RULE), RULE)
    s = v >= theta
    return u, v, s, tl.where(s, 0, v)


@jit
def cuba_misfits(u, w, x, current, keep_u, keep_v, scale, EXACT: tl.constexpr, RULE: tl.constexpr):
    """Return 1 where an input or a state of a step does not fit, else 0.

    ``u`` and ``w`` are the state before the step, ``current`` is what it made of ``u``.
    """
    v = plus(kept(w, keep_v, RULE), to_next(current, scale, EXACT, RULE), RULE)
    of_u = misfit(x, SATURATE) | misfit(plus(kept(u, keep_u, RULE), x, RULE), RULE)
    return (of_u | misfit(v, RULE)).to(tl.int32)


@jit
def cuba_gain(keep_u, keep_v, T):
    """Bound current and voltage of T steps, as a multiple of the largest input.

    Or of current and voltage before the first step, together, if those are larger.
    """
    return gathered(keep_u, T) * gathered(keep_v, T) * 2.0


@jit
def cuba_step_bwd(
    g_v, g_u, g_s, v, lam_u, lam_v, threshold, height, rate,
    GRADED: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Go back one step through the spike, float32; ``lam`` is 1 minus the decay."""
    g_v = lam_v * g_v + surrogate(v - threshold, height, rate, GRADED, SHAPE) * g_s
    return g_v, lam_u * g_u + g_v


@jit
def cuba_step_dynamics_bwd(g_v, g_u, g_voltage, g_current, lam_u, lam_v):
    """Go back one step from gradients of the voltage and the current themselves."""
    g_v = lam_v * g_v + g_voltage
    return g_v, lam_u * g_u + g_v + g_current


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def _cuba_fwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    u, w, last, top = carry
    keep_u, keep_v, scale, theta = fixed
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    EXACT: tl.constexpr = flags[2]
    RULE: tl.constexpr = flags[3]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    if not RULE:
        for i in tl.static_range(U):
            top = larger(top, xs[i])
    for i in tl.static_range(U):
        x = to_state(xs[i], scale, RULE)
        u0, w0 = u, w
        u, v, s, w = cuba_step(u, w, x, keep_u, keep_v, theta, scale, EXACT, RULE)
        if RULE and ptrs[5] is not None:
            top += cuba_misfits(u0, w0, x, u, keep_u, keep_v, scale, EXACT, RULE)
        row = at + i * C
        last = store_spike(
            ptrs[1], base, row, s, v, last, live, scale, GRADED, SHIFT, EXACT, RULE)  # fmt: skip
        store_row(ptrs[2], base, row, v, live)
        store_row(ptrs[3], base, row, to_real(u, scale, EXACT, RULE), live)
        store_row(ptrs[4], base, row, to_real(v, scale, EXACT, RULE), live)
    return u, w, last, top


@jit
def _cuba_fwd_walk(
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
    decay_u = tl.load(decay_ptrs[0] + c // per, mask=live, other=0.0)
    decay_v = tl.load(decay_ptrs[1] + c // per, mask=live, other=0.0)
    rest = rest_of(decay_u, decay_v)
    u = rest + load_or_zero(first_ptrs[0], j, live, rest)
    w = rest + load_or_zero(first_ptrs[1], j, live, rest)
    keep_u, keep_v = keep_of(decay_u), keep_of(decay_v)
    u, w, _, top = walk_forward(
        _cuba_fwd_rows,
        (to_state(u, scale, RULE), to_state(w, scale, RULE), tl.zeros_like(u),
         watch_at_first(both(u, w), ptrs[5], RULE)), ptrs, (keep_u, keep_v, scale, theta),
        base, at, live, T, C, (GRADED, SHIFT, EXACT, RULE), U, STAGES)  # fmt: skip
    store_row(last_ptrs[0], 0, j, to_real(u, scale, EXACT, RULE), live)
    store_row(last_ptrs[1], 0, j, to_real(w, scale, EXACT, RULE), live)
    if RULE:
        store_row(ptrs[5], 0, j, top, live)
    return not_calm(top, cuba_gain(keep_u, keep_v, T), scale, CARE)


@jit
def _cuba_fwd_kernel(
    x_ptr,  # [N, T, C] float32: weighted input
    spike_ptr,  # [N, T, C] float32, out, or None
    saved_ptr,  # [N, T, C] int32, out, or None: voltage before reset, kept for backward
    current_ptr, voltage_ptr,  # [N, T, C] float32, out, or None: the dynamics, before reset
    current_decay_ptr, voltage_decay_ptr,  # [1] or [channels] float32, 0..4096
    current0_ptr, voltage0_ptr,  # [N, C] float32 or None: state before the first step
    current1_ptr, voltage1_ptr,  # [N, C] float32, out, or None: state after the last step
    count_ptr,  # [N, C] int32 of zeros, out, or None: steps that did not fit
    per, scale, theta, T, C, M,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, EXACT: tl.constexpr, CARE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    with_care(
        _cuba_fwd_walk, (x_ptr, spike_ptr, saved_ptr, current_ptr, voltage_ptr, count_ptr),
        (current_decay_ptr, voltage_decay_ptr), (current0_ptr, voltage0_ptr),
        (current1_ptr, voltage1_ptr), (per, scale, theta), T, C, M, (GRADED, SHIFT, EXACT),
        CARE, U, STAGES, BLOCK)  # fmt: skip


_cuba_fwd_kernel.registers = 64  # the careful walk would take more, and slow the other down


@jit
def _cuba_bwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    g_v, g_u, a_v, a_u, g_later = carry
    keep_v, lam_u, lam_v, w, unit, theta, threshold, height, rate = fixed
    GRADED: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    DECAYS: tl.constexpr = flags[2]
    SHAPE: tl.constexpr = flags[3]
    gs = load_rows(ptrs[0], base, at, C, live, U)
    gus = load_rows(ptrs[1], base, at, C, live, U)
    gvs = load_rows(ptrs[2], base, at, C, live, U)
    vs = load_rows(ptrs[3], base, at, C, live, U)
    us = ()
    if DECAYS:
        before = live & (at * 0 + t > 0)
        v = tl.load(ptrs[3] + base + (at - C), mask=before, other=0)
        w = tl.where(before, tl.where(v >= theta, 0, v), w)
        for i in tl.static_range(U):
            us = us + (vs[i] - decay(w, keep_v),)  # noqa: RUF005 (Triton knows no starred tuples)
            w = tl.where(vs[i] >= theta, 0, vs[i])
    for i in tl.static_range(U - 1, -1, -1):
        if DECAYS:  # g_v and g_u still belong to the step after
            a_v += g_v * vs[i].to(tl.float32)
            # pyright takes the tuple for empty, which it is not where DECAYS holds
            a_u += g_u * us[i].to(tl.float32)  # pyright: ignore[reportAttributeAccessIssue]
        if ptrs[0] is not None:
            g_s = gs[i]
            if SHIFT:
                g_s = g_later
                g_later = gs[i]
            v = vs[i].to(tl.float32) * unit
            g_v, g_u = cuba_step_bwd(
                g_v, g_u, g_s, v, lam_u, lam_v, threshold, height, rate, GRADED, SHAPE)  # fmt: skip
        else:
            g_v, g_u = cuba_step_dynamics_bwd(g_v, g_u, gvs[i], gus[i], lam_u, lam_v)
        store_row(ptrs[4], base, at + i * C, g_u, live)
    return g_v, g_u, a_v, a_u, g_later


@jit
def _cuba_bwd_kernel(
    g_spike_ptr,  # [N, T, C] float32, or None: then the two below
    g_current_ptr, g_voltage_ptr,  # [N, T, C] float32, or None
    saved_ptr,  # [N, T, C] int32, or None where neither surrogate nor decays need it
    gx_ptr,  # [N, T, C] float32, out
    current_decay_ptr, voltage_decay_ptr,  # [1] or [channels] float32
    voltage0_ptr,  # [N, C] float32 or None
    a_current_ptr, a_voltage_ptr,  # [N, C] float32, out, or None: decay gradients, not reduced
    per, scale, unit, theta, threshold, height, rate, T, C, M,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, DECAYS: tl.constexpr, SHAPE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    keep_v = keep_of(tl.load(voltage_decay_ptr + c // per, mask=live, other=0.0))
    lam_u = fraction_of(keep_of(tl.load(current_decay_ptr + c // per, mask=live, other=0.0)))
    lam_v = fraction_of(keep_v)
    rest = tl.zeros([BLOCK], tl.float32)
    w0 = to_state(load_or_zero(voltage0_ptr, j, live, rest), scale, SATURATE)
    g, a = rest, rest
    if saved_ptr is not None:
        a = gradient_after(load_last(saved_ptr, base, at, live, T, C))
        if g_spike_ptr is not None:
            g = a
    _, _, a_v, a_u, _ = walk_backward(
        _cuba_bwd_rows, (g, rest, a, a, rest),
        (g_spike_ptr, g_current_ptr, g_voltage_ptr, saved_ptr, gx_ptr),
        (keep_v, lam_u, lam_v, w0, unit, theta, threshold, height, rate),
        base, at, live, T, C, (GRADED, SHIFT, DECAYS, SHAPE), U, STAGES)  # fmt: skip
    store_row(a_current_ptr, 0, j, a_u * unit, live)
    store_row(a_voltage_ptr, 0, j, a_v * unit, live)


# The operators


@kernel_op(
    _cuba_fwd_kernel, samples="x current0 voltage0",
    outputs={
        "spikes": "[N, T, C] if spiking", "saved": "[N, T, C] int32 if save",
        "current voltage": "[N, T, C] if dynamics", "current1 voltage1": "[N, C] if final",
        "misfits": "[N, C] int32 zeros if count",
    },
    values={"spike": "spikes", "count": "misfits"},
)  # fmt: skip
def cuba_fwd(
    x: Tensor, current_decay: Tensor, voltage_decay: Tensor,
    current0: Tensor | None, voltage0: Tensor | None, scale: float, theta: int,
    spiking: bool, dynamics: bool, save: bool, final: bool, graded: bool, shift: bool,
    threshold: float, height: float, rate: float, surrogate: str, decay_sign: float,
    care: int, count: bool,
):  # fmt: skip
    """Walk forward; what only backward needs is handed on."""


@kernel_op(
    _cuba_bwd_kernel, samples="g_spikes g_current g_voltage saved voltage0",
    outputs={"gx": "[N, T, C]", "a_current a_voltage": "[N, C] if decays"},
    values={"g_spike": "g_spikes"},
)  # fmt: skip
def cuba_bwd(
    g_spikes: Tensor | None, g_current: Tensor | None, g_voltage: Tensor | None,
    saved: Tensor | None, current_decay: Tensor, voltage_decay: Tensor, voltage0: Tensor | None,
    scale: float, theta: int, threshold: float, height: float, rate: float, surrogate: str,
    graded: bool, shift: bool, decays: bool,
):  # fmt: skip
    """Walk backward."""


@derivative(cuba_fwd, cuba_bwd)
def _cuba_gradients(back):
    decays = back.wants("current_decay", "voltage_decay")
    gx, a_current, a_voltage = back.run(decays=decays)
    learned = learned_decays(
        back, back.decay_sign, current_decay=a_current, voltage_decay=a_voltage
    )  # fmt: skip
    return {"x": gx, **learned}


@with_reference
def cuba(
    x: Tensor, current_decay: Tensor, voltage_decay: Tensor, threshold: float, scale: int, *,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: tuple[Tensor, Tensor] | None = None, return_state: bool = False,
    overflow: str = "saturate", count: bool = False,
) -> Any:  # fmt: skip
    """Run CUBA neurons over time: current, voltage, spike and reset in one pass.

    Parameters
    ----------
    x
        Weighted input, ``[N, neurons..., T]``, in real units (1 is ``scale`` state units).
    current_decay, voltage_decay
        ``[1]``, or one value a channel (dimension 1 of ``x``), 0..4096; rounded when used.
    threshold
        Voltage that must be exceeded to spike, a multiple of ``1 / scale``.
    scale
        Number of state units in a value of 1.
    tau_rho, scale_rho
        Width and height of the surrogate gradient, both above 0: with d, how far the voltage is
        above the threshold, the gradient of a spike is ``scale_rho / (2 * tau_rho) * h(d /
        tau_rho)``, that of a graded one ``scale_rho * h(min(d, 0) / tau_rho)``.
    surrogate
        Shape h of the surrogate gradient: ``"exponential"``, ``"fast_sigmoid"``, ``"arctan"``,
        ``"sigmoid"``, ``"triangle"``, ``"boxcar"``, or one added with ``lapilli.surrogate``.
    graded
        Spikes carry the voltage instead of 1.
    shift
        Delay the output by one step; the first is 0 and the last is dropped.
    state
        Current and voltage ``[N, neurons...]`` before the first step; zeros if None. No gradient
        flows into it.
    return_state
        Also return the state after the last step, detached.
    overflow
        What becomes of numbers that do not fit, see fixed_point.py: ``"saturate"`` at 32 bits, or
        ``"loihi"``, 24 bits by the chip's rule.
    count
        Also return how many steps of each neuron did not fit.

    Returns
    -------
    Tensor
        Spikes, of the shape of ``x``; with ``return_state`` also ``(current, voltage)``, with
        ``count`` also the number of steps ``[N, neurons...]``, int32.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.cuba import cuba
    >>> half = torch.tensor([2048.0])  # of 4096
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> cuba(x, half, half, threshold=0.875, scale=4096)
    tensor([[[1., 0., 0., 0., 0.]]])
    """
    height, rate = surrogate_constants(tau_rho, scale_rho, graded, surrogate)
    saving = is_learned(x, current_decay, voltage_decay)
    current0, voltage0 = (None, None) if state is None else map(state_rows, state)
    spikes, _, _, _, current1, voltage1, misfits = cuba_fwd(
        to_rows(x), current_decay, voltage_decay, current0, voltage0, scale,
        lowest_spiking(threshold, scale), True, False, saving, return_state, graded, shift,
        threshold + EPSILON / scale, height, rate, surrogate, decay_sign(),
        rule_of(overflow), count,
    )  # fmt: skip
    spikes = from_rows(spikes, x.shape[1:-1])
    last = tuple(from_state_rows(s, x) for s in (current1, voltage1)) if return_state else None
    return results(spikes, last, from_state_rows(misfits, x) if count else None)


@with_reference
def cuba_dynamics(
    x: Tensor, current_decay: Tensor, voltage_decay: Tensor, threshold: float | None, scale: int, *,
    state: tuple[Tensor, Tensor] | None = None, overflow: str = "saturate", count: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return current and voltage before the reset, both ``[N, neurons..., T]`` and differentiable.

    ``threshold`` None leaves the reset out; the other parameters are those of ``cuba``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.cuba import cuba_dynamics
    >>> half = torch.tensor([2048.0])  # of 4096
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> current, voltage = cuba_dynamics(x, half, half, threshold=None, scale=4096)
    >>> voltage
    tensor([[[1.0000, 1.0000, 0.7500, 0.5000, 0.3125]]])
    """
    saving = is_learned(current_decay, voltage_decay)
    current0, voltage0 = (None, None) if state is None else map(state_rows, state)
    theta = NEVER if threshold is None else lowest_spiking(threshold, scale)
    _, _, current, voltage, _, _, misfits = cuba_fwd(
        to_rows(x), current_decay, voltage_decay, current0, voltage0, scale, theta,
        False, True, saving, False, False, False, 0.0, 0.0, 0.0, DEFAULT, decay_sign(),
        rule_of(overflow), count,
    )  # fmt: skip
    states = from_rows(current, x.shape[1:-1]), from_rows(voltage, x.shape[1:-1])
    return (*states, from_state_rows(misfits, x)) if count else states


CUBA = Recurrence(
    cuba, cuba_dynamics, strict=True, kept=(4, 4),
    growth=lambda steps: (steps + 1) * (steps + 2),
    usual={"current_decay": 410, "voltage_decay": 164, "threshold": 1.0, "scale": 4096},
)  # fmt: skip
