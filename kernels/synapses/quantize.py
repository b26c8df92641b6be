"""Quantisation of weights, with straight-through gradients.

    quantize(x)   = round(x / step) step, or floor          gradient 1
    quantize_8bit = clip(round(w / step), -128, 127) step   gradient 1 inside the clip, else 0

with step = 2 / scale: Loihi's 8-bit weights in signed mode are even integers. Rounding is half to
even; the gradient looks at the rounded value, so a weight that rounds onto a limit keeps it.

Source: lava-dl utils/quantize.py, neuron/base.py.
"""

from enum import IntEnum

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import TILE, execute, with_reference
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.executors.operators import define_op, differentiable
from lapilli.kernels.numbers.fixed_point import round_even
from lapilli.kernels.numbers.language import jit, tl
from torch import Tensor

WEIGHT_BITS = 7  # magnitude bits of an 8-bit weight; the lowest bit of its mantissa is always 0


class QuantizeMode(IntEnum):
    """How ``quantize`` rounds.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils.quantize import MODE, quantize
    >>> quantize(torch.tensor([0.7, -0.2]), step=0.5, mode=MODE.FLOOR)
    tensor([ 0.5000, -0.5000])
    """

    ROUND = 0
    FLOOR = 1


class _Quantize(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, step, floor):
        levels = torch.div(x, step)
        return (levels.floor_() if floor else levels.round_()).mul_(step)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None, None

    @staticmethod
    def jvp(ctx, tangent, _step, _floor):
        return tangent.clone()


@jit
def quantize_step(x, step, limit):
    """Return the level of ``x``, clipped to [-limit, limit - 1], and whether it lay in there."""
    # first into a range that fits the rounding; beyond it all levels are clipped
    level = round_even(tl.minimum(tl.maximum(tl.div_rn(x, step), -limit - 1.0), limit + 0.0))
    clipped = tl.minimum(tl.maximum(level, -limit), limit - 1)
    return clipped, level == clipped


