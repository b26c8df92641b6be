"""Read a class from the spikes of the output layer: the neuron with the highest rate.

Source: lava-dl classifier/rate.py, classifier/moving_window.py.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from .filter import FIR, real
from .kernels.executors.operators import is_transformed
from .neurons.errors import finite, whole_number

__all__ = ["Mode", "MovingWindow", "Rate"]

Mode = Literal["probability", "softmax", "logsoftmax"]

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def flat_classes(spikes: Tensor) -> Tensor:
    """View ``[N, classes..., T]`` as ``[N, K, T]``; integers, bool and half become float32."""
    if spikes.ndim < 3:
        raise ValueError(
            "spikes must be [batch, classes, time] with at least 3 dimensions; got shape "
            f"{tuple(spikes.shape)}. For a single sample use spikes.unsqueeze(0)."
        )
    return real(spikes).flatten(1, -2)


def can_be_read(values: Tensor) -> bool:
    """Whether values can be looked at here without stalling a device, or breaking a graph.

    Under ``torch.func.vmap`` they are several tensors in one.
    """
    if torch.compiler.is_compiling() or is_transformed():
        return False
    return values.device.type == "cpu" and values.numel() > 0


def _checked(lengths: Tensor, x: Tensor) -> Tensor:
    """Return lengths ``[N]`` that fit ``x`` ``[N, ..., T]``, on its device."""
    if lengths.dtype not in INTEGERS or lengths.shape != x.shape[:1]:
        raise ValueError(
            f"lengths must hold integers of shape {tuple(x.shape[:1])}, the steps of each sample; "
            f"got {lengths.dtype} of shape {tuple(lengths.shape)}"
        )
    if can_be_read(lengths):
        low, high = (int(v) for v in lengths.aminmax())
        if low < 1 or high > x.shape[-1]:
            raise ValueError(f"lengths are {low}..{high}; expected 1..{x.shape[-1]} steps")
    return lengths.to(x.device)


def within(x: Tensor, lengths: Tensor) -> Tensor:
    """Set ``[N, ..., T]`` to 0 from the end of each sample on; ``lengths`` are ``[N]``."""
    lengths = _checked(lengths, x).view(-1, *[1] * (x.ndim - 1))
    return torch.where(torch.arange(x.shape[-1], device=x.device) < lengths, x, 0)


def whole_rate(spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean over time or the own steps, ``[N, neurons..., T]`` to ``[N, neurons...]``."""
    spikes = real(spikes)
    if lengths is None:
        return spikes.mean(-1)
    sums = within(spikes, lengths).sum(-1)
    return sums / lengths.to(sums.device).view(-1, *[1] * (sums.ndim - 1))


def _confidence(rate: Tensor, mode: Mode, eps: float) -> Tensor:
    """Turn rates ``[N, K]`` or ``[N, K, T]`` into confidences over the classes."""
    if _known(mode) == "probability":
        return rate / (rate.sum(1, keepdim=True) + eps)
    if mode == "softmax":
        return rate.softmax(1)
    return rate.log_softmax(1)


def _known(mode: Mode) -> Mode:
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(get_args(Mode))}")
    return mode


class Rate(torch.nn.Module):
    """The class whose neuron spikes most over the whole sequence.

    The output need not be spikes: of voltages, as ``Affine`` gives them, it is the class with the
    highest mean voltage.

    Examples
    --------
    >>> import torch
    >>> from lapilli.classifier import Rate
    >>> spikes = torch.tensor([[[0.0, 1, 0, 1, 1], [1, 1, 0, 0, 0]]])  # 2 classes, 5 steps
    >>> Rate.rate(spikes)
    tensor([[0.6000, 0.4000]])
    >>> Rate.predict(spikes)
    tensor([0])
    >>> Rate.predict(spikes, lengths=torch.tensor([3]))  # of the first three steps
    tensor([1])
    """

    def __init__(self) -> None:
        super().__init__()

    @staticmethod
    def rate(spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mean over time, ``[N, neurons..., T]`` to ``[N, neurons...]``.

        Parameters
        ----------
        spikes
            Output of a network, spikes or voltages.
        lengths
            Steps of each sample that count, ``[N]`` integers in 1..T; what comes later is left out.
            None: all steps.

        Raises
        ------
        ValueError
            If the lengths do not fit.
        """
        return whole_rate(spikes, lengths)

    @staticmethod
    def confidence(
        spikes: Tensor,
        mode: Mode = "probability",
        eps: float = 1e-6,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Confidence in each class.

        Parameters
        ----------
        spikes
            ``[N, classes..., T]``; the classes are flattened.
        mode
            ``probability``: rate over the sum of rates; ``softmax``; ``logsoftmax``.
        eps
            Added to the sum of rates.
        lengths
            Steps of each sample that count, ``[N]`` integers in 1..T; what comes later is left out.
            None: all steps.

        Returns
        -------
        Tensor
            ``[N, K]``.

        Raises
        ------
        ValueError
            If the mode is unknown, or the lengths do not fit.
        """
        return _confidence(whole_rate(flat_classes(spikes), lengths), mode, eps)

    @staticmethod
    def predict(spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Class of each sample, ``[N, classes..., T]`` to ``[N]`` int64; ties go to the first.

        ``lengths`` are the steps of each sample that count, as for `rate`.
        """
        flat = flat_classes(spikes)
        return (flat if lengths is None else within(flat, lengths)).sum(-1).argmax(1)

    def forward(self, spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Class of each sample, see `predict`."""
        return self.predict(spikes, lengths)


class MovingWindow(torch.nn.Module):
    """The class whose neuron spikes most within the last steps, at every step.

    Parameters
    ----------
    time_window
        Length of the window in steps. The rate ramps up over the first of them.
    mode
        How ``confidence`` computes, see `Rate.confidence`.
    eps
        Added to the sum of rates in mode ``probability``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.classifier import MovingWindow
    >>> spikes = torch.tensor([[[0.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]])
    >>> MovingWindow(time_window=3).predict(spikes)  # the class that leads, step by step
    tensor([[0, 0, 0, 0, 1, 1]])
    """

    def __init__(self, time_window: int, mode: Mode = "probability", eps: float = 1e-6) -> None:
        super().__init__()
        time_window = whole_number("time_window", time_window)
        finite("eps", eps)
        self.filter = FIR(torch.full((time_window,), 1 / time_window))
        self.mode: Mode = _known(mode)
        self.eps = eps

    def rate(self, spikes: Tensor) -> Tensor:
        """Mean over the window, ``[N, neurons..., T]`` at every step."""
        return self.filter(real(spikes))

    def confidence(self, spikes: Tensor, mode: Mode | None = None) -> Tensor:
        """Confidence in each class at every step, ``[N, K, T]``; ``mode`` None: the object's."""
        rate = self.rate(flat_classes(spikes))
        return _confidence(rate, self.mode if mode is None else mode, self.eps)

    def predict(self, spikes: Tensor) -> Tensor:
        """Class of each sample at every step, ``[N, T]`` int64; ties go to the first."""
        return self.rate(flat_classes(spikes)).argmax(1)

    def forward(self, spikes: Tensor) -> Tensor:
        """Class of each sample at every step."""
        return self.predict(spikes)
