"""Oracle of the delays: one concatenation a channel, differentiated by autograd."""

import math

import torch
from torch import Tensor


def _later(x: Tensor, steps: int, first: Tensor | None = None) -> Tensor:
    """Move ``x`` to later times by ``steps``, with zeros or one frame in front."""
    steps = min(steps, x.shape[-1])
    front = torch.zeros_like(x[..., :steps]) if first is None else first.unsqueeze(-1)[..., :steps]
    return torch.cat((front, x[..., : x.shape[-1] - steps]), -1)


def step_delay(x, first=None):
    """See ``lapilli.kernels.recurrences.delay.step_delay``."""
    x = x.to(torch.float32)
    return _later(x, 1, None if first is None else first.detach().to(torch.float32))


def channel_delay(x, delay, *, sampling_time=1.0, grad_scale=1.0):
    """See ``lapilli.kernels.recurrences.delay.channel_delay``."""
    x = x.to(torch.float32)
    steps = [max(0, math.floor(torch.tensor(d).div(sampling_time).item())) for d in delay.tolist()]
    channels = x.shape[1]
    if channels % len(steps):
        raise ValueError(f"{len(steps)} delays for {channels} channels")
    y = torch.stack([_later(x[:, c], steps[c % len(steps)]) for c in range(channels)], 1)
    # a slope with the value 0: what moving the output by one more step would change
    slope = (_later(y, 1) - y).detach()
    move = (delay - delay.detach()) * grad_scale
    return y + move.view(1, -1, *(1,) * (x.ndim - 2)) * slope
