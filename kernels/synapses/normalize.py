"""Weights that are stored as direction and length, and their levels.

    w = direction (length / norm of direction)
    y = w, or the 8-bit level of w (quantize.py)

On a CPU the norm, the weight and its level are one pass, and so are their gradients.

Source: torch.nn.utils.weight_norm, which lava-dl's synapses use.
"""

from typing import Any

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import run_loop, runs_loops, with_reference
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.executors.operators import define_op, differentiable
from torch import Tensor

from .quantize import WEIGHT_BITS, quantize_clipped, quantize_clipped_bwd, quantize_step

_LANES = 64  # sums at once, whatever the processor's vectors hold
_ROWS = 8  # of a tile
_TINY = torch.finfo(torch.float32).tiny


def norms_of_rows(weight: Tensor) -> Tensor:
    """Euclidean norm over all axes but the first, which keep size 1.

    Added up in float64 and rounded once: in float32 the sum depends on how many numbers the
    processor adds at once.
    """
    norms = torch.linalg.vector_norm(weight, dim=(1, 2, 3, 4), keepdim=True, dtype=torch.float64)
    return norms.to(weight.dtype)


def _divisors(norms: Tensor) -> Tensor:
    """Return norms of rows; of one that is masked out altogether what leaves it zero."""
    return norms.clamp_min(torch.finfo(norms.dtype).tiny)


@cpu_loop
def _normalize_cpu(
    first, last, x_rows, lengths, divisors, y_rows, tiny, step, limit, unit, R, K
):  # fmt: skip
    total = np.empty(_LANES, np.float64)
    whole = K // _LANES * _LANES
    for r in range(first * _ROWS, min(last * _ROWS, R)):
        total[:] = 0
        row, y_r = x_rows[r], y_rows[r]
        for i in range(0, whole, _LANES):
            part = row[i : i + _LANES]
            for k in range(_LANES):
                total[k] += np.float64(part[k]) * np.float64(part[k])
        for i in range(whole, K):
            total[i - whole] += np.float64(row[i]) * np.float64(row[i])
        together = np.float64(0)
        for k in range(_LANES):
            together += total[k]
        divisors[r] = max(np.float32(np.sqrt(together)), tiny)
        factor = lengths[r] / divisors[r]
        if step > 0:
            for i in range(K):
                w = row[i] * factor
                level, _ = quantize_step(w, step, limit)
                y_r[i] = np.float32(level) * unit if w == w else w
        else:
            for i in range(K):
                y_r[i] = row[i] * factor


@cpu_loop
def _normalize_bwd_cpu(
    first, last, g_rows, x_rows, lengths, divisors, gx_rows, alongs, step, limit, unit, R, K
):  # fmt: skip
    total = np.empty(_LANES, np.float64)
    whole = K // _LANES * _LANES
    for r in range(first * _ROWS, min(last * _ROWS, R)):
        row, g_r, gx_r = x_rows[r], g_rows[r], gx_rows[r]
        factor = lengths[r] / divisors[r]
        if step > 0:
            for i in range(K):
                _, inside = quantize_step(row[i] * factor, step, limit)
                slope = g_r[i] * unit  # read always, see quantize.py
                gx_r[i] = slope if inside else np.float32(0)
        else:
            for i in range(K):
                gx_r[i] = g_r[i]
        total[:] = 0
        for i in range(0, whole, _LANES):
            part, g_part = row[i : i + _LANES], gx_r[i : i + _LANES]
            for k in range(_LANES):
                total[k] += np.float64(g_part[k]) * np.float64(part[k])
        for i in range(whole, K):
            total[i - whole] += np.float64(gx_r[i]) * np.float64(row[i])
        together = np.float64(0)
        for k in range(_LANES):
            together += total[k]
        alongs[r] = np.float32(together) / divisors[r]
        turn = np.float32(0)
        if alongs[r] != 0:
            turn = -(factor * alongs[r]) / divisors[r]
        for i in range(K):
            gx_r[i] = gx_r[i] * factor + row[i] * turn


