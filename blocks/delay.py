"""Learnable axonal delay of each channel. Equations: kernels/delay.py.

Source: lava-dl axon/delay.py.
"""

from typing import Any

import torch
from lapilli.kernels.delay import channel_delay
from lapilli.neurons.errors import require
from lapilli.neurons.lazy import LazySize, resize
from lapilli.neurons.precision import KeepsFloat32
from torch import Tensor


class Delay(KeepsFloat32, LazySize, torch.nn.Module):
    """Delay each channel by its own whole number of steps.

    The delays are drawn from [0, 1) at the first call, when the number of channels is known, or
    come from a checkpoint. They are used rounded down. What leaves the sequence is lost, also from
    one call to the next.

    Parameters
    ----------
    sampling_time
        Length of a step, the unit of the delays; above 0.
    max_delay
        Delays stay within [0, ``max_delay``]; None for no limit.
    grad_scale
        Factor of the gradient of the delays.

    Attributes
    ----------
    delay : Parameter
        ``[1]`` zero at first, then ``[channels]``.
    init : bool
        Whether the delays have been drawn or loaded; set it after writing them by hand.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For an input with fewer than three dimensions or
        another number of channels; a ``sampling_time`` that is not positive.
    """

    lazy_sizes = ("delay",)

    def __init__(
        self, sampling_time: float = 1, max_delay: float | None = None, grad_scale: float = 1
    ):
        super().__init__()
        require(sampling_time > 0, f"sampling_time must be above 0; got {sampling_time}")
        self.sampling_time = sampling_time
        self.max_delay = max_delay
        self.grad_scale = grad_scale
        self.init = False
        self.delay = torch.nn.Parameter(torch.zeros(1))

    def _sized(self, name: str) -> None:
        self.init = True

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        # one value: that of a single channel, or the zero of a module that was never called
        if not self.init and bool(self.delay.detach().any()):
            self.init = True

    @property
    def shape(self) -> torch.Size | None:
        """Shape of the delays, ``[channels]``; None before they are known."""
        return self.delay.shape if self.init else None

    def clamp(self) -> None:
        """Move the delays back into [0, ``max_delay``], in place."""
        if self.init:
            self.delay.data.clamp_(0, self.max_delay)

    def forward(self, input: Tensor) -> Tensor:
        """Delay ``[N, channels, (height, width,) T]``."""
        require(
            input.ndim >= 3,
            f"expected input to have at least 3 dimensions [batch, channels, ..., time]; got shape "
            f"{tuple(input.shape)}. For a single sample use x.unsqueeze(0).",
        )
        channels = input.shape[1]
        if not self.init:
            resize(self.delay, torch.rand(channels))
            self.init = True
        require(
            self.delay.numel() == channels,
            f"expected input with {self.delay.numel()} channels, one a delay; got {channels} "
            f"(input shape {tuple(input.shape)})",
        )
        self.clamp()
        return channel_delay(
            input, self.delay, sampling_time=self.sampling_time, grad_scale=self.grad_scale
        )

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        return f"channels={self.delay.numel() if self.init else None}, max_delay={self.max_delay}"
