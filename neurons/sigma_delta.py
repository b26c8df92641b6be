"""Sigma-delta neuron: running sum, activation, delta encoder.

Equations: kernels/recurrences/sigma_delta.py.

Source: lava-dl neuron/sigma_delta.py.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.numbers.formula import GivenSurrogate
from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.recurrences import sigma_delta as kernel
from torch import Tensor

from .delta import Delta
from .encoding import EncodingNeuron
from .errors import number, require
from .fixed_point import fixed_point_scales
from .gradients import with_zero_gradients
from .lazy import resize
from .settings import Settings
from .sigma import Sigma

__all__ = ["Activation", "Neuron", "activation_name", "neuron_params"]

Activation = Callable[[Tensor], Tensor]

_RECTIFIERS = (torch.relu, torch.nn.functional.relu)


class Neuron(EncodingNeuron):
    """Sigma-delta neuron: adds its input up, applies an activation, sends the changes.

    Input and output are ``[N, neurons..., T]`` float32 with at least three dimensions, in any
    memory layout; half precision and integers are converted. The first neuron dimension is the
    channel. Without norm, and with a rectifier or no activation, the whole neuron is one kernel
    that does not call the modules ``sigma``, ``activation`` and ``delta``; otherwise, or where
    ``sigma`` or ``delta`` was replaced or has hooks, they run one after the other, with the same
    values.

    Parameters
    ----------
    threshold
        Smallest change that is sent, at least 0; rounded down to a multiple of ``1 / scale``. A
        threshold that this makes 0 becomes ``1 / (64 * scale)``, the smallest event there is.
    activation
        Callable from tensor to tensor of the same shape, usually ``torch.relu``, or None.
    tau_grad, scale_grad
        Width, above 0, in the unit of the signal, and height of the surrogate gradient through
        which the threshold is learned; see ``surrogate`` of ``lapilli.neurons.delta.Delta``.
    scale
        The chip computes in integers: a weight of 1 is this many of its units. Events are rounded
        down to multiples of ``1 / (64 * scale)``.
    cum_error
        Compare the changes added up since the last event with the threshold, not the last change.
    norm
        Class or function that makes a norm, which is applied to the sum before the bias. With None
        there is no norm.
    dropout
        Module applied to the events. With None there is no dropout.
    shared_param
        One threshold for all neurons, or one a channel.
    persistent_state
        Keep the state from one call to the next (detached), from one batch of training to the next
        too: call ``lapilli.reset_state(net)`` between samples. A change of batch size returns to
        rest, and so does ``reset_state()``.
    requires_grad
        Learn threshold and bias.
    min_threshold
        A learned threshold stays at or above it, real units; None: half of ``threshold``.
    surrogate
        Shape of that gradient; see ``lapilli.neurons.delta.Delta``.
    overflow
        None: the sums are float32. Rules for states that do not fit an integer raise.

    Attributes
    ----------
    bias : Parameter
        Added before the activation once ``set_bias`` was called or one that is not zero was
        loaded; ``[1]``, ``[channels]`` or the shape of the neurons. Until then its gradient is
        zero.
    bias_is_set : bool
        Whether it is added.
    sigma : Sigma
        The running sum.
    delta : Delta
        The encoder, with the parameter ``delta.threshold``.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For arguments out of range, inputs of a wrong shape.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.sigma_delta.Neuron(threshold=0.25, activation=torch.relu)
    >>> spikes = neuron(torch.rand(4, 3, 10))  # of weighted inputs, [batch, neurons, time]
    >>> spikes.shape
    torch.Size([4, 3, 10])
    """

    lazy_sizes = ("bias",)
    _derived = EncodingNeuron._derived | {"tau_rho": "set tau_grad", "scale_rho": "set scale_grad"}

    def __init__(
        self,
        threshold: float,
        activation: Activation | None,
        tau_grad: float = 1,
        scale_grad: float = 1,
        scale: int = 1 << 6,
        cum_error: bool = False,
        norm: Callable[[], torch.nn.Module] | None = None,
        dropout: torch.nn.Module | None = None,
        shared_param: bool = True,
        persistent_state: bool = False,
        requires_grad: bool = False,
        min_threshold: float | None = None,
        surrogate: GivenSurrogate = DEFAULT,
        *,
        overflow: None = None,
    ):
        require(
            activation is None or callable(activation),
            f"activation must be a callable such as torch.relu, or None; got {activation!r}",
        )
        scales: dict[str, Any] = fixed_point_scales(scale) | {"p_scale": 1}
        super().__init__(
            threshold=threshold,
            tau_grad=tau_grad,
            scale_grad=scale_grad,
            norm=norm,
            dropout=dropout,
            persistent_state=persistent_state,
            shared_param=shared_param,
            requires_grad=requires_grad,
            surrogate=surrogate,
            **scales,
        )
        self.graded_spike = True
        self.overflow = overflow
        self.activation = activation
        self.bias = torch.nn.Parameter(
            torch.zeros(1, dtype=torch.float32), requires_grad=self.requires_grad
        )
        self.bias_is_set = False
        self.sigma = Sigma(persistent_state=self.persistent_state)
        self.delta = Delta(
            threshold=self._threshold,
            scale=self.s_scale,
            tau_grad=tau_grad,
            scale_grad=scale_grad,
            cum_error=cum_error,
            shared_param=self.shared_param,
            persistent_state=self.persistent_state,
            requires_grad=self.requires_grad,
            min_threshold=min_threshold,
            surrogate=surrogate,
        )
        self.clamp()

    def quantize_threshold(self, threshold: float) -> float:
        """Round a threshold down to a multiple of ``1 / w_scale``; 0 stands for the least one."""
        threshold = number("threshold", threshold)
        require(
            math.isfinite(threshold) and threshold >= 0,
            f"threshold must be finite and at least 0; got {threshold}",
        )
        return int(threshold * self.w_scale) / self.w_scale

    def clamp(self) -> None:
        """Raise the threshold to the grid of the events where it is lower, in place."""
        self.delta.clamp()

    def _size(self, channels: int, dimensions: int) -> None:
        if not self.shared_param:
            self.delta._size(channels, *(1,) * (dimensions - 1))
        norm: Any = self.norm
        if hasattr(norm, "_size"):
            norm._size(channels)

    @property
    def began_at_rest(self) -> bool:  # noqa: D102 (the base says it)
        return self.sigma.began_at_rest or self.delta.began_at_rest

    def reset_state(self) -> None:
        """Return to rest: the next call starts as the first one did."""
        self.sigma.reset_state()
        self.delta.reset_state()

    # bias

    def set_bias(self, bias: Tensor | float) -> None:
        """Set the bias and use it from now on.

        Parameters
        ----------
        bias
            One value, one a channel ``[channels]``, or one a neuron; real units, used unrounded.
        """
        values = torch.as_tensor(bias, dtype=torch.float32).detach()
        values = values.reshape(1) if values.ndim == 0 else values.clone()
        if self.shape is not None:
            self._check_bias(values)
            if values.numel() == math.prod(self.shape):
                values = values.reshape(self.shape)
        resize(self.bias, values)
        self.bias_is_set = True

    def _check_bias(self, bias: Tensor) -> None:
        shape: Any = self.shape  # known by now
        channels, neurons = shape[0], math.prod(shape)
        require(
            bias.numel() in (1, neurons) or bias.shape == (channels,),
            f"bias must have one value, one a channel ({channels},) or one a neuron "
            f"{tuple(shape)}; got shape {tuple(bias.shape)}",
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        saved = state_dict.get(prefix + "bias")
        if saved is not None and bool((saved != 0).any()):
            self.bias_is_set = True

    def _biased(self, y: Tensor) -> Tensor:
        """Add the bias to ``[N, neurons..., T]``."""
        if not self.bias_is_set:
            return y
        neurons: Any = self.shape  # known by now
        whole = self.bias.numel() == math.prod(neurons)
        shape = neurons if whole else (-1, *(1,) * (len(neurons) - 1))
        return y + self.bias.view(1, *shape, 1)

    # values

    @property
    def device_params(self) -> dict[str, Any]:
        """Parameters as the chip holds them."""
        return {
            "type": "SDNN",
            "activation": activation_name(self.activation),
            "vThMant": self.v_th_mant,
        }

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        shape = None if self.shape is None else tuple(self.shape)
        return (
            f"activation={activation_name(self.activation)}, scale={self.w_scale}, shape={shape}, "
            f"bias_is_set={self.bias_is_set}"
        )

    # call

    def forward(self, input: Tensor, delay_shift: bool = False) -> Tensor:
        """Run the neuron over time.

        Parameters
        ----------
        input
            Weighted input ``[N, neurons..., T]``, real units.
        delay_shift
            Delay the events by one step in the same pass; the last one is dropped.

        Returns
        -------
        Tensor
            Events, of the shape of ``input``.
        """
        x = self._enter(input)
        if self.bias_is_set:
            self._check_bias(self.bias)
        rectifies = type(self.activation) is torch.nn.ReLU or self.activation in _RECTIFIERS
        passes = self.activation is None or type(self.activation) is torch.nn.Identity
        if self.norm is None and (rectifies or passes) and not self._are_parts_observed():
            y = self._fused(x, rectifies, delay_shift)
        else:
            y = self.sigma(x)
            y = self._biased(y if self.norm is None else self.norm(y))
            y = self.activation(y) if self.activation is not None and not passes else y
            y = self.delta(y, delay_shift)
        if self.requires_grad and not self.bias_is_set:
            y = with_zero_gradients(y, self.bias)
        return self._leave(y)

    def _are_parts_observed(self) -> bool:
        """Whether sigma or delta is not what the constructor made, or has hooks."""
        for part, made in ((self.sigma, Sigma), (self.delta, Delta)):
            if (
                type(part) is not made
                or part._forward_hooks
                or part._forward_pre_hooks
                or part._backward_hooks
                or part._backward_pre_hooks
                or "forward" in part.__dict__
            ):
                return True
        return False

    def _fused(self, x: Tensor, relu: bool, shift: bool) -> Tensor:
        sigma, delta = self.sigma, self.delta
        sigma._check(x)
        threshold = delta._enter(x)
        before = [module._state(x.shape[0]) for module in (sigma, delta)]
        state: Any = None
        if any(s is not None for s in before):  # one of them may have been reset alone
            rest = x.new_zeros(x.shape[:-1], dtype=torch.float32)
            total, encoder = before
            state = *(total or (rest,)), *(encoder or (rest,) * 3)
        keeps = self._keeps(x)
        y: Any = kernel.sigma_delta(
            x, threshold, delta.scale, bias=self.bias if self.bias_is_set else None,
            relu=relu, shift=shift, state=state, return_state=keeps, **delta._options,
        )  # fmt: skip
        if keeps:
            y, (total, pre, residual, error) = y
            sigma._keep_state(pre_state=total)
            delta._keep_state(pre_state=pre, residual_state=residual, error_state=error)
        return y


def activation_name(activation: Activation | None) -> str:
    """Name of an activation on the chip: the function's, or a module's class in lower case.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.neuron.sigma_delta.activation_name(torch.nn.ReLU())
    'relu'
    """
    if activation is None:
        return "identity"
    if isinstance(activation, functools.partial):
        return activation_name(activation.func)
    return getattr(activation, "__name__", type(activation).__name__.lower())


def neuron_params(device_params: dict[str, Any], scale: int = 1 << 6) -> dict[str, Any]:
    """Turn ``device_params`` back into constructor arguments.

    Examples
    --------
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.sigma_delta.Neuron(0.25, activation=None)
    >>> slayer.neuron.sigma_delta.neuron_params(neuron.device_params)["threshold"]
    0.25
    """
    return {"threshold": device_params["vThMant"] / scale}


SETTINGS = Settings(
    usual={"threshold": 0.1, "activation": torch.relu},
    quick={"threshold": 1.0, "activation": torch.relu},
)
