"""Quantisation of weights, with straight-through gradients.

    quantize(x)   = round(x / step) step, or floor          gradient 1
    quantize_8bit = clip(round(w / step), -128, 127) step   gradient 1 inside the clip, else 0

with step = 2 / scale: Loihi's 8-bit weights in signed mode are even integers. Rounding is half to
even; the gradient looks at the rounded value, so a weight that rounds onto a limit keeps it.

Source: lava-dl utils/quantize.py, neuron/base.py.
"""

from enum import IntEnum

import torch
from torch import Tensor

WEIGHT_BITS = 7  # magnitude bits of an 8-bit weight; the lowest bit of its mantissa is always 0


class QuantizeMode(IntEnum):
    """How ``quantize`` rounds."""

    ROUND = 0
    FLOOR = 1


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, step, floor):
        levels = torch.div(x, step)
        return (levels.floor_() if floor else levels.round_()).mul_(step)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None, None


class _QuantizeClipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, limit, descale):
        ctx.factor = scale if descale else 1
        levels = torch.div(x, 2 / scale).round_()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((levels >= -limit) & (levels < limit))
        if descale:
            return levels.clamp_(-limit, limit - 1).mul_(2)
        return levels.mul_(2 / scale).clamp_(-2 * limit / scale, 2 * (limit - 1) / scale)

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        gradient = gradient * inside
        return (gradient if ctx.factor == 1 else gradient * ctx.factor), None, None, None


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
    """
    try:
        mode = QuantizeMode(mode)
    except ValueError:
        raise ValueError(
            f"quantisation mode is {mode!r}; expected QuantizeMode.ROUND (0) or FLOOR (1)"
        ) from None
    return _Quantize.apply(_float(x), step, mode is QuantizeMode.FLOOR)


def quantize_hook_fx(
    x: Tensor, scale: int = 64, num_bits: int = 8, descale: bool = False
) -> Tensor:
    """Quantise to steps of ``2 / scale`` and clip to ``num_bits`` magnitude bits.

    Parameters
    ----------
    x
        Any shape.
    scale
        Integer units in 1.
    num_bits
        Levels are -2**num_bits to 2**num_bits - 1; each is worth two units.
    descale
        Return units (even integers) instead of real values.
    """
    return _QuantizeClipped.apply(_float(x), scale, 1 << num_bits, descale)


def quantize_8bit(weight: Tensor, scale: int = 64, descale: bool = False) -> Tensor:
    """Quantise to Loihi's 8-bit weights: even integers from -256 to 254, times ``1 / scale``.

    The gradient is 1 where the rounded weight lies in that range and 0 elsewhere.

    Parameters
    ----------
    weight
        Any shape, in real units.
    scale
        Integer units in 1 (``w_scale`` of a neuron).
    descale
        Return the integers instead of real values; the gradient is multiplied by ``scale``.
    """
    return quantize_hook_fx(weight, scale, WEIGHT_BITS, descale)
