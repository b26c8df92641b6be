"""A threshold that rises at each spike, and a refractory state beside it, Loihi fixed point.

Forward (int32, 1 unit = 1 / scale; theta is the threshold at rest):

    r[t]  = D(r'[t-1], a_r)                        refractory
    th[t] = D(th'[t-1] - theta, a_th) + theta      threshold
    s[t]  = x[t] >= th[t] + r[t]                   spike
    r'[t]  = r[t] + 2 th[t] if s[t] else r[t]      after the spike
    th'[t] = th[t] + step if s[t] else th[t]
    D(y, a) = trunc(y * (4096 - a) / 4096)         decay, toward zero

Nothing here is differentiated. Neurons with such a threshold (ALIF, ADRF, ADRF-Izhikevich) call the
step functions; the kernel serves dynamics that are computed apart.

Source: lava-dl neuron/dynamics/adaptive_threshold.py, neuron/dynamics/adaptive_phase_th.py.
"""

import torch
from lapilli.kernels.executors.derivation import Backward
from lapilli.kernels.executors.dispatch import execute, with_reference
from lapilli.kernels.executors.layout import from_rows, neurons_a_parameter, state_rows, to_rows
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.executors.operators import define_op
from lapilli.kernels.executors.rows import (
    lanes,
    load_or_zero,
    load_rows,
    store_row,
    walk_forward,
    with_care,
)
from lapilli.kernels.numbers.fixed_point import (
    NAN,
    SATURATE,
    calm_or_infinite,
    gathered,
    is_power_of_two,
    keep_of,
    kept,
    larger,
    misfit,
    not_calm,
    plus,
    rest_of,
    to_real,
    to_state,
    units_of,
)
from lapilli.kernels.numbers.language import jit, tl
from torch import Tensor

from .declared import Recurrence
from .spike import turns

NO_CHIP_RULE = (
    "overflow='loihi' is for neurons that lava's netx simulates: CUBA, RF and RF-Izhikevich. It "
    "has none whose threshold adapts, so there is no rule to follow; use overflow='saturate'."
)

COMPARED = tl.constexpr(0.25)  # what is only compared may be four times as large as a state


@jit
def settle(th, r, theta, keep_th, keep_r, RULE: tl.constexpr):
    """Let threshold and refractory decay by one step, int32; ``keep`` is 4096 minus the decay."""
    above = kept(plus(th, -theta, RULE), keep_th, RULE)
    return plus(above, theta, RULE), kept(r, keep_r, RULE)


@jit
def tested_against(y, limit, RULE: tl.constexpr):
    """Return a state that is compared with a limit; NAN if that is."""
    if RULE:
        return tl.where(limit == NAN, NAN, y)
    else:
        return y


@jit
def rise(th, r, s, y, step, RULE: tl.constexpr):
    """Raise threshold and refractory where there is a spike ``s`` of the state ``y``."""
    high, slow = plus(th, step, RULE), plus(r, plus(th, th, RULE), RULE)
    th, r = tl.where(s, high, th), tl.where(s, slow, r)
    if RULE:
        th, r = tl.where(y == NAN, NAN, th), tl.where(y == NAN, NAN, r)
    return th, r


@jit
def threshold_misfits(th, r):
    """Return 1 where a threshold or a refractory after a step is at its limit, else 0."""
    return (misfit(th, SATURATE) | misfit(r, SATURATE)).to(tl.int32)


@jit
def margin_above(y, limit, RULE: tl.constexpr):
    """How far a state is above its limit, int32."""
    return plus(y, -limit, RULE)


@jit
def threshold_reach(th0, r0, theta, step, keep_th, keep_r, scale, T):
    """Bound threshold plus refractory of T steps, in units; what they begin with is real."""
    rest, rises = theta.to(tl.float32), step.to(tl.float32)
    high = tl.abs(th0) * scale + tl.abs(rest) * 2.0 + tl.abs(rises) * gathered(keep_th, T)
    return tl.abs(r0) * scale + high * gathered(keep_r, T) * 3.0


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def threshold_at_first(ptr, j, live, rest, theta, scale, RULE: tl.constexpr):
    """Load the threshold before the first step, ``theta`` without one: as a state, and real."""
    if ptr is None:
        return tested_against(j * 0 + theta, to_state(rest, scale, SATURATE), SATURATE), rest
    else:
        th0 = rest + tl.load(ptr + j, mask=live, other=0.0)
        return to_state(th0, scale, RULE), th0


