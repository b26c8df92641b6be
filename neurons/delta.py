"""Delta: threshold encoder, the axon of sigma-delta networks. Equations: kernels/delta.py.

Source: lava-dl axon/delta.py.
"""

import math

import torch
from lapilli.kernels import delta as kernel
from torch import Tensor

from .errors import require
from .lazy import resize
from .state import Stateful


class Delta(Stateful):
    """Send the changes of the input that reach a threshold, as graded events.

    Input and output are ``[N, neurons..., T]`` float32 with at least three dimensions; half
    precision and integers are converted. The first neuron dimension is the channel.

    Parameters
    ----------
    threshold
        Smallest change that is sent, real units; at least ``1 / scale``, to which it is raised.
    scale
        Events are rounded down to multiples of ``1 / scale``. What the rounding loses is not made
        up for later.
    tau_grad, scale_grad
        Width and scale of the surrogate gradient of the threshold.
    cum_error
        Compare the changes added up since the last event with the threshold, not the last change.
    shared_param
        One threshold for all neurons, or one a channel.
    persistent_state
        Keep the state from one call to the next (detached); a change of batch size returns to
        rest, and so does ``reset_state()``.
    requires_grad
        Learn the threshold.

    Attributes
    ----------
    threshold : Parameter
        ``[1]``; without ``shared_param`` ``[channels, 1, ..., 1]`` after the first call, with as
        many dimensions as a sample has neuron dimensions.
    pre_state, residual_state, error_state : Tensor
        Input, residual and accumulated error after the last call where they persist; not in the
        state dict.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For arguments out of range, inputs of a wrong shape.
    """

    _fixed = {"shared_param": "make another one, with shared_param"}  # noqa: RUF012 (a table)
    _derived = {"device": "move the module with .to(device)"}  # noqa: RUF012 (a table)

    def __init__(
        self,
        threshold: float,
        scale: int = 1 << 6,
        tau_grad: float = 1,
        scale_grad: float = 1,
        cum_error: bool = False,
        shared_param: bool = True,
        persistent_state: bool = False,
        requires_grad: bool = False,
    ):
        super().__init__(persistent_state)
        require(
            math.isfinite(threshold) and scale > 0 and tau_grad > 0,
            f"delta encoder needs a finite threshold, and scale and tau_grad above 0; got "
            f"threshold={threshold}, scale={scale}, tau_grad={tau_grad}",
        )
        self.scale = scale
        self.tau_grad = tau_grad
        self.scale_grad = scale_grad
        self.cum_error = bool(cum_error)
        self.shared_param = bool(shared_param)
        self.threshold = torch.nn.Parameter(
            torch.tensor([float(threshold)]), requires_grad=bool(requires_grad)
        )
        if not self.shared_param:
            self.lazy_sizes = ("threshold",)
        self._add_states(pre_state=0, residual_state=0, error_state=0)

    @property
    def requires_grad(self) -> bool:
        """Whether the threshold is learned."""
        return self.threshold.requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.threshold.requires_grad_(bool(requires_grad))

    def clamp(self) -> None:
        """Raise the threshold to ``1 / scale`` where it is lower, in place.

        Raises
        ------
        ValueError
            For a threshold that is not finite; on the CPU only, where looking costs nothing.
        """
        if self.threshold.device.type == "cpu" and not self.threshold.isfinite().all():
            raise ValueError(
                f"threshold of a delta encoder is not finite: {self.threshold.tolist()}. Training "
                f"has diverged; lower the learning rate."
            )
        self.threshold.data.clamp_(min=1 / self.scale)

    def _enter(self, x: Tensor) -> None:
        """Check an input, learn its shape, prepare the threshold."""
        self._check(x)
        if not self.shared_param:
            channels, *others = self.shape
            shape = (channels, *(1,) * len(others))
            if self.threshold.shape != shape:
                require(
                    self.threshold.numel() in (1, channels),
                    f"delta encoder has thresholds of shape {tuple(self.threshold.shape)} for an "
                    f"input of {channels} channels; expected one value, or one a channel",
                )
                values = self.threshold.detach().reshape(-1).expand(channels)
                resize(self.threshold, values.reshape(shape).clone())
        self.clamp()

    def forward(self, input: Tensor, delay_shift: bool = False) -> Tensor:
        """Encode ``[N, neurons..., T]`` over time.

        Parameters
        ----------
        input
            Values, real units.
        delay_shift
            Delay the events by one step in the same pass; the last one is dropped.

        Returns
        -------
        Tensor
            Events, of the shape of ``input``.
        """
        self._enter(input)
        y = kernel.delta(
            input, self.threshold, self.scale,
            state=self._state(input.shape[0]), return_state=self.persistent_state,
            shift=delay_shift, **self._options,
        )  # fmt: skip
        if self.persistent_state:
            y, state = y
            self._keep_state(**dict(zip(self._rest, state, strict=True)))
        return y

    @property
    def _options(self) -> dict[str, float | bool]:
        """What the kernels want to know besides threshold, scale and state."""
        return {
            "tau_grad": self.tau_grad,
            "scale_grad": self.scale_grad,
            "cum_error": self.cum_error,
        }

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        return (
            f"scale={self.scale}, cum_error={self.cum_error}, shared_param={self.shared_param}, "
            f"persistent_state={self.persistent_state}"
        )
