"""Filtering over time, the last axis, with a short response.

    conv(x, f)[t] = sum_i f[i] x[t-i]        corr(x, f)[t] = sum_i f[i] x[t+i]

x is 0 outside the sequence, and the result has its length. Each is the other's adjoint.

    bank(x)[f, c] = conv(x[c], reversed(weight[f]))

Source: lava-dl utils/filter/conv.py, utils/filter/fir.py.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .neurons.errors import ArgumentTypeError, finite, whole_number, width

__all__ = ["FIR", "FIRBank", "conv", "corr", "fast_conv", "real"]

_LONG = 16  # taps from which the transform is quicker than the sum


def real(x: Tensor) -> Tensor:
    """Return integers, bool and half precision as float32; float64 stays.

    Examples
    --------
    >>> import torch
    >>> from lapilli.filter import real
    >>> real(torch.tensor([True, False]))
    tensor([1., 0.])
    """
    return x if x.dtype == torch.float64 else x.to(torch.float32)


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


def _transformed(x: Tensor, taps: Tensor, causal: bool) -> Tensor:
    """Filter through a Fourier transform: quick for many taps, but zeros are only nearly so."""
    T = x.shape[-1]
    taps = taps[:T]
    # 1, 3 or 5 times a power of two: sizes that the transform is quick with
    least = T + taps.numel() - 1
    size = min(f << max(0, math.ceil(math.log2(least / f))) for f in (1, 3, 5))
    response = torch.fft.rfft(taps, size)
    spectrum = torch.fft.rfft(x, size).mul_(response if causal else response.conj())
    return torch.fft.irfft(spectrum, size)[..., :T]


class _Filter(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, taps: Tensor, causal: bool, exact: bool) -> Tensor:
        return (_sum_of_shifts if exact else _transformed)(x, taps, causal)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor, bool, bool], output: Tensor) -> None:
        x, taps, ctx.causal, ctx.exact = inputs
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, taps)
        ctx.T = x.shape[-1]

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, taps = ctx.saved_tensors
        g_x = g_taps = None
        if ctx.needs_input_grad[0]:
            g_x = _Filter.apply(g, taps, not ctx.causal, ctx.exact)
        if ctx.needs_input_grad[1]:
            T = ctx.T
            early, late = (x, g) if ctx.causal else (g, x)
            products = [
                (early[..., : T - i] * late[..., i:]).sum() for i in range(min(taps.numel(), T))
            ]
            beyond = [g.new_zeros(())] * (taps.numel() - len(products))
            g_taps = torch.stack(products + beyond)
        return g_x, g_taps, None, None


def _filtered(
    x: Tensor, response: Tensor, sampling_time: float, causal: bool, exact: bool = True
) -> Tensor:
    dtype = torch.result_type(x, response)
    if not dtype.is_floating_point:
        raise TypeError(
            f"input is {x.dtype} and filter is {response.dtype}: one of them must be a real "
            "floating-point tensor. Use x.float()."
        )
    if x.ndim == 1:
        x = x.unsqueeze(0)
    taps = response.flatten().to(dtype) * sampling_time
    return _Filter.apply(x.to(dtype), taps, causal, exact)


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

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils import filter
    >>> filter.conv(torch.tensor([[0.0, 1, 0, 0]]), torch.tensor([1.0, 0.5]))  # first step first
    tensor([[0.0000, 1.0000, 0.5000, 0.0000]])
    """
    return _filtered(input, filter, sampling_time, causal=True)


def corr(input: Tensor, filter: Tensor, sampling_time: float = 1) -> Tensor:
    """Correlate over time: ``sampling_time * sum_i filter[i] input[t+i]``; else like ``conv``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils import filter
    >>> filter.corr(torch.tensor([[0.0, 0, 1, 0]]), torch.tensor([1.0, 0.5]))  # back in time
    tensor([[0.0000, 0.5000, 1.0000, 0.0000]])
    """
    return _filtered(input, filter, sampling_time, causal=False)


