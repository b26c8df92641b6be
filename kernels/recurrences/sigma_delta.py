"""Sigma-delta neuron: running sum, activation and delta encoder in one pass.

Forward (float32; b is the bias, phi the rectifier or nothing):

    m[t] = m[t-1] + x[t]                       running sum (sigma.py)
    a[t] = phi(m[t] + b)                       activation
    s[t] = delta encoder of a                  events, floored to the grid (delta.py)

Backward (float32); the encoder passes straight through:

    g_a[t] = g[t] - g[t+1]
    g_x[t] = g_x[t+1] + phi'(m[t] + b) g_a[t]
    g_b    = g_x[0], summed over the samples;   g_theta as in delta.py

Only the sign of m + b is kept for phi', as one bit a step: 32 steps of a neuron share an int32.

Source: lava-dl neuron/sigma_delta.py, dendrite/sigma.py, axon/delta.py.
"""

import torch
from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    DEFAULT, derivative, from_rows, is_learned, jit, kernel_op, lanes, load_or_zero, load_rows,
    reduce_to, state_rows, store_row, tl, to_rows, walk_backward, walk_forward,
    with_reference,
)  # fmt: skip

from .declared import Recurrence
from .delta import delta_step, delta_step_threshold, named_state, store_later, to_grid
from .sigma import sigma_step

WORD_BITS = tl.constexpr(5)  # a word of the mask holds 2**5 steps
WORD_LAST = tl.constexpr(31)


@jit
def sigma_delta_step(m, x, bias, p, r, e, theta, RELU: tl.constexpr, CUM: tl.constexpr):
    """Advance one step. Return the new m, the activation, d, y, and the new r and e."""
    m = sigma_step(m, x)
    a = m + bias
    if RELU:
        a = tl.where(a <= 0.0, 0.0, a)  # a NaN passes
    d, y, r, e = delta_step(a, p, r, e, theta, CUM)
    return m, a, d, y, r, e


@jit
def sigma_delta_step_bwd(g_x, g, g_after, passes):
    """Go back one step through encoder, activation and sum; ``passes`` is its derivative."""
    return g_x + tl.where(passes, g - g_after, 0.0)


@jit
def set_bit(word, a, k):
    """Note in bit ``k`` whether the rectifier passes a gradient: where its output is not zero."""
    return word | (tl.where(a == 0.0, 0, 1) << k)


@jit
def get_bit(word, k):
    """Read bit ``k``."""
    return ((word >> k) & 1) > 0


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def _sigma_delta_fwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    m, p, r, e, last, word = carry
    theta, bias, scale, unit, word_base, word_at = fixed
    RELU: tl.constexpr = flags[0]
    CUM: tl.constexpr = flags[1]
    SHIFT: tl.constexpr = flags[2]
    EXACT: tl.constexpr = flags[3]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    if ptrs[3] is not None:
        word = tl.where(word * 0 + (t & WORD_LAST) == 0, 0, word)
    for i in tl.static_range(U):
        m, p, d, y, r, e = sigma_delta_step(m, xs[i], bias, p, r, e, theta, RELU, CUM)
        row = at + i * C
        last = store_later(
            ptrs[1], base, row, to_grid(y, scale, unit, EXACT), last, live, SHIFT)  # fmt: skip
        store_row(ptrs[2], base, row, d, live)
        if ptrs[3] is not None:
            word = set_bit(word, p, (t & WORD_LAST) + i)
    # the last of the stores to a word is the complete one
    store_row(ptrs[3], word_base, word_at + (t >> WORD_BITS) * C, word, live)
    return m, p, r, e, last, word


