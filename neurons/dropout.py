"""Dropout of whole neurons."""

import torch
from torch import Tensor

from .errors import flag, number

__all__ = ["Dropout"]


class Dropout(torch.nn.Module):
    """Silence neurons at random, each for the whole sequence.

    Parameters
    ----------
    p
        Probability that a neuron of a sample is silenced, 0..1. The others are scaled by
        ``1 / (1 - p)``.
    inplace
        Write into the input.

    Notes
    -----
    Input and output are ``[N, neurons..., T]``; one draw a sample and neuron, constant over time.
    In evaluation mode the input passes unchanged.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> dropout = slayer.neuron.Dropout(p=0.5).eval()  # while training, whole neurons are silent
    >>> dropout(torch.ones(1, 2, 3))
    tensor([[[1., 1., 1.],
             [1., 1., 1.]]])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        p = number("p", p)
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability must be in [0, 1]; got p={p}")
        self.p = p
        self.inplace = flag("inplace", inplace)

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        return f"p={self.p}, inplace={self.inplace}"

    def forward(self, input: Tensor) -> Tensor:
        """Apply the mask to spikes ``[N, neurons..., T]``."""
        if not self.training or self.p == 0:
            return input
        ones = torch.ones(input.shape[:-1], dtype=input.dtype, device=input.device)
        mask = torch.nn.functional.dropout(ones, self.p).unsqueeze(-1)
        return input.mul_(mask) if self.inplace else input * mask
