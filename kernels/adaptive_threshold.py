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

import numpy as np
import torch
from torch import Tensor

from .dispatch import TILE, define_op, execute, with_reference
from .fixed_point import decay, is_power_of_two, keep_of, to_fixed, to_float
from .language import jit, tl
from .layout import from_rows, neurons_a_parameter, state_rows, to_rows
from .lift import cpu_loop
from .memory import empty
from .rows import lanes, load_or_zero, load_rows, store_row, walk_forward
from .spike import turns

LOWEST = tl.constexpr(-(2**31))


@jit
def settle(th, r, theta, keep_th, keep_r):
    """Let threshold and refractory decay by one step, int32; ``keep`` is 4096 minus the decay."""
    return decay(th - theta, keep_th) + theta, decay(r, keep_r)


@jit
def rise(th, r, s, step):
    """Raise threshold and refractory where there is a spike."""
    return tl.where(s, th + step, th), tl.where(s, r + 2 * th, r)


@jit
def margin_above(y, limit):
    """How far a state is above its limit, int32; no lower than an int32 can be."""
    return tl.maximum(y, tl.maximum(limit, 0) + LOWEST) - limit


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def _adaptive_threshold_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    th, r = carry
    keep_th, keep_r, theta, step, scale = fixed
    EXACT: tl.constexpr = flags[0]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U):
        th, r = settle(th, r, theta, keep_th, keep_r)
        store_row(ptrs[1], base, at + i * C, to_float(th, scale, EXACT), live)
        store_row(ptrs[2], base, at + i * C, to_float(r, scale, EXACT), live)
        th, r = rise(th, r, to_fixed(xs[i], scale) >= th + r, step)
    return th, r


@jit
def _adaptive_threshold_kernel(
    x_ptr,  # [N, T, C] float32: what the threshold is compared with
    threshold_ptr, refractory_ptr,  # [N, T, C] float32, out: before the spike
    threshold_decay_ptr, refractory_decay_ptr,  # [1] or [channels] float32, 0..4096
    threshold0_ptr, refractory0_ptr,  # [N, C] float32 or None: state before the first step
    per, scale, theta, step, T, C, M,
    EXACT: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    keep_th = keep_of(tl.load(threshold_decay_ptr + c // per, mask=live, other=0.0))
    keep_r = keep_of(tl.load(refractory_decay_ptr + c // per, mask=live, other=0.0))
    r = to_fixed(load_or_zero(refractory0_ptr, j, live, tl.zeros([BLOCK], tl.float32)), scale)
    th = r * 0 + theta
    if threshold0_ptr is not None:
        th = to_fixed(tl.load(threshold0_ptr + j, mask=live, other=0.0), scale)
    walk_forward(
        _adaptive_threshold_rows, (th, r), (x_ptr, threshold_ptr, refractory_ptr),
        (keep_th, keep_r, theta, step, scale),
        base, at, live, T, C, (EXACT,), U, STAGES)  # fmt: skip


# CPU: a tile of neurons innermost, so that the loop vectorises; its states stay in the cache


@cpu_loop
def _adaptive_threshold_cpu(
    first, last, x, threshold, refractory, threshold_decay, refractory_decay,
    threshold0, refractory0, per, scale, theta, step, N, T, C, EXACT: tl.constexpr,
):  # fmt: skip
    th, r = np.empty(TILE, np.int32), np.empty(TILE, np.int32)
    keep_th, keep_r = np.empty(TILE, np.int32), np.empty(TILE, np.int32)
    tiles = (C + TILE - 1) // TILE
    for tile in range(first, last):
        n, c0 = tile // tiles, tile % tiles * TILE
        c1 = min(c0 + TILE, C)
        th[:], r[:] = theta, 0
        for i in range(c1 - c0):
            keep_th[i] = keep_of(threshold_decay[(c0 + i) // per])
            keep_r[i] = keep_of(refractory_decay[(c0 + i) // per])
            if threshold0 is not None:
                th[i] = to_fixed(threshold0[n, c0 + i], scale)
                r[i] = to_fixed(refractory0[n, c0 + i], scale)
        for t in range(T):
            x_t = x[n, t, c0:c1]
            threshold_t, refractory_t = threshold[n, t, c0:c1], refractory[n, t, c0:c1]
            for i in range(c1 - c0):
                th_i, r_i = settle(th[i], r[i], theta, keep_th[i], keep_r[i])
                threshold_t[i] = to_float(th_i, scale, EXACT)
                refractory_t[i] = to_float(r_i, scale, EXACT)
                s = to_fixed(x_t[i], scale) >= np.int32(th_i + r_i)
                th[i], r[i] = rise(th_i, r_i, s, step)


# The operator


@define_op(samples="x threshold0 refractory0")
def adaptive_threshold_fwd(
    x: Tensor, threshold_decay: Tensor, refractory_decay: Tensor,
    threshold0: Tensor | None, refractory0: Tensor | None, scale: float, theta: int, step: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return threshold and refractory."""
    threshold, refractory = (empty(x.shape, torch.float32, x) for _ in range(2))
    execute(
        _adaptive_threshold_kernel, _adaptive_threshold_cpu, x.shape,
        (x, threshold, refractory, threshold_decay, refractory_decay, threshold0, refractory0,
         neurons_a_parameter(x.shape[2], threshold_decay, refractory_decay), scale, theta, step),
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
        State units in 1.
    state
        Threshold and refractory ``[N, neurons...]`` before the first step; ``threshold`` and zero
        if None.

    Returns
    -------
    tuple of Tensor
        Threshold and refractory, of the shape of ``x``. No gradient flows through them.
    """
    threshold0, refractory0 = (None, None) if state is None else map(state_rows, state)
    rows = adaptive_threshold_fwd(
        to_rows(x.detach()), threshold_decay.detach(), refractory_decay.detach(),
        threshold0, refractory0, scale, round(threshold * scale), round(threshold_step * scale),
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
    """
    last = 0.0 if imag_before is None else _units(imag_before, scale)
    spiking = turns(_units(imag, scale), last)
    return adaptive_threshold(
        torch.where(spiking, real.detach().to(torch.float32), -(2.0**30) / scale),
        threshold_decay, refractory_decay, threshold, threshold_step, scale, state=state,
    )  # fmt: skip
