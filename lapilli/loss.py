"""Losses on the spikes of the output layer.

    r = mean of s over time, or over the last steps (moving_window)
    SpikeRate    L = sum (r - r^)^2,   r^ = true_rate for the labelled class, else false_rate

Source: lava-dl loss.py.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from .classifier import MovingWindow, flat_classes

Reduction = Literal["sum", "mean", "none"]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class _SpikeLoss(torch.nn.Module):
    """What the losses share: rates of the classes, over all time or a window, and the reduction."""

    def __init__(self, moving_window: int | None, reduction: Reduction) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise ValueError(
                f"reduction is {reduction!r}; expected one of {', '.join(get_args(Reduction))}"
            )
        self.window = None if moving_window is None else MovingWindow(moving_window)
        self.reduction = reduction

    def _rates(self, spikes: Tensor) -> Tensor:
        """``[N, classes..., T]`` to ``[N, K]``, or ``[N, K, T]`` with a window."""
        spikes = flat_classes(spikes)
        return spikes.mean(-1) if self.window is None else self.window.rate(spikes)

    def _reduce(self, terms: Tensor) -> Tensor:
        if self.reduction == "none":
            return terms.flatten()
        return terms.sum() if self.reduction == "sum" else terms.mean()

    def _label_index(self, rates: Tensor, label: Tensor) -> Tensor:
        """Labels as int64 index along the class axis of ``rates``: ``[N, 1]`` or ``[N, 1, T]``."""
        shapes = [rates.shape[:1]]
        if self.window is not None:
            shapes.append((rates.shape[0], rates.shape[-1]))
        if label.dtype not in _INTEGERS or label.shape not in shapes:
            expected = " or ".join(str(tuple(s)) for s in shapes)
            raise ValueError(
                f"label must hold integers of shape {expected}; got {label.dtype} of shape "
                f"{tuple(label.shape)}"
            )
        K = rates.shape[1]
        # elsewhere the index operation itself asserts: reading labels back would stall the device
        if label.device.type == "cpu" and label.numel():
            low, high = (int(v) for v in label.aminmax())
            if low < 0 or high >= K:
                raise ValueError(f"labels are {low}..{high}; expected 0..{K - 1} for {K} classes")
        label = label.long().unsqueeze(1)
        if label.ndim < rates.ndim:
            label = label.unsqueeze(-1).expand(-1, -1, rates.shape[-1])
        return label


class SpikeRate(_SpikeLoss):
    """Squared distance of the spike rates from a high rate for the true class, else a low one.

    Parameters
    ----------
    true_rate, false_rate
        Desired rate of the labelled class and of the others, spikes a step, 0..1.
    moving_window
        Steps over which the rate is taken, at every step; None: one rate for the whole sequence.
    reduction
        ``sum`` over samples, classes (and steps), ``mean``, or ``none``: all terms, flat.

    Raises
    ------
    AssertionError
        If a rate is not in 0..1.
    ValueError
        If the reduction is unknown.
    """

    def __init__(
        self,
        true_rate: float,
        false_rate: float,
        moving_window: int | None = None,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(moving_window, reduction)
        for name, rate in (("true_rate", true_rate), ("false_rate", false_rate)):
            if not 0 <= rate <= 1:
                raise AssertionError(f"{name} is {rate}; expected a rate in 0..1 spikes a step")
        self.true_rate = true_rate
        self.false_rate = false_rate

    def forward(self, input: Tensor, label: Tensor) -> Tensor:
        """Loss of spikes against labels.

        Parameters
        ----------
        input
            Spikes, ``[N, classes..., T]``; several class axes are flattened.
        label
            Class indices of any integer type: ``[N]``, with a window also ``[N, T]``.

        Returns
        -------
        Tensor
            A scalar; for ``reduction="none"`` ``[N * K]``, with a window ``[N * K * T]``.

        Raises
        ------
        ValueError
            If the shapes do not fit, or a label is not in 0..K-1.
        """
        with torch.autocast(input.device.type, enabled=False):
            rates = self._rates(input)
            desired = torch.full_like(rates, self.false_rate)
            desired.scatter_(1, self._label_index(rates, label), self.true_rate)
            return self._reduce((rates - desired).square())