def _in_loops(*tensors: Tensor) -> bool:
    """Whether compiled loops can read the tensors."""
    first = tensors[0]
    if not runs_loops(first) or first.numel() == 0:
        return False
    for t in tensors:  # noqa: SIM110 (any() takes longer)
        if t.dtype != torch.float32:
            return False
    return True


@define_op
def normalize(
    direction: Tensor, length: Tensor, step: float, limit: int, unit: float
) -> tuple[Tensor, Tensor]:
    """Return direction times length, of each entry of axis 0, and the norms it was divided by.

    With a ``step`` above 0 it is rounded to levels, as ``quantize_clipped`` does.
    """
    if not _in_loops(direction, length):
        norms = _divisors(norms_of_rows(direction))
        weight = direction * (length / norms)
        return quantize_clipped.launch(weight, step, limit, unit) if step > 0 else weight, norms
    direction, length = direction.contiguous(), length.contiguous()
    weight, norms = empty(direction.shape, torch.float32, direction), torch.empty_like(length)
    R = len(direction)
    K = direction.numel() // R
    run_loop(
        _normalize_cpu, -(-R // _ROWS), R * K,
        (direction.view(R, K), length.view(R), norms.view(R), weight.view(R, K),
         _TINY, step, limit, unit, R, K),
    )  # fmt: skip
    return weight, norms


@define_op
def normalize_bwd(
    g: Tensor, direction: Tensor, length: Tensor, norms: Tensor,
    step: float, limit: int, unit: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the gradients of direction and length."""
    if not _in_loops(direction, length, g):
        return _derivatives(g, direction, length, norms, step, limit, unit)
    direction, length, g = direction.contiguous(), length.contiguous(), g.contiguous()
    gx, along = empty(direction.shape, torch.float32, direction), torch.empty_like(length)
    R = len(direction)
    K = direction.numel() // R
    run_loop(
        _normalize_bwd_cpu, -(-R // _ROWS), R * K,
        (g.view(R, K), direction.view(R, K), length.view(R), norms.view(R), gx.view(R, K),
         along.view(R), step, limit, unit, R, K),
    )  # fmt: skip
    return gx, along


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    direction, length, step, limit, unit = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(direction, length, output[1])
    ctx.constants = step, limit, unit / step if step > 0 else 1.0


def _backward(ctx: Any, g: Tensor, _: Any) -> tuple[Any, ...]:
    direction, length, norms = ctx.saved_tensors
    if torch.is_grad_enabled():  # for second derivatives
        norms = _divisors(norms_of_rows(direction))
        gradients = _derivatives(g, direction, length, norms, *ctx.constants)
    else:
        gradients = normalize_bwd(g, direction, length, norms, *ctx.constants)
    return *gradients, None, None, None


def _derivatives(
    g: Tensor, direction: Tensor, length: Tensor, norms: Tensor,
    step: float, limit: int, unit: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    # twice as quick as torch's chain of derivatives
    factor = length / norms
    if step > 0:
        # where the clip begins does not depend on the last digits of the weight
        g = quantize_clipped_bwd(g, (direction * factor).detach(), step, limit, unit)
    # the bits of the loop: the sum rounded once, every product by itself
    total = torch.linalg.vecdot(g.flatten(1).double(), direction.flatten(1).double())
    along = total.to(norms.dtype).view(norms.shape) / norms
    turn = torch.where(along == 0, 0, -factor * along / norms)
    return g * factor + direction * turn, along


differentiable(normalize, _backward, _save)


@with_reference
def normalized_weight(direction: Tensor, length: Tensor) -> Tensor:
    """Return direction times length, of each entry of axis 0."""
    return normalize(direction, length, 0.0, 0, 1.0)[0]


@with_reference
def normalized_8bit(direction: Tensor, length: Tensor, scale: int) -> Tensor:
    """Return ``quantize_8bit(normalized_weight(direction, length), scale)``, in one pass."""
    step = 2 / scale
    return normalize(direction, length, step, 1 << WEIGHT_BITS, step)[0]
