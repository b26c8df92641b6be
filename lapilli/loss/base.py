"""What the losses share: how they reduce, and how labels fit outputs."""

import math
from typing import Literal, get_args

import torch
from lapilli.neurons.errors import whole_number
from torch import Tensor

from lapilli.classifier import INTEGERS, MovingWindow, can_be_read, flat_classes, whole_rate, within

Reduction = Literal["sum", "mean", "none"]


def fitting(label: Tensor, *shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the first of the shapes that ``label`` has but for axes of size 1; None without."""
    own = [size for size in label.shape if size != 1]
    for shape in shapes:  # a loop, for torch 2.7 cannot trace next() with a default
        if own == [n for n in shape if n != 1]:
            return shape
    return None


class Loss(torch.nn.Module):
    """What the losses share: the reduction."""

    def __init__(self, reduction: Reduction) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise ValueError(
                f"reduction is {reduction!r}; expected one of {', '.join(get_args(Reduction))}"
            )
        self.reduction = reduction

    def _reduce(self, terms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Reduce terms; with ``lengths`` those ``[N, ..., T]`` within the samples."""
        if lengths is not None:
            terms = within(terms, lengths)
        if self.reduction == "none":
            return terms.flatten()
        if self.reduction == "sum":
            return terms.sum()
        if lengths is None:
            return terms.mean()
        steps = lengths.sum().to(terms.device)
        return terms.sum() / (steps * math.prod(terms.shape[1:-1]))


class ClassLoss(Loss):
    """What the losses on rates share: rates of the classes, over all time or a window; labels."""

    def __init__(self, moving_window: int | None, reduction: Reduction) -> None:
        super().__init__(reduction)
        self.window = None
        if moving_window is not None:
            self.window = MovingWindow(whole_number("moving_window", moving_window))

    def _rates(self, spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``[N, classes..., T]`` to ``[N, K]``, or ``[N, K, T]`` with a window."""
        spikes = flat_classes(spikes)
        if self.window is None:
            return whole_rate(spikes, lengths)
        return self.window.rate(spikes if lengths is None else within(spikes, lengths))

    def _reduce(self, terms: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super()._reduce(terms, None if self.window is None else lengths)

    def _label_index(self, rates: Tensor, label: Tensor) -> Tensor:
        """Labels as int64 index along the class axis of ``rates``: ``[N, 1]`` or ``[N, 1, T]``."""
        shapes = [tuple(rates.shape[:1])]
        if self.window is not None:
            shapes.append((rates.shape[0], rates.shape[-1]))
        shape = fitting(label, *shapes)
        if label.dtype not in INTEGERS or shape is None:
            expected = " or ".join(map(str, dict.fromkeys(shapes)))
            raise ValueError(
                f"label must hold integers of shape {expected}; got {label.dtype} of shape "
                f"{tuple(label.shape)}"
            )
        label = label.reshape(shape)
        K = rates.shape[1]
        # elsewhere, and in a compiled graph, the index operation itself asserts
        if can_be_read(label):
            low, high = (int(v) for v in label.aminmax())
            if low < 0 or high >= K:
                raise ValueError(f"labels are {low}..{high}; expected 0..{K - 1} for {K} classes")
        label = label.long().unsqueeze(1)
        if label.ndim < rates.ndim:
            label = label.unsqueeze(-1).expand(-1, -1, rates.shape[-1])
        return label
