"""Turn numbers into spikes: by rate, by latency, by thermometer, by change.

A network need not be given spikes: ``Dense`` and the other blocks multiply any real numbers by
their weights, and their neurons make the spikes. Encode where the chip has to be fed with spikes.
The tutorial on spikes and encodings draws these four; the one on spoken vowels compares delta
encoding with raw numbers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["delta", "latency", "rate", "thermometer"]


def _within_one(values: Tensor) -> None:
    if values.numel():
        low, high = (float(v) for v in values.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"values are {low:g}..{high:g}; expected 0..1. Scale them first.")


def _at_least_one(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1 time step")


def _batch(values: Tensor, name: str, shape: str, ndim: int) -> None:
    if values.ndim < ndim:
        raise ValueError(
            f"{name} must be {shape} with at least {ndim} dimensions; got shape "
            f"{tuple(values.shape)}. For a single sample use {name}.unsqueeze(0)."
        )


def _finite(values: Tensor, name: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} holds numbers that are not finite; replace them first")


def rate(values: Tensor, steps: int, max_rate: float = 1.0) -> Tensor:
    """Spike the more often, the larger a value is; spikes are spaced evenly.

    Parameters
    ----------
    values
        ``[N, neurons...]``, 0..1.
    steps
        Number of time steps T, at least 1.
    max_rate
        Rate of the value 1, spikes a step, 0..1.

    Returns
    -------
    Tensor
        ``[N, neurons..., T]`` float32 of 0 and 1. A neuron spikes
        ``floor(value * max_rate * steps)`` times. The same values always give the same spikes; for
        random ones write
        ``(torch.rand(*values.shape, steps) < max_rate * values.unsqueeze(-1)).float()``.

    Raises
    ------
    ValueError
        If a value or ``max_rate`` is not in 0..1, or an argument has a wrong size.

    Examples
    --------
    >>> import torch
    >>> from lapilli import encode
    >>> encode.rate(torch.tensor([[1.0, 0.5, 0.0]]), steps=4)
    tensor([[[1., 1., 1., 1.],
             [0., 1., 0., 1.],
             [0., 0., 0., 0.]]])
    """
    if not 0 <= max_rate <= 1:
        raise ValueError(f"max_rate is {max_rate}; expected 0..1 spikes a step")
    _at_least_one(steps)
    _batch(values, "values", "[batch, neurons...]", 2)
    _within_one(values)
    time = torch.arange(steps + 1, dtype=torch.float64, device=values.device)
    time = time.view(-1, *[1] * (values.ndim - 1))
    # spikes due before each step; the first difference is 1 where one more has become due
    due = (values.double().mul(max_rate).unsqueeze(1) * time).floor()
    return due.diff(dim=1).float().movedim(1, -1)


def latency(values: Tensor, steps: int) -> Tensor:
    """Spike once, and the sooner, the larger a value is; 0 does not spike.

    Parameters
    ----------
    values
        ``[N, neurons...]``, 0..1. The value 1 spikes in the first step, the smallest in the last.
    steps
        Number of time steps T, at least 1.

    Returns
    -------
    Tensor
        ``[N, neurons..., T]`` float32 of 0 and 1.

    Raises
    ------
    ValueError
        If a value is not in 0..1, or an argument has a wrong size.

    Examples
    --------
    >>> import torch
    >>> from lapilli import encode
    >>> encode.latency(torch.tensor([[1.0, 0.5, 0.0]]), steps=3)
    tensor([[[1., 0., 0.],
             [0., 1., 0.],
             [0., 0., 0.]]])
    """
    _at_least_one(steps)
    _batch(values, "values", "[batch, neurons...]", 2)
    _within_one(values)
    step = ((1 - values.double()) * (steps - 1)).round().long().unsqueeze(1)
    spikes = torch.zeros(len(values), steps, *values.shape[1:], device=values.device)
    return spikes.scatter_(1, step, (values > 0).float().unsqueeze(1)).movedim(1, -1)


def thermometer(values: Tensor, limits: Sequence[float] | Tensor) -> Tensor:
    """Give each value several neurons, of which those spike whose limit it exceeds.

    Takes no time: numbers stay one step, and a signal keeps its steps.

    Parameters
    ----------
    values
        ``[N, C]``, or a signal ``[N, C, T]``.
    limits
        Limits of the K neurons of each value, in the unit of the values.

    Returns
    -------
    Tensor
        ``[N, C * K]`` or ``[N, C * K, T]`` float32 of 0 and 1; the K neurons of a value lie side by
        side. For numbers, make a step of them with ``unsqueeze(-1)``, or hold them with ``expand``.

    Raises
    ------
    ValueError
        If there is no limit, or the values are not finite or have fewer than two dimensions.

    Examples
    --------
    >>> import torch
    >>> from lapilli import encode
    >>> encode.thermometer(torch.tensor([[0.7, 0.1]]), limits=[0.2, 0.4, 0.6])
    tensor([[1., 1., 1., 0., 0., 0.]])
    """
    _batch(values, "values", "[batch, channels] or [batch, channels, time]", 2)
    limit = torch.as_tensor(limits, dtype=values.dtype, device=values.device)
    if limit.ndim != 1 or not len(limit):
        raise ValueError(f"limits must be one or more numbers in a row; got {limits!r}")
    _finite(values, "values")
    above = values.unsqueeze(2) > limit.view(-1, *[1] * (values.ndim - 2))
    return above.flatten(1, 2).float()


def delta(signal: Tensor, threshold: float) -> Tensor:
    """Spike when a signal has changed, as each pixel of an event camera does.

    Each channel has two neurons, for up and for down. The encoder remembers the value that a
    receiver of its spikes would have, 0 at first. Where the signal is more than ``threshold`` above
    it, the first neuron spikes and the remembered value rises by ``threshold``; where it is more
    than ``threshold`` below, the second spikes and the value falls. A channel spikes at most once a
    step, so that it follows a large jump over several steps.

    Parameters
    ----------
    signal
        ``[N, C, T]``, real numbers.
    threshold
        Change that is worth a spike, in the unit of the signal, above 0.

    Returns
    -------
    Tensor
        ``[N, 2 * C, T]`` float32 of 0 and 1: C neurons for up, then C for down. The signal is
        rebuilt by ``threshold * (up - down).cumsum(-1)``.

    Raises
    ------
    ValueError
        If the threshold is not above 0, or the signal has not three dimensions or is not finite.

    Examples
    --------
    >>> import torch
    >>> from lapilli import encode
    >>> up, down = encode.delta(torch.tensor([[[0.0, 0.3, 0.6, 0.6, 0.1]]]), threshold=0.25)[0]
    >>> up
    tensor([0., 1., 1., 0., 0.])
    >>> down
    tensor([0., 0., 0., 0., 1.])
    """
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold}; expected a number above 0")
    if signal.ndim != 3:
        raise ValueError(
            f"signal must be [batch, channels, time]; got shape {tuple(signal.shape)}. For one "
            "sample use signal.unsqueeze(0)."
        )
    _finite(signal, "signal")
    N, C, T = signal.shape
    spikes = torch.zeros(N, T, 2 * C, device=signal.device)
    sent = torch.zeros(N, C, dtype=torch.float64, device=signal.device)
    for t, value in enumerate(signal.double().unbind(-1)):
        up, down = value - sent > threshold, sent - value > threshold
        spikes[:, t, :C], spikes[:, t, C:] = up, down
        sent += threshold * (up.double() - down.double())
    return spikes.movedim(1, -1)
