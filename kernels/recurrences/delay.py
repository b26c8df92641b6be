"""Delays: the hop of one step between layers, and a learnable delay of each channel.

    step      y[t] = x[t - 1],  y[0] = first frame or 0
    channel   y[t] = x[t - d],  0 before,      d = floor(delay / sampling_time)

Backward (float32). The floor is not differentiated; the delay's gradient is the slope of the
output, as a forward difference would give it:

    g_x[t] = g[t + d]
    g_delay = grad_scale sum_t g[t] (y[t-1] - y[t]),  y[-1] = 0

Source: lava-dl axon/delay.py, block/base.py.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import TILE, execute, with_reference
from lapilli.kernels.executors.layout import (
    contiguous_rows,
    from_rows,
    neurons_a_parameter,
    state_rows,
    to_rows,
)
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.executors.operators import define_op, differentiable
from lapilli.kernels.executors.rows import lanes, load_or_zero, load_rows, store_row, walk_forward
from lapilli.kernels.executors.sums import reduce_to
from lapilli.kernels.numbers.language import jit, tl
from torch import Tensor

from .declared import Recurrence

if TYPE_CHECKING:  # the generated modules import these, see lift.py
    from lapilli.kernels.executors.scalar_ops import maximum, minimum

FARTHEST = tl.constexpr(1073741824.0)  # 2**30 steps: more is as good as this, and fits an int32


@jit
def whole_steps(delay, sampling_time):
    """Return floor(delay / sampling_time) as int32; a negative delay counts as 0, so does NaN."""
    # div_rn: plain division is approximate on a GPU, and a whole delay must stay whole
    steps = tl.div_rn(delay, sampling_time)
    return tl.where(steps > 0.0, tl.minimum(steps, FARTHEST), 0.0).to(tl.int32)


@jit
def delay_slope(total, g, before, now):
    """Add one step to the gradient of a delay."""
    return total + g * (before - now)


# Triton: a program owns 128 neurons and walks over time (rows.py); lanes read rows of their own


@jit
def _load_moved(ptr, base, at, live, t, T, C, steps, outside, U: tl.constexpr):
    """Load ``U`` rows, each lane's ``steps`` before row ``at`` (after it if negative)."""
    rows = ()
    for i in tl.static_range(U):
        source = t + i - steps
        there = live & (source >= 0) & (source < T)
        row = tl.load(ptr + base + (at + (i - steps) * C), mask=there, other=outside)
        rows = rows + (row,)  # noqa: RUF005 (Triton reads this)
    return rows


@jit
def _delay_fwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    steps, first, T = fixed
    ys = _load_moved(ptrs[0], base, at, live, t, T, C, steps, first, U)
    for i in tl.static_range(U):
        store_row(ptrs[1], base, at + i * C, ys[i], live)
    return carry


