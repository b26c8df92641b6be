"""Weights that are stored as direction and length.

Source: torch.nn.utils.weight_norm, which lava-dl's synapses use.
"""

from typing import Any

import torch
from torch import Tensor

from .dispatch import define_op, differentiable
from .sums import row_norms


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


@define_op
def normalize(direction: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Return direction times length, of each entry of axis 0, and the norms it was divided by."""
    if direction.dtype == torch.float32:
        norms = row_norms(direction.flatten(1)).view(length.shape)
    else:
        norms = norms_of_rows(direction)
    norms = _divisors(norms)
    return direction * (length / norms), norms


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx: Any, g: Tensor, _: Any) -> tuple[Tensor, Tensor]:
    direction, length, norms = ctx.saved_tensors
    if torch.is_grad_enabled():  # for second derivatives
        return _derivatives(g, direction, length, _divisors(norms_of_rows(direction)))
    return normalize_bwd(g, direction, length, norms)


@define_op
def normalize_bwd(
    g: Tensor, direction: Tensor, length: Tensor, norms: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of direction and length."""
    return _derivatives(g, direction, length, norms)


def _derivatives(
    g: Tensor, direction: Tensor, length: Tensor, norms: Tensor
) -> tuple[Tensor, Tensor]:
    # twice as quick as torch's chain of derivatives
    factor = length / norms
    along = torch.linalg.vecdot(g.flatten(1), direction.flatten(1)).view(norms.shape) / norms
    turn = torch.where(along == 0, 0, -factor * along / norms)
    return torch.addcmul(g * factor, direction, turn), along


differentiable(normalize, _backward, _save)


def normalized_weight(direction: Tensor, length: Tensor) -> Tensor:
    """Return direction times length, of each entry of axis 0."""
    return normalize(direction, length)[0]
