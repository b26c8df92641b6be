"""The spike alone, for dynamics that were computed apart: elementwise, with a surrogate gradient.

    s = v >= threshold;  graded: s v / scale        g_v = rho(v - threshold) g_s

Source: lava-dl spike/spike.py.
"""

import torch
from torch import Tensor


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, voltage, distance, fires, tau, height, graded, scale):
        ctx.save_for_backward(distance)
        ctx.constants = tau, height, graded
        return fires * voltage / scale if graded else fires.to(torch.float32)

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        tau, height, graded = ctx.constants
        reach = distance.clamp(max=0) if graded else -distance.abs()
        return height * torch.exp(reach / tau) * gradient, *(None,) * 6


def spike(
    voltage: Tensor,
    threshold: float | Tensor,
    *,
    tau_rho: float,
    scale_rho: float,
    graded: bool = False,
    scale: float = 1,
    fires: Tensor | None = None,
) -> Tensor:
    """Spike where ``voltage`` reaches ``threshold``.

    Parameters
    ----------
    voltage
        Any shape, real units.
    threshold
        Number, or a tensor that broadcasts against ``voltage``; it gets no gradient.
    tau_rho, scale_rho
        Width and scale of the surrogate gradient.
    graded
        Spikes carry ``voltage / scale`` instead of 1.
    scale
        Divisor of graded spikes.
    fires
        Decisions already taken, bool of the shape of ``voltage``; the threshold then only places
        the surrogate gradient.
    """
    distance = voltage.detach() - threshold
    if fires is None:
        fires = distance.detach() >= 0
    height = scale_rho if graded else scale_rho / 2 / tau_rho
    return _Spike.apply(voltage, distance.detach(), fires, tau_rho, height, graded, scale)
