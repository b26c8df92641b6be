"""Read a class from the spikes of the output layer: the neuron with the highest rate.

Source: lava-dl classifier/rate.py, classifier/moving_window.py.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from .filter import FIR, real

Mode = Literal["probability", "softmax", "logsoftmax"]


def flat_classes(spikes: Tensor) -> Tensor:
    """View ``[N, classes..., T]`` as ``[N, K, T]``; integers, bool and half become float32."""
    if spikes.ndim < 3:
        raise ValueError(
            "spikes must be [batch, classes, time] with at least 3 dimensions; got shape "
            f"{tuple(spikes.shape)}. For a single sample use spikes.unsqueeze(0)."
        )
    return real(spikes).flatten(1, -2)


def whole_rate(spikes: Tensor) -> Tensor:
    """Mean over time, ``[N, neurons..., T]`` to ``[N, neurons...]``."""
    return real(spikes).mean(-1)


def _confidence(rate: Tensor, mode: str, eps: float) -> Tensor:
    """Turn rates ``[N, K]`` or ``[N, K, T]`` into confidences over the classes."""
    if mode == "probability":
        return rate / (rate.sum(1, keepdim=True) + eps)
    if mode == "softmax":
        return rate.softmax(1)
    if mode == "logsoftmax":
        return rate.log_softmax(1)
    raise ValueError(f"mode is {mode!r}; expected one of {', '.join(get_args(Mode))}")


class Rate(torch.nn.Module):
    """The class whose neuron spikes most over the whole sequence."""

    def __init__(self) -> None:
        super().__init__()

    @staticmethod
    def rate(spikes: Tensor) -> Tensor:
        """Mean over time, ``[N, neurons..., T]`` to ``[N, neurons...]``."""
        return whole_rate(spikes)

    @staticmethod
    def confidence(spikes: Tensor, mode: Mode = "probability", eps: float = 1e-6) -> Tensor:
        """Confidence in each class.

        Parameters
        ----------
        spikes
            ``[N, classes..., T]``; the classes are flattened.
        mode
            ``probability``: rate over the sum of rates; ``softmax``; ``logsoftmax``.
        eps
            Added to the sum of rates.

        Returns
        -------
        Tensor
            ``[N, K]``.

        Raises
        ------
        ValueError
            If the mode is unknown.
        """
        return _confidence(flat_classes(spikes).mean(-1), mode, eps)

    @staticmethod
    def predict(spikes: Tensor) -> Tensor:
        """Class of each sample, ``[N, classes..., T]`` to ``[N]`` int64; ties go to the first."""
        return flat_classes(spikes).sum(-1).argmax(1)

    def forward(self, spikes: Tensor) -> Tensor:
        """Class of each sample."""
        return self.predict(spikes)


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
    """

    def __init__(self, time_window: int, mode: Mode = "probability", eps: float = 1e-6) -> None:
        super().__init__()
        if time_window < 1:
            raise ValueError(f"time_window is {time_window}; expected at least 1 step")
        self.filter = FIR(torch.full((time_window,), 1 / time_window))
        self.mode = mode
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