@jit
def _sigma_delta_fwd_kernel(
    x_ptr,  # [N, T, C] float32: weighted input
    y_ptr,  # [N, T, C] float32, out: events
    saved_ptr,  # [N, T, C] float32, out, or None: d, kept for the gradient of the threshold
    mask_ptr,  # [N, words, C] int32, out, or None: where the rectifier passes a gradient
    threshold_ptr,  # [1] or [channels] float32, above 0
    bias_ptr,  # [1], [channels] or [C] float32, or None
    sum0_ptr, pre0_ptr, residual0_ptr, error0_ptr,  # [N, C] float32 or None: state before
    sum1_ptr, pre1_ptr, residual1_ptr, error1_ptr,  # [N, C] float32, out, or None: state after
    per, per_bias, words, scale, unit, T, C, M,
    RELU: tl.constexpr, CUM: tl.constexpr, SHIFT: tl.constexpr, EXACT: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    _, word_base, word_at, _ = lanes(words, C, BLOCK)
    live = j < M
    theta = tl.load(threshold_ptr + c // per, mask=live, other=1.0)
    rest = tl.zeros([BLOCK], tl.float32)
    bias = load_or_zero(bias_ptr, c // per_bias, live, rest)
    m = load_or_zero(sum0_ptr, j, live, rest)
    p = load_or_zero(pre0_ptr, j, live, rest)
    r = load_or_zero(residual0_ptr, j, live, rest)
    e = load_or_zero(error0_ptr, j, live, rest)
    m, p, r, e, _, _ = walk_forward(
        _sigma_delta_fwd_rows, (m, p, r, e, rest, tl.zeros([BLOCK], tl.int32)),
        (x_ptr, y_ptr, saved_ptr, mask_ptr),
        (theta, bias, scale, unit, word_base, word_at),
        base, at, live, T, C, (RELU, CUM, SHIFT, EXACT), U, STAGES)  # fmt: skip
    store_row(sum1_ptr, 0, j, m, live)
    store_row(pre1_ptr, 0, j, p, live)
    store_row(residual1_ptr, 0, j, r, live)
    store_row(error1_ptr, 0, j, e, live)


@jit
def _sigma_delta_bwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    g_x, g_after, g_later, total = carry
    theta, height, rate, word_base, word_at = fixed
    SHIFT: tl.constexpr = flags[0]
    SHAPE: tl.constexpr = flags[1]
    gs = load_rows(ptrs[0], base, at, C, live, U)
    ds = load_rows(ptrs[1], base, at, C, live, U)
    words = load_rows(ptrs[2], word_base, word_at + (t >> WORD_BITS) * C, C, live, 1)
    for i in tl.static_range(U - 1, -1, -1):
        g = g_later if SHIFT else gs[i]
        g_later = gs[i]
        passes = live if ptrs[2] is None else get_bit(words[0], (t & WORD_LAST) + i)
        g_x = sigma_delta_step_bwd(g_x, g, g_after, passes)
        store_row(ptrs[3], base, at + i * C, g_x, live)
        if ptrs[1] is not None:
            total += delta_step_threshold(g, ds[i], theta, height, rate, SHAPE)
        g_after = g
    return g_x, g_after, g_later, total


@jit
def _sigma_delta_bwd_kernel(
    g_ptr,  # [N, T, C] float32
    saved_ptr,  # [N, T, C] float32 or None: d, where the threshold is learned
    mask_ptr,  # [N, words, C] int32, or None where there is no rectifier
    gx_ptr,  # [N, T, C] float32, out, or None
    threshold_ptr,  # [1] or [channels] float32
    total_ptr,  # [N, C] float32, out, or None: gradient of the threshold, not reduced
    per, words, scale_grad, rate, T, C, M,
    SHIFT: tl.constexpr, SHAPE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    _, word_base, word_at, _ = lanes(words, C, BLOCK)
    live = j < M
    theta = tl.load(threshold_ptr + c // per, mask=live, other=1.0)
    rest = tl.zeros([BLOCK], tl.float32)
    _, _, _, total = walk_backward(
        _sigma_delta_bwd_rows, (rest, rest, rest, rest),
        (g_ptr, saved_ptr, mask_ptr, gx_ptr),
        (theta, tl.div_rn(scale_grad, theta), rate, word_base, word_at),
        base, at, live, T, C, (SHIFT, SHAPE), U, STAGES)  # fmt: skip
    store_row(total_ptr, 0, j, total, live)


# The operators


@kernel_op(
    _sigma_delta_fwd_kernel, samples="x sum0 pre0 residual0 error0",
    outputs={
        "y": "[N, T, C]", "saved": "[N, T, C] if save", "mask": "[N, words, C] int32 if words",
        "sum1 pre1 residual1": "[N, C] if final", "error1": "[N, C] if final and cum_error",
    },
    values={"error0": "error0 if cum_error else None", "CUM": "cum_error"},
)  # fmt: skip
def sigma_delta_fwd(
    x: Tensor, threshold: Tensor, bias: Tensor | None, sum0: Tensor | None,
    pre0: Tensor | None, residual0: Tensor | None, error0: Tensor | None,
    scale: float, tau_grad: float, scale_grad: float, surrogate: str,
    save: bool, words: int, final: bool, relu: bool, cum_error: bool, shift: bool,
):  # fmt: skip
    """Walk forward; the mask has ``words`` words of 32 steps a neuron, 0 where nobody needs it."""


@kernel_op(
    _sigma_delta_bwd_kernel, samples="g saved mask",
    outputs={"gx": "[N, T, C] if wanted", "total": "[N, C] zeros if saved is not None"},
    values={
        "rate": "surrogate_named(surrogate).rate(tau_grad)",
        "words": "1 if mask is None else mask.shape[1]",
    },
)  # fmt: skip
def sigma_delta_bwd(
    g: Tensor, saved: Tensor | None, mask: Tensor | None, threshold: Tensor,
    tau_grad: float, scale_grad: float, surrogate: str, shift: bool, wanted: bool,
):  # fmt: skip
    """Walk backward."""


@derivative(sigma_delta_fwd, sigma_delta_bwd)
def _sigma_delta_gradients(back):
    wanted = back.wants("x", "bias")
    gx, total = back.run(
        saved=back.saved if back.wants("threshold") else None,
        mask=back.mask if wanted else None, wanted=wanted,
    )  # fmt: skip
    of_bias = None
    if back.wants("bias"):
        first = gx[:, 0] if gx.shape[1] else gx.sum(1)  # without steps there is none
        of_bias = reduce_to(back.bias, first)
    return {
        "x": gx if back.wants("x") else None,
        "threshold": reduce_to(back.threshold, total),
        "bias": of_bias,
    }


@with_reference
def sigma_delta(
    x: Tensor, threshold: Tensor, scale: int, *, bias: Tensor | None = None, relu: bool = True,
    tau_grad: float = 1.0, scale_grad: float = 1.0, surrogate: str = DEFAULT,
    cum_error: bool = False, shift: bool = False,
    state: tuple[Tensor, Tensor, Tensor, Tensor] | None = None, return_state: bool = False,
) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:  # fmt: skip
    """Run sigma-delta neurons over time: sum, bias, activation and encoder in one pass.

    Equal bit for bit to ``sigma``, ``torch.relu(y + bias)`` and ``delta`` one after the other.

    Parameters
    ----------
    x
        Weighted input, ``[N, neurons..., T]``, real units.
    threshold, scale, tau_grad, scale_grad, surrogate, cum_error, shift
        As for ``lapilli.kernels.recurrences.delta.delta``.
    bias
        Added to the sum: as many values as 1, as channels, or as neurons, in any shape; None for
        none.
    relu
        Rectify the biased sum; otherwise it is encoded as it is.
    state
        Sum, activation, residual and accumulated error ``[N, neurons...]`` before the first step;
        zeros if None. No gradient flows into it.
    return_state
        Also return the state after the last step, detached.

    Returns
    -------
    Tensor
        Events, of the shape of ``x``; with ``return_state`` also ``(sum, pre, residual, error)``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.sigma_delta import sigma_delta
    >>> x = torch.tensor([[[0.5, 0.0, 0.125, -2.0]]])
    >>> sigma_delta(x, torch.tensor([0.25]), scale=64)  # sums of 0.5, 0.5, 0.625, -1.375
    tensor([[[ 0.5000,  0.0000,  0.0000, -0.5000]]])
    """
    before = (None,) * 4 if state is None else map(state_rows, state)
    words = 0
    if relu and is_learned(x, bias):
        T = x.shape[-1]
        # a graph is traced for any T; with a word to spare it is never one, which torch fixes
        words = T // 32 + 2 if torch.compiler.is_compiling() else -(-T // 32)
    y, _, _, *after = sigma_delta_fwd(
        to_rows(x), threshold.reshape(-1), None if bias is None else bias.reshape(-1), *before,
        scale, tau_grad, scale_grad, surrogate, is_learned(threshold), words,
        return_state, relu, cum_error, shift,
    )  # fmt: skip
    y = from_rows(y, x.shape[1:-1])
    if not return_state:
        return y
    total, pre, residual, error = named_state(after, x)
    return y, (total, pre, residual, error)


SIGMA_DELTA = Recurrence(  # a bit a step says where the rectifier let through
    sigma_delta, kept=(1 / 8, 4 + 1 / 8), usual={"threshold": 0.125, "scale": 64}
)
