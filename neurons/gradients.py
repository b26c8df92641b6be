"""Gradients of zero for parameters that play no part."""

from typing import Any

import torch
from torch import Tensor


class _ZeroGradients(torch.autograd.Function):
    """Pass a tensor on; parameters behind it get zeros for gradients, not None."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, *parameters: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        return gradient, *(torch.zeros_like(p) if w else None for p, w in wanted)


def with_zero_gradients(y: Tensor, *parameters: Tensor) -> Tensor:
    """Return ``y``; the parameters get gradients of zero from it where they want any."""
    return _ZeroGradients.apply(y, *parameters)