@jit
def _quantize_kernel(
    x_ptr,  # [C] float32
    g_ptr,  # [C] float32 or None: gradient of the result, instead of which y is that of x
    y_ptr,  # [C] float32, out
    step, limit, unit, T, C, M, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = j < M
    x = tl.load(x_ptr + j, mask=live, other=0.0)
    level, inside = quantize_step(x, step, limit)
    if g_ptr is None:
        # what is not a number stays so
        y = tl.where(x == x, level.to(tl.float32) * unit, x)
    else:
        y = tl.where(inside, tl.load(g_ptr + j, mask=live, other=0.0) * unit, 0.0)
    tl.store(y_ptr + j, y, mask=live)


@cpu_loop
def _quantize_cpu(first, last, x, g, y, step, limit, unit, N, T, C):
    # pieces, whose indices cannot be negative: else LLVM would gather one entry after another
    start, end = first * TILE, min(last * TILE, C)
    x, y = x[start:end], y[start:end]
    if g is not None:
        g = g[start:end]
    for i in range(len(x)):
        level, inside = quantize_step(x[i], step, limit)
        if g is not None:
            slope = g[i] * unit  # read always: few processors can read some of several numbers
            y[i] = slope if inside else np.float32(0)
        else:
            y[i] = np.float32(level) * unit if x[i] == x[i] else x[i]


@define_op
def quantize_clipped(x: Tensor, step: float, limit: int, unit: float) -> Tensor:
    """Return the clipped level of each entry times ``unit``."""
    return _each(x, None, step, limit, unit)


@define_op
def quantize_clipped_bwd(g: Tensor, x: Tensor, step: float, limit: int, unit: float) -> Tensor:
    """Return the gradient times ``unit`` where the level was not clipped, else 0."""
    return _each(x, g, step, limit, unit)


def _each(x: Tensor, g: Tensor | None, step: float, limit: int, unit: float) -> Tensor:
    y = empty(x.shape, torch.float32, x)
    flat = (t if t is None else t.contiguous().view(-1) for t in (x, g))
    args = *flat, y.view(-1), step, limit, unit
    execute(_quantize_kernel, (1, 1, x.numel()), args, loop=_quantize_cpu)
    return y


def _save(ctx, inputs, output):
    x, step, limit, unit = inputs
    ctx.save_for_backward(x)  # a parameter, as a rule: keeping it takes no memory
    ctx.constants = step, limit, unit / step


def _backward(ctx, g):
    (x,) = ctx.saved_tensors
    return quantize_clipped_bwd(g, x, *ctx.constants), None, None, None


differentiable(quantize_clipped, _backward, _save)


def _save_x(ctx, inputs, output):
    _, x, *ctx.constants = inputs
    ctx.save_for_backward(x)


def _second_backward(ctx, g):
    # linear in the gradient; where the clip begins does not depend on the weight's last digits
    (x,) = ctx.saved_tensors
    return quantize_clipped_bwd(g, x, *ctx.constants), None, None, None, None


differentiable(quantize_clipped_bwd, _second_backward, _save_x)


def _float(x: Tensor) -> Tensor:
    """Quantise nothing narrower than float32: levels of a half would be rounded twice."""
    return x if x.dtype in (torch.float32, torch.float64) else x.to(torch.float32)


def quantize(x: Tensor, step: float = 1, mode: int = QuantizeMode.ROUND) -> Tensor:
    """Quantise to multiples of ``step``; the gradient of ``x`` passes straight through.

    Parameters
    ----------
    x
        Any shape.
    step
        Distance of two levels, in the unit of ``x``; above 0.
    mode
        ``QuantizeMode.ROUND`` (0, half to even) or ``QuantizeMode.FLOOR`` (1).

    Raises
    ------
    ValueError
        For another mode.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils.quantize import quantize
    >>> quantize(torch.tensor([0.2, 0.7, 1.3]), step=0.5)
    tensor([0.0000, 0.5000, 1.5000])
    """
    try:
        mode = QuantizeMode(mode)
    except ValueError:
        raise ValueError(
            f"quantisation mode is {mode!r}; expected QuantizeMode.ROUND (0) or FLOOR (1)"
        ) from None
    return _Quantize.apply(_float(x), step, mode is QuantizeMode.FLOOR)


@with_reference
def quantize_hook_fx(
    x: Tensor, scale: int = 64, num_bits: int = 8, descale: bool = False
) -> Tensor:
    """Quantise to steps of ``2 / scale`` and clip to ``num_bits`` magnitude bits.

    Parameters
    ----------
    x
        Any shape.
    scale
        Number of integer units in a weight of 1.
    num_bits
        Levels are -2**num_bits to 2**num_bits - 1; each is worth two units.
    descale
        Return units (even integers) instead of real values.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils.quantize import quantize_hook_fx
    >>> quantize_hook_fx(torch.tensor([0.1, -9.0]))  # -8 is the least
    tensor([ 0.0938, -8.0000])
    """
    step = 2 / scale
    y = quantize_clipped(x.to(torch.float32), step, 1 << num_bits, 2.0 if descale else step)
    return y.to(x.dtype) if x.dtype == torch.float64 else y


def quantize_8bit(weight: Tensor, scale: int = 64, descale: bool = False) -> Tensor:
    """Quantise to Loihi's 8-bit weights: even integers from -256 to 254, times ``1 / scale``.

    The gradient is 1 where the rounded weight lies in that range and 0 elsewhere.

    Parameters
    ----------
    weight
        Any shape, in real units.
    scale
        Number of integer units in a weight of 1 (``w_scale`` of a neuron).
    descale
        Return the integers instead of real values; the gradient is multiplied by ``scale``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.synapses.quantize import quantize_8bit
    >>> quantize_8bit(torch.tensor([0.1, 5.0]))
    tensor([0.0938, 3.9688])
    >>> quantize_8bit(torch.tensor([0.1, 5.0]), descale=True)
    tensor([  6., 254.])
    """
    return quantize_hook_fx(weight, scale, WEIGHT_BITS, descale)
