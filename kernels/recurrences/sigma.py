"""Sigma: running sum over time, the dendrite of sigma-delta networks.

Forward (float32, one rounded addition a step):

    y[t] = y[t-1] + x[t]

Backward (float32), the same sum from the last step to the first:

    g_x[t] = g_x[t+1] + g_y[t]

lava-dl adds in float64 on the CPU and rounds each output. Both are exact, and so equal bit for bit,
as long as the sums stay within 2**24 steps of a fixed grid; weights and events are on one.

Source: lava-dl dendrite/sigma.py.
"""

from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    contiguous_rows, differentiable, from_rows, from_state_rows, jit, kernel_op, lanes,
    load_or_zero, load_rows, state_rows, store_row, tl, to_rows, walk_backward, walk_forward,
    with_reference,
)  # fmt: skip

from .declared import Recurrence


@jit
def sigma_step(y, x):
    """Advance one step; the backward step is the same."""
    return y + x


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def _sigma_rows(
    y, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    REVERSE: tl.constexpr = flags[0]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U):
        y = sigma_step(y, xs[U - 1 - i if REVERSE else i])
        store_row(ptrs[1], base, at + (U - 1 - i if REVERSE else i) * C, y, live)
    return y


@jit
def _sigma_kernel(
    x_ptr,  # [N, T, C] float32
    y_ptr,  # [N, T, C] float32, out
    sum0_ptr,  # [N, C] float32 or None: sum before the first step
    sum1_ptr,  # [N, C] float32, out, or None: sum after the last step
    T, C, M, REVERSE: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, _ = lanes(T, C, BLOCK)
    live = j < M
    y = load_or_zero(sum0_ptr, j, live, tl.zeros([BLOCK], tl.float32))
    if REVERSE:
        y = walk_backward(
            _sigma_rows, y, (x_ptr, y_ptr), (),
            base, at, live, T, C, (REVERSE,), U, STAGES)  # fmt: skip
    else:
        y = walk_forward(
            _sigma_rows, y, (x_ptr, y_ptr), (),
            base, at, live, T, C, (REVERSE,), U, STAGES)  # fmt: skip
    store_row(sum1_ptr, 0, j, y, live)


# The operator


@kernel_op(_sigma_kernel, samples="x sum0", outputs={"y": "[N, T, C]", "sum1": "[N, C] if final"})
def sigma_sum(x: Tensor, sum0: Tensor | None, reverse: bool, final: bool):
    """Add up, in either direction."""


def _save(ctx, inputs, output):
    _, _, ctx.reverse, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, g_y, _sum1):
    gx, _ = sigma_sum(contiguous_rows(g_y), None, not ctx.reverse, False)
    return gx, None, None, None


differentiable(sigma_sum, _backward, _save)


@with_reference
def sigma(
    x: Tensor, *, state: Tensor | None = None, return_state: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Add up ``x`` over time.

    Parameters
    ----------
    x
        ``[N, neurons..., T]``, real units.
    state
        Sum ``[N, neurons...]`` before the first step; zeros if None. No gradient flows into it.
    return_state
        Also return the sum after the last step, detached.

    Returns
    -------
    Tensor
        Running sum, of the shape of ``x``; with ``return_state`` also its last value.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.sigma import sigma
    >>> sigma(torch.tensor([[[1.0, 0.0, 2.0]]]))
    tensor([[[1., 1., 3.]]])
    """
    y, sum1 = sigma_sum(to_rows(x), state_rows(state), False, return_state)
    y = from_rows(y, x.shape[1:-1])
    return (y, from_state_rows(sum1, x)) if return_state else y


SIGMA = Recurrence(sigma)
