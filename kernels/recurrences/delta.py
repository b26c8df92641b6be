"""Delta: threshold encoder, the axon of sigma-delta networks; it sends changes, not values.

Forward (float32, in this order; theta is the threshold):

    d[t] = (x[t] - x[t-1]) + r[t-1]            change since the last event
    y[t] = d[t] if |d[t]| >= theta else 0      event
    r[t] = d[t] - y[t]                         residual, what has not been sent
    out[t] = floor(y[t] scale) / scale         toward minus infinity; not fed back into r

With an accumulated error (``cum_error``), e decides in place of d:

    e[t] = e[t-1] + d[t];   y[t] = d[t] if |e[t]| >= theta else 0;   e[t] = 0 where y[t] != 0

Backward (float32). Neither threshold nor residual nor floor is differentiated for the input; the
threshold has a surrogate of its own:

    g_x[t] = g[t] - g[t+1]
    g_theta = sum g[t] h(d[t])
    h(d) = -d scale_grad exp(-(|d| - theta) / tau_grad) / theta   if |d| > theta, else -sign(d)

Source: lava-dl axon/delta.py.
"""

import torch
from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    DEFAULT, derivative, from_rows, is_learned, jit, kernel_op, lanes, load_or_zero, load_rows,
    reduce_to, state_rows, store_row, surrogate, tl, to_rows, walk_backward, walk_forward,
    with_reference,
)  # fmt: skip

from .declared import Recurrence


@jit
def delta_step(x, p, r, e, theta, CUM: tl.constexpr):
    """Advance one step; ``p`` is the input before. Return d, y, and the new r and e."""
    d = (x - p) + r
    # silence is what is asked for: a NaN is not below the threshold and shows in the output
    if CUM:
        e = e + d
        y = tl.where(tl.abs(e) < theta, 0.0, d)
        e = tl.where(y == 0.0, e, 0.0)
    else:
        y = tl.where(tl.abs(d) < theta, 0.0, d)
    return d, y, d - y, e


@jit
def floor_of(x):
    """Return the largest whole number that is not above ``x``."""
    # Triton's takes a subnormal number for 0 on NVIDIA's GPUs, and below 0 its floor is -1
    whole = tl.floor(x)
    return tl.where(x < 0.0, tl.minimum(whole, -1.0), whole)


@jit
def to_grid(y, scale, unit, EXACT: tl.constexpr):
    """Round down to a multiple of ``unit = 1 / scale``; ``EXACT`` if that is a power of two."""
    # div_rn: plain division is approximate on a GPU, and outputs must be equal bit for bit
    if EXACT:
        return floor_of(y * scale) * unit
    else:
        return floor_of(tl.div_rn(y, unit)) * unit


@jit
def delta_step_threshold(g, d, theta, height, rate, SHAPE: tl.constexpr):
    """Gradient of the threshold at one step; ``height`` is scale_grad / theta."""
    beyond = tl.abs(d) - theta
    sign = tl.where(d > 0.0, 1.0, tl.where(d < 0.0, -1.0, 0.0))
    return -g * tl.where(beyond > 0.0, d * surrogate(beyond, height, rate, False, SHAPE), sign)


# Triton: a program owns 128 neurons and walks over time (rows.py)


@jit
def store_later(ptr, base, row, value, last, live, SHIFT: tl.constexpr):
    """Store a row, or with ``SHIFT`` the one before; return the one to be stored next."""
    if SHIFT:
        store_row(ptr, base, row, last, live)
    else:
        store_row(ptr, base, row, value, live)
    return value


@jit
def _delta_fwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    p, r, e, last = carry
    theta, scale, unit = fixed
    CUM: tl.constexpr = flags[0]
    SHIFT: tl.constexpr = flags[1]
    EXACT: tl.constexpr = flags[2]
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U):
        d, y, r, e = delta_step(xs[i], p, r, e, theta, CUM)
        p = xs[i]
        row = at + i * C
        last = store_later(
            ptrs[1], base, row, to_grid(y, scale, unit, EXACT), last, live, SHIFT)  # fmt: skip
        store_row(ptrs[2], base, row, d, live)
    return p, r, e, last


