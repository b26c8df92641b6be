"""Oracles of the spike: its derivative is declared, not derived."""

import math
from typing import Any

import torch

# published formulas of the derivative, for a height of 1 and an integral of 2; z is d / tau
_SHAPES = {
    "fast_sigmoid": lambda z: (1 + z.abs()) ** -2,
    "arctan": lambda z: 1 / (1 + (math.pi / 2 * z) ** 2),
    "sigmoid": lambda z: 4 * torch.sigmoid(2 * z) * torch.sigmoid(-2 * z),
    "triangle": lambda z: torch.relu(1 - z.abs() / 2),
}


def shape(distance, tau, surrogate):
    """Surrogate of a name at a distance, relative to its height at the threshold."""
    if surrogate == "exponential":
        return torch.exp(-distance.abs() / tau)
    if surrogate == "boxcar":
        return (distance.abs() <= tau).to(distance.dtype)
    if surrogate in _SHAPES:
        return _SHAPES[surrogate](distance / tau)
    return _of_user(surrogate, distance, tau)


def _of_user(surrogate, distance, tau):
    """Call the function that a user added, on one number after the other."""
    from lapilli.kernels.numbers.surrogate import surrogate_named

    function: Any = surrogate_named(surrogate).own  # every surrogate of a user has it
    values = [function(d / tau) for d in distance.double().flatten().tolist()]
    return (
        torch.tensor(values, dtype=torch.float64, device=distance.device)
        .to(distance.dtype)
        .view_as(distance)
    )


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, voltage, fires, threshold, tau, scale, graded, surrogate="exponential"):
        ctx.save_for_backward(voltage)
        ctx.constants = threshold, tau, scale, graded, surrogate
        out = fires.to(torch.float32) * (voltage if graded else 1)
        return torch.where(voltage.isnan(), voltage, out)

    @staticmethod
    def backward(ctx, gradient):
        (voltage,) = ctx.saved_tensors
        threshold, tau, scale, graded, surrogate = ctx.constants
        distance = voltage - threshold
        if graded:
            rho = scale * shape(torch.clamp(distance, max=0), tau, surrogate)
        else:
            rho = scale / 2 / tau * shape(distance, tau, surrogate)
        return gradient * rho, *(None,) * 6


spike = _Spike.apply


class _ComplexSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, real, imag, fires, threshold, tau, scale, graded, surrogate="exponential"):
        ctx.save_for_backward(real, imag)
        ctx.constants = threshold, tau, scale, graded, surrogate
        out = fires.to(torch.float32) * (real if graded else 1)
        return torch.where(real.isnan(), real, out)

    @staticmethod
    def backward(ctx, gradient):
        real, imag = ctx.saved_tensors
        threshold, tau, scale, graded, surrogate = ctx.constants
        distance = real - threshold
        if graded:
            by_real = shape(torch.clamp(distance, max=0), tau, surrogate)
        else:
            by_real = shape(distance, tau, surrogate) / (2 * tau)
        by_imag = shape(imag, tau, surrogate) / (2 * tau)
        reached = (1 + torch.sign(distance) * (1 - 2 * tau * by_real)) / 2
        g_real = gradient * scale * by_real * by_imag
        g_imag = -gradient * scale / tau * torch.sign(imag) * by_imag * reached
        return g_real, g_imag, *(None,) * 6


complex_spike = _ComplexSpike.apply
