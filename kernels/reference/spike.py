"""Oracles of the spike: its derivative is declared, not derived."""

import torch


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, voltage, fires, threshold, tau, scale, graded):
        ctx.save_for_backward(voltage)
        ctx.constants = threshold, tau, scale, graded
        out = fires.to(torch.float32) * (voltage if graded else 1)
        return torch.where(voltage.isnan(), voltage, out)

    @staticmethod
    def backward(ctx, gradient):
        (voltage,) = ctx.saved_tensors
        threshold, tau, scale, graded = ctx.constants
        distance = voltage - threshold
        if graded:
            rho = scale * torch.exp(torch.clamp(distance, max=0) / tau)
        else:
            rho = scale / 2 / tau * torch.exp(-distance.abs() / tau)
        return gradient * rho, None, None, None, None, None


spike = _Spike.apply


class _ComplexSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, real, imag, fires, threshold, tau, scale, graded):
        ctx.save_for_backward(real, imag)
        ctx.constants = threshold, tau, scale, graded
        out = fires.to(torch.float32) * (real if graded else 1)
        return torch.where(real.isnan(), real, out)

    @staticmethod
    def backward(ctx, gradient):
        real, imag = ctx.saved_tensors
        threshold, tau, scale, graded = ctx.constants
        distance = real - threshold
        if graded:
            by_real = torch.exp(torch.clamp(distance, max=0) / tau)
        else:
            by_real = torch.exp(-distance.abs() / tau) / (2 * tau)
        by_imag = torch.exp(-imag.abs() / tau) / (2 * tau)
        reached = (1 + torch.sign(distance) * (1 - 2 * tau * by_real)) / 2
        g_real = gradient * scale * by_real * by_imag
        g_imag = -gradient * scale / tau * torch.sign(imag) * by_imag * reached
        return g_real, g_imag, None, None, None, None, None


complex_spike = _ComplexSpike.apply