def fast_conv(input: Tensor, filter: Tensor) -> Tensor:
    """Filter over time like ``conv``, and quickly where the filter is long: zeros are not exact.

    Examples
    --------
    >>> import torch
    >>> from lapilli.filter import fast_conv
    >>> fast_conv(torch.tensor([[0.0, 1, 0, 0]]), torch.tensor([1.0, 0.5]))
    tensor([[0.0000, 1.0000, 0.5000, 0.0000]])
    """
    return _filtered(input, filter, 1, causal=True, exact=filter.numel() < _LONG)


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

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils import filter
    >>> smooth = filter.FIR(time_constant=2, length=3)
    >>> smooth(torch.tensor([[0.0, 1, 0, 0]]))
    tensor([[0.0000, 1.0000, 0.6065, 0.3679]])
    """

    filter: Tensor  # the response, ``[1, length]`` or ``[length]``

    def __init__(
        self,
        fir_response: Tensor | None = None,
        time_constant: float = 1,
        length: int = 20,
        sampling_time: float = 1,
    ) -> None:
        super().__init__()
        if fir_response is None:
            decay, steps = width("time_constant", time_constant), whole_number("length", length)
            fir_response = torch.tensor([math.exp(-k / decay) for k in range(steps)])
        finite("sampling_time", sampling_time)
        try:
            response = torch.as_tensor(fir_response)
        except (TypeError, ValueError, RuntimeError):
            response = torch.empty(0)
        if not response.numel():
            raise ArgumentTypeError(
                f"fir_response must be a tensor of one number or more; got {fir_response!r}"
            )
        self.register_buffer("filter", response.detach().clone())
        self.sampling_time = sampling_time

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = state_dict.get(prefix + "filter")
        if saved is not None and saved.numel() == self.filter.numel():
            state_dict[prefix + "filter"] = saved.view_as(self.filter)  # [L] or [1, L]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, input: Tensor) -> Tensor:
        """Filter ``[..., T]``; the shape stays."""
        return conv(input, self.filter, self.sampling_time)


class FIRBank(torch.nn.Conv3d):
    """Learned filters over time, each applied to every channel.

    Parameters
    ----------
    num_filter
        Number of filters F.
    filter_length
        Length of a filter, in the unit of ``sampling_time``.
    sampling_time
        Length of a step, and factor of the result.
    scale
        Factor of the initial weights, which are uniform within one over the root of the length.

    Attributes
    ----------
    weight : Parameter
        ``[F, 1, 1, 1, L]``, last step first; ``L = int(filter_length / sampling_time)``.

    Raises
    ------
    ValueError
        If there is no filter, or a filter is shorter than a step.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils import filter
    >>> bank = filter.FIRBank(num_filter=2, filter_length=3)
    >>> bank.weight.shape
    torch.Size([2, 1, 1, 1, 3])
    """

    def __init__(
        self, num_filter: int, filter_length: float, sampling_time: float = 1, scale: float = 1
    ) -> None:
        num_filter = whole_number("num_filter", num_filter, 0)
        given = finite("filter_length", filter_length), width("sampling_time", sampling_time)
        length = int(given[0] / given[1])
        finite("scale", scale)
        if num_filter < 1 or length < 1:
            raise ValueError(
                f"{num_filter} filters of {length} steps (filter_length={filter_length}, "
                f"sampling_time={sampling_time}); expected at least 1 of 1"
            )
        super().__init__(1, num_filter, (1, 1, length), bias=False)
        self.sampling_time = sampling_time
        self.weight.data.mul_(scale)

    @property
    def num_filter(self) -> int:
        """Number of filters."""
        return self.out_channels

    @property
    def filter_length(self) -> int:
        """Length of a filter in steps."""
        return self.kernel_size[-1]

    @property
    def impulse_response(self) -> np.ndarray:
        """Responses ``[F, L]``, first step first; a copy."""
        return self.weight.detach().flatten(1).flip(-1).cpu().numpy()

    def forward(self, input: Tensor) -> Tensor:
        """Filter ``[N, C, ..., T]`` to ``[N, F * C, ..., T]``; channels of one filter lie together.

        Raises
        ------
        ValueError
            If the input has fewer than 3 dimensions.
        """
        if input.ndim < 3:
            raise ValueError(
                "FIRBank input must be [batch, channels, ..., time] with at least 3 dimensions; "
                f"got shape {tuple(input.shape)}. For a single sample use x.unsqueeze(0)."
            )
        lines = input.to(self.weight.dtype).reshape(-1, 1, input.shape[-1])
        lines = torch.nn.functional.pad(lines, (self.filter_length - 1, 0))
        filtered = torch.nn.functional.conv1d(lines, self.weight.flatten(1).unsqueeze(1))
        filtered = filtered.view(*input.shape[:-1], self.num_filter, input.shape[-1])
        return self.sampling_time * filtered.movedim(-2, 1).flatten(1, 2)