@jit
def _steps_of(delay_ptr, c, live, per, sampling_time):
    """Return the steps of each lane; 1 where there is no delay to read."""
    if delay_ptr is None:
        return c * 0 + 1
    else:
        delay = tl.load(delay_ptr + c // per, mask=live, other=0.0)
        return whole_steps(delay, sampling_time)


@jit
def _delay_fwd_kernel(
    x_ptr,  # [N, T, C] float32
    y_ptr,  # [N, T, C] float32, out
    delay_ptr,  # [1] or [channels] float32, or None: one step
    first_ptr,  # [N, C] float32 or None: what comes out before the input does
    per, sampling_time, T, C, M, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    steps = _steps_of(delay_ptr, c, live, per, sampling_time)
    first = load_or_zero(first_ptr, j, live, tl.zeros([BLOCK], tl.float32))
    walk_forward(
        _delay_fwd_rows, first, (x_ptr, y_ptr), (steps, first, T),
        base, at, live, T, C, (), U, STAGES)  # fmt: skip


@jit
def _delay_bwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    slope, before = carry
    steps, rest, T = fixed
    ys = load_rows(ptrs[1], base, at, C, live, U)
    gs = ()
    gxs = ()
    if ptrs[1] is not None:
        gs = load_rows(ptrs[0], base, at, C, live, U)
    if ptrs[2] is not None:
        gxs = _load_moved(ptrs[0], base, at, live, t, T, C, -steps, rest, U)
    for i in tl.static_range(U):
        if ptrs[1] is not None:
            slope = delay_slope(slope, gs[i], before, ys[i])
            before = ys[i]
        if ptrs[2] is not None:
            store_row(ptrs[2], base, at + i * C, gxs[i], live)
    return slope, before


@jit
def _delay_bwd_kernel(
    g_ptr,  # [N, T, C] float32
    y_ptr,  # [N, T, C] float32, or None where the delay is not learned: the output
    gx_ptr,  # [N, T, C] float32, out, or None
    delay_ptr,  # [1] or [channels] float32, or None: one step
    slope_ptr,  # [N, C] float32, out, or None: gradient of the delay, not reduced
    per, sampling_time, T, C, M, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    steps = _steps_of(delay_ptr, c, live, per, sampling_time)
    rest = tl.zeros([BLOCK], tl.float32)
    slope, _ = walk_forward(
        _delay_bwd_rows, (rest, rest), (g_ptr, y_ptr, gx_ptr), (steps, rest, T),
        base, at, live, T, C, (), U, STAGES)  # fmt: skip
    store_row(slope_ptr, 0, j, slope, live)


# CPU: a tile of neurons innermost


@cpu_loop
def _delay_fwd_cpu(first, last, x, y, delay, first_frame, per, sampling_time, N, T, C):
    steps = np.empty(TILE, np.int32)
    before = np.zeros(TILE, np.float32)
    tiles = (C + TILE - 1) // TILE
    for tile in range(first, last):
        n, c0 = tile // tiles, tile % tiles * TILE
        c1 = min(c0 + TILE, C)
        if first_frame is not None:
            for i in range(c1 - c0):
                before[i] = first_frame[n, c0 + i]
        least = most = np.int32(1)
        if delay is not None:
            at, left = c0 // per, per - c0 % per  # counted: a division takes as long as the rest
            least = most = whole_steps(delay[at], sampling_time)
            for i in range(c1 - c0):
                steps[i] = whole_steps(delay[at], sampling_time)
                least, most = minimum(least, steps[i]), maximum(most, steps[i])
                left -= 1
                if left == 0:
                    at, left = at + 1, per
        x_n = x[n, :, c0:c1]
        for t in range(T):
            y_t = y[n, t, c0:c1]
            if least == most:  # a copy, which vectorises
                x_t = x[n, t - least, c0:c1] if t >= least else before
                for i in range(c1 - c0):
                    y_t[i] = x_t[i]
            else:
                for i in range(c1 - c0):
                    y_t[i] = x_n[t - steps[i], i] if t >= steps[i] else before[i]


@cpu_loop
def _delay_bwd_cpu(first, last, g, y, gx, delay, slope, per, sampling_time, N, T, C):
    steps = np.empty(TILE, np.int32)
    total = np.empty(TILE, np.float32)
    rest = np.zeros(TILE, np.float32)
    tiles = (C + TILE - 1) // TILE
    for tile in range(first, last):
        n, c0 = tile // tiles, tile % tiles * TILE
        c1 = min(c0 + TILE, C)
        total[:] = 0
        least = most = np.int32(1)
        if delay is not None:
            at, left = c0 // per, per - c0 % per  # counted: a division takes as long as the rest
            least = most = whole_steps(delay[at], sampling_time)
            for i in range(c1 - c0):
                steps[i] = whole_steps(delay[at], sampling_time)
                least, most = minimum(least, steps[i]), maximum(most, steps[i])
                left -= 1
                if left == 0:
                    at, left = at + 1, per
        g_n = g[n, :, c0:c1]
        for t in range(T):
            if gx is not None:
                gx_t = gx[n, t, c0:c1]
                if least == most:
                    g_t = g[n, t + least, c0:c1] if T - t > least else rest
                    for i in range(c1 - c0):
                        gx_t[i] = g_t[i]
                else:
                    for i in range(c1 - c0):
                        stays = T - t > steps[i]  # T may be small: t + steps must not overflow
                        gx_t[i] = g_n[t + steps[i], i] if stays else np.float32(0)
            if slope is not None:
                g_now, y_now = g[n, t, c0:c1], y[n, t, c0:c1]
                y_before = y[n, t - 1, c0:c1] if t > 0 else rest
                for i in range(c1 - c0):
                    total[i] = delay_slope(total[i], g_now[i], y_before[i], y_now[i])
        if slope is not None:
            for i in range(c1 - c0):
                slope[n, c0 + i] = total[i]


# The operator


@define_op(samples="x first")
def delay_fwd(
    x: Tensor, delay: Tensor | None, first: Tensor | None, sampling_time: float, grad_scale: float
) -> Tensor:
    """Return the delayed rows."""
    N, T, C = x.shape
    y = empty(x.shape, torch.float32, x)
    per = 1 if delay is None else neurons_a_parameter(C, delay)
    args = x, y, delay, first, per, sampling_time
    execute(_delay_fwd_kernel, (N, T, C), args, loop=_delay_fwd_cpu)
    return y


@define_op(samples="g y")
def delay_bwd(
    g: Tensor, y: Tensor | None, delay: Tensor | None, sampling_time: float, grad_scale: float,
    shift_back: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the gradient of the input and, where ``y`` is given, the partials of the delay's."""
    N, T, C = g.shape
    gx = empty(g.shape, torch.float32, g) if shift_back else None
    slope = None if y is None else g.new_zeros(N, C)
    per = 1 if delay is None else neurons_a_parameter(C, delay)
    args = g, y, gx, delay, slope, per, sampling_time
    execute(_delay_bwd_kernel, (N, T, C), args, loop=_delay_bwd_cpu)
    # None where it is not wanted, see define_op
    return gx, slope  # pyright: ignore[reportReturnType]


def _save(ctx, inputs, output):
    _, delay, _, ctx.sampling_time, ctx.grad_scale = inputs
    learning = delay is not None and ctx.needs_input_grad[1]
    ctx.save_for_backward(output if learning else None, delay)


def _backward(ctx, g):
    y, delay = ctx.saved_tensors
    wanted = ctx.needs_input_grad[0]
    gx, slope = delay_bwd(contiguous_rows(g), y, delay, ctx.sampling_time, ctx.grad_scale, wanted)
    g_delay = None if y is None else ctx.grad_scale * reduce_to(delay, slope)
    return (gx if wanted else None), g_delay, None, None, None


differentiable(delay_fwd, _backward, _save)


def _save_bwd(ctx, inputs, output):
    g, y, delay, ctx.sampling_time, ctx.grad_scale, ctx.shift_back = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(g, y, delay)


def _bwd_backward(ctx, gg_x, g_slope):
    """Differentiate <gg_x, g_x> = <delayed gg_x, g>, and the slope, linear in ``g`` and ``y``."""
    g, y, delay = ctx.saved_tensors
    g_g = g_y = g_delay = None
    if ctx.shift_back and gg_x is not None:
        g_g = delay_fwd(contiguous_rows(gg_x), delay, None, ctx.sampling_time, ctx.grad_scale)
        if ctx.needs_input_grad[2]:
            slope = (g * (_before(g_g) - g_g)).sum(1)
            g_delay = ctx.grad_scale * reduce_to(delay, slope)
    if y is not None and g_slope is not None:
        each = g_slope.unsqueeze(1)
        falls = each * (_before(y) - y)
        g_g = falls if g_g is None else g_g + falls
        g_y = each * (torch.nn.functional.pad(g[:, 1:], (0, 0, 0, 1)) - g)
    return g_g, g_y, g_delay, None, None, None


def _before(rows: Tensor) -> Tensor:
    """Return the row before each one, of ``[N, T, C]``; zeros before the first."""
    return torch.nn.functional.pad(rows[:, :-1], (0, 0, 1, 0))


differentiable(delay_bwd, _bwd_backward, _save_bwd)


@with_reference
def step_delay(x: Tensor, first: Tensor | None = None) -> Tensor:
    """Delay by one step; what was the last frame is not in the result.

    Parameters
    ----------
    x
        ``[N, neurons..., T]``.
    first
        Frame ``[N, neurons...]`` that comes out first; zeros if None. No gradient flows into it.

    Returns
    -------
    Tensor
        Of the shape of ``x``; a new tensor.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.delay import step_delay
    >>> step_delay(torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[0., 1., 2.]]])
    """
    rows = delay_fwd(to_rows(x), None, state_rows(first), 1.0, 1.0)
    return from_rows(rows, x.shape[1:-1])


@with_reference
def channel_delay(
    x: Tensor, delay: Tensor, *, sampling_time: float = 1.0, grad_scale: float = 1.0
) -> Tensor:
    """Delay each channel by its own whole number of steps; what leaves the sequence is lost.

    Parameters
    ----------
    x
        ``[N, channels, (height, width,) T]``.
    delay
        ``[1]`` or ``[channels]``, in the unit of ``sampling_time``; used rounded down, and as 0
        below 0.
    sampling_time
        Length of a step, above 0.
    grad_scale
        Factor of the gradient of ``delay``.

    Returns
    -------
    Tensor
        Of the shape of ``x``; a new tensor.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.delay import channel_delay
    >>> x = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    >>> channel_delay(x, torch.tensor([0.0, 2.0]))
    tensor([[[1., 0., 0.],
             [0., 0., 1.]]])
    """
    rows = delay_fwd(to_rows(x), delay, None, float(sampling_time), float(grad_scale))
    return from_rows(rows, x.shape[1:-1])


STEP_DELAY = Recurrence(step_delay)
CHANNEL_DELAY = Recurrence(channel_delay, kept=(0, 4), usual={"delay": 3.0})
