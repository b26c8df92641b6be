"""Oracle of the sigma-delta neuron: its three parts one after the other."""

import torch

from .delta import delta
from .sigma import sigma


def sigma_delta(
    x, threshold, scale, *, bias=None, relu=True, state=None, return_state=False, **options
):
    """See ``lapilli.kernels.recurrences.sigma_delta.sigma_delta``."""
    total, *encoder = (None,) if state is None else state
    y, total = sigma(x, state=total, return_state=True)
    if bias is not None:
        shape = (
            x.shape[1:-1] if bias.numel() == x.shape[1:-1].numel() else (-1, *(1,) * (x.ndim - 3))
        )
        y = y + bias.view(1, *shape, 1)
    if relu:
        y = torch.relu(y)
    events, after = delta(
        y, threshold, scale, state=tuple(encoder) or None, return_state=True, **options
    )
    return (events, (total, *after)) if return_state else events
