"""Filtering over time, the last axis, with a short response.

    conv(x, f)[t] = sum_i f[i] x[t-i]        corr(x, f)[t] = sum_i f[i] x[t+i]

x is 0 outside the sequence, and the result has its length. Each is the other's adjoint.

Source: lava-dl utils/filter/conv.py, utils/filter/fir.py.
"""

import math

import torch
from torch import Tensor


def _sum_of_shifts(x: Tensor, taps: Tensor, causal: bool) -> Tensor:
    """Sum one shifted copy of ``x`` a tap: integers and zeros stay exact, in any memory layout."""
    T = x.shape[-1]
    y = torch.zeros_like(x)
    for i, tap in enumerate(taps[:T].unbind()):
        early, late = x[..., : T - i], x[..., i:]
        if causal:
            y[..., i:].addcmul_(early, tap)
        else:
            y[..., : T - i].addcmul_(late, tap)
    return y


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, taps: Tensor, causal: bool) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.causal = causal
        return _sum_of_shifts(x, taps, causal)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, taps = ctx.saved_tensors
        g_x = _Filter.apply(g, taps, not ctx.causal) if ctx.needs_input_grad[0] else None
        g_taps = None
        if ctx.needs_input_grad[1]:
            T = x.shape[-1]
            early, late = (x, g) if ctx.causal else (g, x)
            products = [
                (early[..., : T - i] * late[..., i:]).sum() for i in range(min(taps.numel(), T))
            ]
            beyond = [g.new_zeros(())] * (taps.numel() - len(products))
            g_taps = torch.stack(products + beyond)
        return g_x, g_taps, None


def _filtered(x: Tensor, response: Tensor, sampling_time: float, causal: bool) -> Tensor:
    dtype = torch.result_type(x, response)
    if not dtype.is_floating_point:
        raise TypeError(
            f"input is {x.dtype} and filter is {response.dtype}: one of them must be a real "
            "floating-point tensor. Use x.float()."
        )
    if x.ndim == 1:
        x = x.unsqueeze(0)
    taps = response.flatten().to(dtype) * sampling_time
    return _Filter.apply(x.to(dtype), taps, causal)


def conv(input: Tensor, filter: Tensor, sampling_time: float = 1) -> Tensor:
    """Filter over time: ``sampling_time * sum_i filter[i] input[t-i]``.

    Parameters
    ----------
    input
        ``[..., T]``; ``[T]`` counts as ``[1, T]``.
    filter
        Response, first step first; flattened.
    sampling_time
        Factor of the result.

    Returns
    -------
    Tensor
        Of the shape of ``input``; differentiable with respect to input and filter.
    """
    return _filtered(input, filter, sampling_time, causal=True)


def corr(input: Tensor, filter: Tensor, sampling_time: float = 1) -> Tensor:
    """Correlate over time: ``sampling_time * sum_i filter[i] input[t+i]``; else like ``conv``."""
    return _filtered(input, filter, sampling_time, causal=False)


class FIR(torch.nn.Module):
    """Fixed filter over time.

    Parameters
    ----------
    fir_response
        Response, first step first; copied. None: ``exp(-k / time_constant)``.
    time_constant
        Decay of the default response, in steps.
    length
        Number of steps of the default response.
    sampling_time
        Factor of the result.
    """

    def __init__(
        self,
        fir_response: Tensor | None = None,
        time_constant: float = 1,
        length: int = 20,
        sampling_time: float = 1,
    ) -> None:
        super().__init__()
        if fir_response is None:
            fir_response = torch.tensor([math.exp(-k / time_constant) for k in range(length)])
        self.register_buffer("filter", torch.as_tensor(fir_response).detach().clone())
        self.sampling_time = sampling_time

    def forward(self, input: Tensor) -> Tensor:
        """Filter ``[..., T]``; the shape stays."""
        return conv(input, self.filter, self.sampling_time)