@jit
def _adaptive_threshold_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    th, r, top = carry
    keep_th, keep_r, theta, step, scale = fixed
    EXACT: tl.constexpr = flags[0]
    RULE: tl.constexpr = flags[1]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    if not RULE:
        for i in tl.static_range(U):
            top = larger(top, xs[i])
    for i in tl.static_range(U):
        th, r = settle(th, r, theta, keep_th, keep_r, RULE)
        store_row(ptrs[1], base, at + i * C, to_real(th, scale, EXACT, RULE), live)
        store_row(ptrs[2], base, at + i * C, to_real(r, scale, EXACT, RULE), live)
        limit = plus(th, r, RULE)
        y = tested_against(to_state(xs[i], scale, RULE), limit, RULE)
        th, r = rise(th, r, y >= limit, y, step, RULE)
    return th, r, top


@jit
def _adaptive_threshold_walk(
    ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T, C, M, flags: tl.constexpr,
    RULE: tl.constexpr, CARE: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    per, scale, theta, step = numbers
    EXACT: tl.constexpr = flags[0]
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    decay_th = tl.load(decay_ptrs[0] + c // per, mask=live, other=0.0)
    decay_r = tl.load(decay_ptrs[1] + c // per, mask=live, other=0.0)
    keep_th, keep_r = keep_of(decay_th), keep_of(decay_r)
    rest = rest_of(decay_th, decay_r)
    th, th0 = threshold_at_first(first_ptrs[0], j, live, rest, theta, scale, RULE)
    r0 = rest + load_or_zero(first_ptrs[1], j, live, rest)
    reach = threshold_reach(th0, r0, theta, step, keep_th, keep_r, scale, T)
    _, _, top = walk_forward(
        _adaptive_threshold_rows,
        (th, to_state(r0, scale, RULE), calm_or_infinite(reach)), ptrs,
        (keep_th, keep_r, theta, step, scale),
        base, at, live, T, C, (EXACT, RULE), U, STAGES)  # fmt: skip
    return not_calm(top, COMPARED, scale, CARE)


@jit
def _adaptive_threshold_kernel(
    x_ptr,  # [N, T, C] float32: what the threshold is compared with
    threshold_ptr, refractory_ptr,  # [N, T, C] float32, out: before the spike
    threshold_decay_ptr, refractory_decay_ptr,  # [1] or [channels] float32, 0..4096
    threshold0_ptr, refractory0_ptr,  # [N, C] float32 or None: state before the first step
    per, scale, theta, step, T, C, M,
    EXACT: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    with_care(
        _adaptive_threshold_walk, (x_ptr, threshold_ptr, refractory_ptr),
        (threshold_decay_ptr, refractory_decay_ptr), (threshold0_ptr, refractory0_ptr), (),
        (per, scale, theta, step), T, C, M, (EXACT,), SATURATE,
        U, STAGES, BLOCK)  # fmt: skip


_adaptive_threshold_kernel.registers = 64  # the careful walk would take more


def threshold_gradients(back: Backward) -> dict[str, Tensor]:
    """Return the gradients of the threshold's decays that are asked for: zeros, as in lava-dl."""
    return {
        name: torch.zeros_like(getattr(back, name))
        for name in ("threshold_decay", "refractory_decay")
        if back.wants(name)
    }


# The operator


@define_op(samples="x threshold0 refractory0")
def adaptive_threshold_fwd(
    x: Tensor, threshold_decay: Tensor, refractory_decay: Tensor,
    threshold0: Tensor | None, refractory0: Tensor | None, scale: float, theta: int, step: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return threshold and refractory."""
    N, T, C = x.shape
    threshold, refractory = (empty(x.shape, torch.float32, x) for _ in range(2))
    execute(
        _adaptive_threshold_kernel, (N, T, C),
        (x, threshold, refractory, threshold_decay, refractory_decay, threshold0, refractory0,
         neurons_a_parameter(C, threshold_decay, refractory_decay), scale, theta, step),
        (is_power_of_two(scale),),
    )  # fmt: skip
    return threshold, refractory


@with_reference
def adaptive_threshold(
    x: Tensor,
    threshold_decay: Tensor,
    refractory_decay: Tensor,
    threshold: float,
    threshold_step: float,
    scale: int,
    *,
    state: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the threshold and the refractory state that ``x`` meets, before each spike.

    Parameters
    ----------
    x
        What spikes where it reaches their sum, ``[N, neurons..., T]``, in real units (1 is
        ``scale`` state units).
    threshold_decay, refractory_decay
        ``[1]``, or one value a channel (dimension 1 of ``x``), 0..4096; rounded when used.
    threshold
        Threshold at rest, a multiple of ``1 / scale``.
    threshold_step
        What a spike adds to the threshold, a multiple of ``1 / scale``.
    scale
        Number of state units in a value of 1.
    state
        Threshold and refractory ``[N, neurons...]`` before the first step; ``threshold`` and zero
        if None.

    Returns
    -------
    tuple of Tensor
        Threshold and refractory, of the shape of ``x``. No gradient flows through them.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.adaptive_threshold import adaptive_threshold
    >>> half = torch.tensor([2048.0])  # of 4096
    >>> x = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    >>> threshold, refractory = adaptive_threshold(x, half, half, 1.0, 0.5, scale=4096)
    >>> threshold  # reached in the second step
    tensor([[[1.0000, 1.0000, 1.2500, 1.1250]]])
    """
    threshold0, refractory0 = (None, None) if state is None else map(state_rows, state)
    rows = adaptive_threshold_fwd(
        to_rows(x.detach()), threshold_decay.detach(), refractory_decay.detach(),
        threshold0, refractory0, scale, units_of(threshold, scale), units_of(threshold_step, scale),
    )  # fmt: skip
    th, r = (from_rows(y, x.shape[1:-1]) for y in rows)
    return th, r


def _units(x: Tensor, scale: int) -> Tensor:
    """State units of real values, toward zero, as a float."""
    return (x.detach().to(torch.float32) * scale).trunc()


def adaptive_phase_threshold(
    real: Tensor,
    imag: Tensor,
    threshold_decay: Tensor,
    refractory_decay: Tensor,
    threshold: float,
    threshold_step: float,
    scale: int,
    *,
    imag_before: Tensor | None = None,
    state: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Do as ``adaptive_threshold`` for ``real``, where ``imag`` turns from negative to not.

    ``imag_before`` is the imaginary part ``[N, neurons...]`` before the first step; zeros if None.
    The other parameters are those of ``adaptive_threshold``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.adaptive_threshold import adaptive_phase_threshold
    >>> half = torch.tensor([2048.0])  # of 4096
    >>> real, imag = torch.ones(1, 1, 4), torch.tensor([[[-1.0, 1.0, 1.0, 1.0]]])
    >>> threshold, _ = adaptive_phase_threshold(real, imag, half, half, 1.0, 0.5, scale=4096)
    >>> threshold
    tensor([[[1.0000, 1.0000, 1.2500, 1.1250]]])
    """
    last = 0.0 if imag_before is None else _units(imag_before, scale)
    spiking = turns(_units(imag, scale), last)
    tested = torch.where(
        spiking | real.isnan(), real.detach().to(torch.float32), -(2.0**30) / scale
    )
    return adaptive_threshold(
        torch.where(imag.isnan(), torch.nan, tested),
        threshold_decay, refractory_decay, threshold, threshold_step, scale, state=state,
    )  # fmt: skip


USUAL_THRESHOLD = {
    "threshold_decay": 50, "refractory_decay": 80, "threshold": 1.0, "threshold_step": 0.125,
    "scale": 4096,
}  # fmt: skip


def largest_threshold(steps: int) -> float:
    """How large threshold and refractory can grow in so many steps of inputs up to 1."""
    return 24 * (steps + 2) ** 2


ADAPTIVE_THRESHOLD = Recurrence(
    None, adaptive_threshold, resets=False, trains=False, growth=largest_threshold,
    usual=USUAL_THRESHOLD,
)  # fmt: skip
