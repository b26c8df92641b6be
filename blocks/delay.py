"""Learnable axonal delay of each channel. Equations: kernels/recurrences/delay.py.

Source: lava-dl axon/delay.py.
"""

import math
from typing import Any

import torch
from lapilli.kernels.executors.layout import from_rows, to_rows, wrong_type
from lapilli.kernels.executors.operators import is_exported, is_learned
from lapilli.kernels.recurrences.delay import channel_delay
from lapilli.neurons.errors import InputTypeError, finite, flag, number, require, width
from lapilli.neurons.lazy import (
    LazySize,
    fill,
    is_lazy,
    is_to_be_drawn,
    size_provisionally,
    unmark,
)
from lapilli.neurons.limits import confined, own_parameter
from lapilli.neurons.state import KeepsState, refuse_lost_state, state_value, to_keep
from torch import Tensor

__all__ = ["Delay"]


class Delay(KeepsState, LazySize, torch.nn.Module):
    """Delay each channel by its own whole number of steps.

    They are used rounded down. What leaves the sequence is lost, unless ``persistent_state`` keeps
    it for the next call.

    Parameters
    ----------
    sampling_time
        Length of a step, the unit of the delays; above 0.
    max_delay
        Delays stay within [0, ``max_delay``]; None for no limit.
    grad_scale
        Factor of the gradient of the delays.
    persistent_state
        Keep the last ``max_delay`` of the input from one call to the next (detached), so that a
        sequence in pieces is delayed as the whole; a change of batch size starts anew, and so does
        ``reset_state()``. Needs a ``max_delay``.

    Attributes
    ----------
    delay : Parameter
        ``[channels]``. A block sizes it when it is built; of a delay alone it is torch's
        ``UninitializedParameter`` until the first call. The values are drawn from [0, 1) at the
        first call, unless they come from a checkpoint; what they hold before is explained at
        ``shared_param`` of ``lapilli.neurons.base.Neuron``.
    init : bool
        Whether the delays have been drawn or loaded; set it after assigning ``delay.data``.
    tail : Tensor or None
        The input ``[N, channels, (height, width,) steps]`` that is kept; None at rest.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For an input with fewer than three dimensions or
        another number of channels; a ``sampling_time`` that is not positive; a state that persists
        without ``max_delay``. For an input that is no dense tensor also a TypeError.
    ValueError
        For a delay that is not finite, in eager mode on the CPU.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> axon = slayer.axon.Delay(max_delay=62)
    >>> axon(torch.rand(4, 3, 10)).shape  # draws the delays of its three channels
    torch.Size([4, 3, 10])
    >>> axon.delay.data = torch.tensor([0.0, 1.0, 2.0])
    >>> axon(torch.tensor([[[1.0, 0, 0, 0]] * 3]))[0]
    tensor([[1., 0., 0., 0.],
            [0., 1., 0., 0.],
            [0., 0., 1., 0.]], grad_fn=<SelectBackward0>)
    """

    lazy_sizes = ("delay",)
    delay: Tensor
    tail: Tensor | None = state_value("tail", "The last steps of the input; None at rest.")

    def __init__(
        self,
        sampling_time: float = 1,
        max_delay: float | None = None,
        grad_scale: float = 1,
        *,
        persistent_state: bool = False,
    ):
        super().__init__()
        self.sampling_time = width("sampling_time", sampling_time)
        self.max_delay = None if max_delay is None else number("max_delay", max_delay)
        self.grad_scale = finite("grad_scale", grad_scale)
        self.persistent_state = flag("persistent_state", persistent_state)
        require(
            max_delay is not None or not self.persistent_state,
            "persistent_state=True keeps max_delay of the input; give a max_delay",
        )
        self.init = False
        self._register_unsized("delay", requires_grad=True)
        self._add_states(tail=None)

    def _sized(self, name: str) -> None:
        self.init = True

    def _holds_nothing(self, name: str, saved: Tensor) -> bool:
        # the zero of a module that was never called; else the value of a single channel
        return not self.init and not bool(saved.any())

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = state_dict.get(prefix + "delay")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if saved is not None and not is_lazy(saved) and bool(saved.detach().any()):
            self.init = True

    def _size(self, channels: int) -> None:
        """Give the delays their size, and values until the first call."""
        values = torch.rand(channels, dtype=torch.float32, device="cpu")
        size_provisionally(self, "delay", values)

    def _settle(self, channels: int) -> None:
        """Draw the delays where they wait for the first call, see ``lapilli.neurons.lazy``."""
        if torch.compiler.is_compiling():
            self._require_sizes()
            if not is_exported():
                self.init = True
            return
        delay = self._parameters.get("delay")
        if delay is not None and not isinstance(delay, torch.nn.Parameter):
            return  # that of torch.func.functional_call
        if delay is not None:
            if is_to_be_drawn(delay):
                fill(self, "delay", torch.rand(channels, dtype=torch.float32, device="cpu"))
            unmark(self.delay)
        self.init = True

    @property
    def shape(self) -> torch.Size | None:
        """Shape of the delays, ``[channels]``; None before they are known."""
        return None if self._unsized else self.delay.shape

    def clamp(self) -> None:
        """Move the delays back into [0, ``max_delay``], in place."""
        if own_parameter(self, "delay") is not None:
            confined(self, "delay", 0, self.max_delay)

    def forward(self, input: Tensor) -> Tensor:
        """Delay ``[N, channels, (height, width,) T]``."""
        wrong = wrong_type(input)
        if wrong is not None:
            raise InputTypeError(f"Delay input {wrong}")
        require(
            input.ndim >= 3,
            f"expected input to have at least 3 dimensions [batch, channels, ..., time]; got shape "
            f"{tuple(input.shape)}. For a single sample use x.unsqueeze(0).",
        )
        channels = input.shape[1]
        if not self.init:
            self._settle(channels)
        delay = confined(self, "delay", 0, self.max_delay)
        require(
            delay.numel() == channels,
            f"expected input with {delay.numel()} channels, one a delay; got {channels} "
            f"(input shape {tuple(input.shape)})",
        )
        options = {"sampling_time": self.sampling_time, "grad_scale": self.grad_scale}
        if not self.persistent_state:
            return channel_delay(input, delay, **options)
        return self._continued(input, delay, options)

    def _continued(self, x: Tensor, delay: Tensor, options: dict[str, float]) -> Tensor:
        """Delay ``x`` after what was kept of the calls before, and keep the end of both."""
        refuse_lost_state(self)
        require(self.max_delay is not None, "a Delay whose state persists needs a max_delay")
        steps = math.floor(self.max_delay / self.sampling_time)
        rows, shape, tail = to_rows(x), x.shape[1:-1], self._kept["tail"]
        if tail is None or tail.shape[:-1] != x.shape[:-1]:
            before = rows.new_zeros(rows.shape[0], steps, rows.shape[2])
        else:
            before = to_rows(tail)
        whole = torch.cat((before, rows), 1)
        self._kept["tail"] = from_rows(to_keep(whole[:, whole.shape[1] - steps :]), shape)
        if is_learned(x, delay):
            return channel_delay(from_rows(whole, shape), delay, **options)[..., steps:]
        # the same values, without a walk over what came before
        T, C = rows.shape[1:]
        back = torch.div(delay, self.sampling_time).to(torch.int64)
        source = torch.arange(steps, steps + T, device=x.device).unsqueeze(1) - back
        source = source.repeat_interleave(C // delay.numel(), 1)
        return from_rows(whole.gather(1, source.expand(rows.shape)), shape)

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        channels = None if self._unsized else self.delay.numel()
        return (
            f"channels={channels}, max_delay={self.max_delay}, "
            f"persistent_state={self.persistent_state}"
        )
