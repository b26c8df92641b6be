"""Gradients of parameters that have no influence: zeros, as torch's parallel modules ask for."""

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
        # what zeros need to be made of; the tensors themselves would be kept for nothing
        ctx.like = [(p.shape, p.dtype, p.device) for p in inputs[1:]]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return gradient, *(torch.zeros(s, dtype=t, device=d) for s, t, d in ctx.like)


def with_zero_gradients(y: Tensor, *parameters: Tensor) -> Tensor:
    """Return ``y``, the same bits; parameters that it does not depend on then get a gradient.

    ``DistributedDataParallel`` waits for the gradient of every parameter. Zeros leave a parameter
    to any optimizer as it is, but for weight decay.

    Parameters
    ----------
    y
        Output that does not depend on the parameters.
    parameters
        Those that require no gradient are left out.
    """
    learned = [p for p in parameters if p.requires_grad]
    if torch._C._get_tracing_state() is not None:  # a program of torch.jit holds no function
        return sum(((p - p.detach()).sum() * 0 for p in learned), y)
    if not torch.is_grad_enabled():
        return y
    return _ZeroGradients.apply(y, *learned) if learned else y
