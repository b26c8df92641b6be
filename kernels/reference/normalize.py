"""Oracle of weights that are stored as direction and length, differentiated by autograd."""

import torch

from .quantize import quantize_hook_fx


def normalized_weight(direction, length):
    """See ``lapilli.kernels.synapses.normalize.normalized_weight``."""
    axes = tuple(range(1, direction.ndim))
    norms = torch.linalg.vector_norm(direction, dim=axes, keepdim=True, dtype=torch.float64)
    norms = norms.to(direction.dtype)
    return direction * (length / norms.clamp_min(torch.finfo(norms.dtype).tiny))


def normalized_8bit(direction, length, scale):
    """See ``lapilli.kernels.synapses.normalize.normalized_8bit``."""
    return quantize_hook_fx(normalized_weight(direction, length), scale, 7)
