"""Moving along the last axis, time.

    shift(x, d)[t] = x[t - d], 0 outside         d = trunc(shift_val / sampling_time)
    replicate(x, T)[t] = x

Backward: shift by -d, with the same d; sum over time.

Source: lava-dl utils/time/shift.py, utils/time/replicate.py, axon/delay.py.
"""

import math

import torch
from lapilli.neurons.errors import require
from torch import Tensor

__all__ = ["delay", "replicate", "shift"]


def _moved(x: Tensor, steps: int | Tensor) -> Tensor:
    """Move ``x`` [..., T] by whole steps: one number, or one a neuron, ``[neurons...]``."""
    T = x.shape[-1]
    if isinstance(steps, int):
        y = torch.zeros_like(x)
        if 0 <= steps < T:
            y[..., steps:] = x[..., : T - steps]
        elif -T < steps < 0:
            y[..., :steps] = x[..., -steps:]
        return y
    source = torch.arange(T, device=x.device) - steps.unsqueeze(-1)
    inside = (source >= 0) & (source < T)
    moved = x.gather(-1, source.clamp(0, T - 1).expand_as(x))
    return torch.where(inside, moved, moved.new_zeros(()))


class _Shift(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, steps: int | Tensor) -> Tensor:
        return _moved(x, steps)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, int | Tensor], output: Tensor) -> None:
        _, steps = inputs
        ctx.steps = None if isinstance(steps, Tensor) else steps
        ctx.save_for_backward(steps if isinstance(steps, Tensor) else None)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None]:
        (steps,) = ctx.saved_tensors
        return _Shift.apply(g, -(ctx.steps if steps is None else steps)), None


def shift(input: Tensor, shift_val: float | Tensor, sampling_time: float = 1) -> Tensor:
    """Shift in time; what leaves the sequence is lost, and zeros come in.

    Parameters
    ----------
    input
        ``[N, neurons..., T]`` or ``[N, T]``, any type.
    shift_val
        Shift to later times, below 0 to earlier ones, in the unit of ``sampling_time``; rounded
        toward zero to whole steps. A number, or a tensor of one value, or of one a neuron. No
        gradient flows into it.
    sampling_time
        Length of a step, above 0.

    Returns
    -------
    Tensor
        Of the shape of ``input``; a new tensor.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For an input without batch, another number of values,
        a shift that is not finite.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils import time
    >>> x = torch.tensor([[[1, 2, 3, 4]]])
    >>> time.shift(x, 1)
    tensor([[[0, 1, 2, 3]]])
    >>> time.shift(x, -1)
    tensor([[[2, 3, 4, 0]]])
    """
    require(
        input.ndim >= 2,
        f"shift input must be [batch, ..., time] with at least 2 dimensions; got shape "
        f"{tuple(input.shape)}. For a single sample use x.unsqueeze(0).",
    )
    if not isinstance(shift_val, Tensor) or shift_val.numel() == 1:
        steps = float(shift_val) / sampling_time
        require(math.isfinite(steps), f"shift_val is {shift_val}; expected a finite number")
        return _Shift.apply(input, int(steps))
    neurons = input.shape[1:-1]
    require(
        shift_val.numel() == math.prod(neurons),
        f"shift_val must have one value, or one a neuron ({math.prod(neurons)} for input shape "
        f"{tuple(input.shape)}); got {shift_val.numel()}",
    )
    steps = torch.div(shift_val.detach().to(input.device), sampling_time).trunc()
    # as int64 what is far outside would overflow
    steps = steps.clamp(-input.shape[-1], input.shape[-1]).long()
    return _Shift.apply(input, steps.view(neurons))


def delay(input: Tensor, delay_val: float | Tensor = 1, sampling_time: float = 1) -> Tensor:
    """Delay in time: ``shift`` under another name.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.axon.delay(torch.tensor([[[1, 2, 3, 4]]]), 2)
    tensor([[[0, 0, 1, 2]]])
    """
    return shift(input, delay_val, sampling_time)


def replicate(input: Tensor, num_steps: int) -> Tensor:
    """Repeat a frame over time.

    Parameters
    ----------
    input
        Any shape and type.
    num_steps
        Number of time steps T, at least 1.

    Returns
    -------
    Tensor
        ``[*input.shape, T]``, with memory of its own.

    Raises
    ------
    ValueError
        If there is no step.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils import time
    >>> time.replicate(torch.tensor([5, 7]), 3)
    tensor([[5, 5, 5],
            [7, 7, 7]])
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; expected at least 1")
    repeated = input.unsqueeze(-1).expand(*input.shape, num_steps)
    return repeated.clone(memory_format=torch.contiguous_format)