@jit
def _delta_fwd_kernel(
    x_ptr,  # [N, T, C] float32: value to be encoded
    y_ptr,  # [N, T, C] float32, out: events
    saved_ptr,  # [N, T, C] float32, out, or None: d, kept for the gradient of the threshold
    threshold_ptr,  # [1] or [channels] float32, above 0
    pre0_ptr, residual0_ptr, error0_ptr,  # [N, C] float32 or None: state before the first step
    pre1_ptr, residual1_ptr, error1_ptr,  # [N, C] float32, out, or None: after the last step
    per, scale, unit, T, C, M,
    CUM: tl.constexpr, SHIFT: tl.constexpr, EXACT: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    theta = tl.load(threshold_ptr + c // per, mask=live, other=1.0)
    rest = tl.zeros([BLOCK], tl.float32)
    p = load_or_zero(pre0_ptr, j, live, rest)
    r = load_or_zero(residual0_ptr, j, live, rest)
    e = load_or_zero(error0_ptr, j, live, rest)
    p, r, e, _ = walk_forward(
        _delta_fwd_rows, (p, r, e, rest), (x_ptr, y_ptr, saved_ptr), (theta, scale, unit),
        base, at, live, T, C, (CUM, SHIFT, EXACT), U, STAGES)  # fmt: skip
    store_row(pre1_ptr, 0, j, p, live)
    store_row(residual1_ptr, 0, j, r, live)
    store_row(error1_ptr, 0, j, e, live)


@jit
def _delta_bwd_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    g_after, g_later, total = carry
    theta, height, rate = fixed
    SHIFT: tl.constexpr = flags[0]
    SHAPE: tl.constexpr = flags[1]
    gs = load_rows(ptrs[0], base, at, C, live, U)
    ds = load_rows(ptrs[1], base, at, C, live, U)
    for i in tl.static_range(U - 1, -1, -1):
        g = g_later if SHIFT else gs[i]
        g_later = gs[i]
        store_row(ptrs[2], base, at + i * C, g - g_after, live)
        if ptrs[1] is not None:
            total += delta_step_threshold(g, ds[i], theta, height, rate, SHAPE)
        g_after = g
    return g_after, g_later, total


@jit
def _delta_bwd_kernel(
    g_ptr,  # [N, T, C] float32
    saved_ptr,  # [N, T, C] float32 or None: d, where the threshold is learned
    gx_ptr,  # [N, T, C] float32, out, or None
    threshold_ptr,  # [1] or [channels] float32
    total_ptr,  # [N, C] float32, out, or None: gradient of the threshold, not reduced
    per, scale_grad, rate, T, C, M,
    SHIFT: tl.constexpr, SHAPE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    theta = tl.load(threshold_ptr + c // per, mask=live, other=1.0)
    rest = tl.zeros([BLOCK], tl.float32)
    _, _, total = walk_backward(
        _delta_bwd_rows, (rest, rest, rest), (g_ptr, saved_ptr, gx_ptr),
        (theta, tl.div_rn(scale_grad, theta), rate),
        base, at, live, T, C, (SHIFT, SHAPE), U, STAGES)  # fmt: skip
    store_row(total_ptr, 0, j, total, live)


# The operators


@kernel_op(
    _delta_fwd_kernel, samples="x pre0 residual0 error0",
    outputs={
        "y": "[N, T, C]", "saved": "[N, T, C] if save",
        "pre1 residual1": "[N, C] if final", "error1": "[N, C] if final and cum_error",
    },
    values={"error0": "error0 if cum_error else None", "CUM": "cum_error"},
)  # fmt: skip
def delta_fwd(
    x: Tensor, threshold: Tensor, pre0: Tensor | None, residual0: Tensor | None,
    error0: Tensor | None, scale: float, tau_grad: float, scale_grad: float, surrogate: str,
    save: bool, final: bool, cum_error: bool, shift: bool,
):  # fmt: skip
    """Walk forward; what only backward needs is handed on."""


@kernel_op(
    _delta_bwd_kernel, samples="g saved",
    outputs={"gx": "[N, T, C] if wanted", "total": "[N, C] zeros if saved is not None"},
    values={"rate": "surrogate_named(surrogate).rate(tau_grad)"},
)  # fmt: skip
def delta_bwd(
    g: Tensor, saved: Tensor | None, threshold: Tensor, tau_grad: float, scale_grad: float,
    surrogate: str, shift: bool, wanted: bool,
):  # fmt: skip
    """Walk backward."""


@derivative(delta_fwd, delta_bwd)
def _delta_gradients(back):
    saved = back.saved if back.wants("threshold") else None
    gx, total = back.run(saved=saved, wanted=back.wants("x"))
    return {"x": gx, "threshold": reduce_to(back.threshold, total)}


@with_reference
def delta(
    x: Tensor, threshold: Tensor, scale: int, *,
    tau_grad: float = 1.0, scale_grad: float = 1.0, surrogate: str = DEFAULT,
    cum_error: bool = False, shift: bool = False,
    state: tuple[Tensor, Tensor, Tensor] | None = None, return_state: bool = False,
) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
    """Encode the changes of ``x`` over time as sparse graded events.

    Parameters
    ----------
    x
        Values ``[N, neurons..., T]``, real units.
    threshold
        Smallest change that is sent, above 0; as many values as 1 or as channels (dimension 1 of
        ``x``), in any shape.
    scale
        Events are rounded down to multiples of ``1 / scale``.
    tau_grad, scale_grad
        Width, above 0, and height of the surrogate gradient of the threshold theta: for a change d
        beyond it, ``-d * scale_grad / theta * h((|d| - theta) / tau_grad)``.
    surrogate
        Its shape h, by default exponential. Names as in
        ``lapilli.kernels.recurrences.cuba.cuba``.
    cum_error
        Compare the changes added up since the last event with the threshold, not the last change.
    shift
        Delay the output by one step; the first is 0 and the last is dropped.
    state
        Input, residual and accumulated error ``[N, neurons...]`` before the first step; zeros if
        None. No gradient flows into it.
    return_state
        Also return the state after the last step, detached.

    Returns
    -------
    Tensor
        Events, of the shape of ``x``; with ``return_state`` also ``(pre, residual, error)``, where
        ``error`` is zero without ``cum_error``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.delta import delta
    >>> x = torch.tensor([[[0.0, 0.5, 0.5, 0.625, 0.0]]])
    >>> delta(x, torch.tensor([0.25]), scale=64)
    tensor([[[ 0.0000,  0.5000,  0.0000,  0.0000, -0.5000]]])
    """
    saving = is_learned(threshold)
    before = (None, None, None) if state is None else map(state_rows, state)
    y, _, *after = delta_fwd(
        to_rows(x), threshold.reshape(-1), *before, scale, tau_grad, scale_grad, surrogate,
        saving, return_state, cum_error, shift,
    )  # fmt: skip
    y = from_rows(y, x.shape[1:-1])
    if not return_state:
        return y
    pre, residual, error = named_state(after, x)
    return y, (pre, residual, error)


def named_state(rows: list[Tensor], x: Tensor) -> tuple[Tensor, ...]:
    """Show states ``[N, C]`` as ``[N, neurons...]``; one that was not computed is zero."""
    shape = x.shape[:-1]
    return tuple(
        x.new_zeros(shape, dtype=torch.float32) if s is None or not s.numel() else s.view(shape)
        for s in rows
    )


DELTA = Recurrence(delta, kept=(0, 4), usual={"threshold": 0.125, "scale": 64})
