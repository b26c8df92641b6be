"""Delta: threshold encoder, the axon of sigma-delta networks.

Equations: kernels/recurrences/delta.py.

Source: lava-dl axon/delta.py.
"""

from typing import Any

import torch
from lapilli.kernels.numbers.formula import GivenSurrogate, name_of
from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.recurrences import delta as kernel
from torch import Tensor
from torch.nn.parameter import is_lazy

from .errors import finite, flag, require, width
from .lazy import fill, is_distributed, resize
from .limits import confined, own_parameter
from .state import Stateful, state_value

__all__ = ["Delta"]


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
        Width, above 0, in the unit of the signal, and height of the surrogate gradient through
        which the threshold is learned; see ``surrogate``.
    cum_error
        Compare the changes added up since the last event with the threshold, not the last change.
    shared_param
        One threshold for all neurons, or one a channel.
    persistent_state
        Keep the state from one call to the next (detached), from one batch of training to the next
        too: call ``lapilli.reset_state(net)`` between samples. A change of batch size returns to
        rest, and so does ``reset_state()``.
    requires_grad
        Learn the threshold.
    min_threshold
        A learned threshold stays at or above it, real units; None: half of ``threshold``. Without a
        bound, a loss that asks for accuracy alone would learn to send every change. Loading a
        checkpoint lowers it to the thresholds that were saved.
    surrogate
        Shape h of that gradient, ``-d scale_grad / threshold h((|d| - threshold) / tau_grad)`` for
        a change d that is sent. The names are those of ``lapilli.neurons.base.Neuron``.

    Attributes
    ----------
    threshold : Parameter
        ``[1]``; without ``shared_param`` ``[channels, 1, ..., 1]``, with as many dimensions as a
        sample has neuron dimensions. A block sizes it when it is built; of an encoder alone it is
        torch's ``UninitializedParameter`` until the first call.
    pre_state, residual_state, error_state : Tensor
        Input, residual and accumulated error after the last call where they persist; not in the
        state dict.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For arguments out of range, inputs of a wrong shape.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> encoder = slayer.axon.Delta(threshold=0.25)
    >>> # 0.125 is too small to be sent, and then 0 is 0.5 below what was sent
    >>> encoder(torch.tensor([[[0.0, 0.5, 0.5, 0.625, 0.0]]]))
    tensor([[[ 0.0000,  0.5000,  0.0000,  0.0000, -0.5000]]])
    """

    pre_state: Tensor = state_value("pre_state", "Input of the last step of the last call.")
    residual_state: Tensor = state_value("residual_state", "Residual that the last call left.")
    error_state: Tensor = state_value("error_state", "Accumulated error that the last call left.")
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
        min_threshold: float | None = None,
        surrogate: GivenSurrogate = DEFAULT,
    ):
        super().__init__(persistent_state)
        finite("threshold", threshold)
        self.scale = width("scale", scale)
        self.tau_grad = tau_grad
        self.scale_grad = scale_grad
        self.surrogate = surrogate
        self.cum_error = flag("cum_error", cum_error)
        self.shared_param = flag("shared_param", shared_param)
        requires_grad = flag("requires_grad", requires_grad)
        self._first_threshold = float(threshold)
        self.min_threshold = self._first_threshold / 2
        if min_threshold is not None:
            self.min_threshold = float(finite("min_threshold", min_threshold))
        self._learns = requires_grad
        self.lazy_sizes = () if self.shared_param else ("threshold",)
        if self.shared_param:
            value = torch.tensor([self._first_threshold], dtype=torch.float32)
            self.threshold = torch.nn.Parameter(value, requires_grad=requires_grad)
        else:
            self._register_unsized("threshold", requires_grad)
        self._add_states(pre_state=0, residual_state=0, error_state=0)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "tau_grad":
            width(name, value)
        elif name == "scale_grad":
            finite(name, value)
        super().__setattr__(name, value)

    @property
    def surrogate(self) -> str:
        """Name of the shape of the surrogate gradient; set by a name or a function."""
        return self._surrogate_name

    @surrogate.setter
    def surrogate(self, surrogate: GivenSurrogate) -> None:
        self._surrogate_name = name_of(surrogate)

    @property
    def requires_grad(self) -> bool:
        """Whether the threshold is learned."""
        return self.threshold.requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self._learns = flag("requires_grad", requires_grad)
        self.threshold.requires_grad_(self._learns)

    def clamp(self) -> None:
        """Raise the threshold to ``1 / scale``, a learned one to its least, in place.

        Raises
        ------
        ValueError
            For a threshold that is not finite; on the CPU only, where looking costs nothing.
        """
        if own_parameter(self, "threshold") is not None:
            self._used()

    def _used(self) -> Tensor:
        """Return the threshold as forward uses it, see limits.py."""
        least = 1 / self.scale
        if self._learns or self.threshold.requires_grad:
            least = max(least, self.min_threshold)
        return confined(self, "threshold", least, None)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        saved = state_dict.get(prefix + "threshold")
        if saved is not None and not is_lazy(saved) and saved.numel() and not saved.is_meta:
            whole = saved.full_tensor() if hasattr(saved, "full_tensor") else saved  # of shards
            self.min_threshold = min(self.min_threshold, float(whole.detach().min()))

    def _size(self, *shape: int) -> None:
        """Give the threshold its size ``[channels, 1, ..., 1]``, where it has none."""
        if self._unsized:
            fill(self, "threshold", torch.full(shape, self._first_threshold, dtype=torch.float32))
            self.clamp()

    def _enter(self, x: Tensor) -> Tensor:
        """Check an input, learn its shape, and return the threshold as forward uses it."""
        self._check(x)
        if not self.shared_param:
            shape: Any = self.shape  # learned from the input
            channels, *others = shape
            self._settle(channels, (channels, *(1,) * len(others)))
        return self._used()

    def _settle(self, channels: int, shape: tuple[int, ...]) -> None:
        """Give the threshold the shape that belongs to an input."""
        if torch.compiler.is_compiling():
            self._require_sizes()
        elif self._unsized:
            self._size(*shape)
        threshold = own_parameter(self, "threshold")
        if threshold is not None and threshold.shape != shape:
            require(
                threshold.numel() in (1, channels),
                f"delta encoder has thresholds of shape {tuple(threshold.shape)} for an input of "
                f"{channels} channels; expected one value, or one a channel",
            )
            # the shape is for checkpoints alone, so it waits where it could disturb
            if not (torch.compiler.is_compiling() or is_distributed()):
                resize(threshold, threshold.detach().reshape(-1).expand(channels).reshape(shape))

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
        threshold, keeps = self._enter(input), self._keeps(input)
        y: Any = kernel.delta(
            input, threshold, self.scale, state=self._state(input.shape[0]), return_state=keeps,
            shift=delay_shift, **self._options,
        )  # fmt: skip
        if keeps:
            y, state = y
            self._keep_state(**dict(zip(self._rest, state, strict=True)))
        return y

    @property
    def _options(self) -> dict[str, Any]:
        """What the kernels want to know besides threshold, scale and state."""
        return {
            "tau_grad": self.tau_grad,
            "scale_grad": self.scale_grad,
            "surrogate": self._surrogate_name,
            "cum_error": self.cum_error,
        }

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        return (
            f"scale={self.scale}, cum_error={self.cum_error}, shared_param={self.shared_param}, "
            f"persistent_state={self.persistent_state}"
        )
