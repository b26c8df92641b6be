"""What every neuron module has: scales, threshold, surrogate gradient, norm and dropout.

Source: lava-dl neuron/base.py.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.numbers.fixed_point import STATE_BITS
from lapilli.kernels.numbers.formula import GivenSurrogate, name_of
from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.synapses.quantize import quantize_8bit
from torch import Tensor

from .errors import ArgumentTypeError, finite, flag, function, number, require, width
from .learning import ANEW, LearningNeuron
from .limits import settle_update

__all__ = ["Neuron"]

_STAGES = ("dynamics", "spike")
_METHODS = ("forward", *_STAGES)  # what a subclass may replace
_SCALE = f"{ANEW} scale"


def _made_by(norm: Callable[[], torch.nn.Module]) -> Any:
    """Return the norm that ``norm`` gives; raise where it takes arguments, or gives none."""
    name = getattr(norm, "__name__", repr(norm))
    ours = "a norm of lapilli.neurons.norm, such as MeanOnlyBatchNorm"
    try:
        inspect.signature(norm).bind()
    except TypeError as problem:
        raise ArgumentTypeError(
            f"norm is {name}, which is called without arguments: {problem}. Give {ours}, or a "
            f"function without arguments that makes a norm: lambda: {name}(...)"
        ) from None
    except ValueError:  # of what has no signature
        pass
    module = norm()
    if not isinstance(module, torch.nn.Module):
        raise ArgumentTypeError(f"norm {name} gives {module!r}; expected a module: {ours}")
    return module


class Neuron(LearningNeuron):
    """Base of the neuron modules.

    Parameters
    ----------
    threshold
        Firing threshold in real units, above 0; rounded down to a multiple of ``1 / w_scale``.
    tau_grad
        Width of the surrogate gradient, relative to the threshold; above 0.
    scale_grad
        Height of the surrogate gradient, see ``surrogate``.
    p_scale, w_scale, s_scale
        How many of the chip's integer units are 1: of decays, weights and states. ``s_scale`` is at
        least ``w_scale``.
    norm
        Class or function without arguments that makes a norm module. With None there is no norm.
    dropout
        Module applied to the spikes. With None there is no dropout.
    persistent_state
        Keep the state from one call to the next instead of starting from rest. That is meant for
        a sequence in pieces: training on other samples wants ``lapilli.reset_state(net)`` before
        each batch, or they start from the state that the samples before them left. A change of
        batch size returns to rest.
    shared_param
        One value of each parameter for all neurons; otherwise one a channel. A block sizes such
        parameters when it is built, of a neuron alone they are torch's ``UninitializedParameter``
        until the first call. The values of lava-dl's order are drawn from torch's CPU generator at
        the first call, in place; what the parameters hold before comes from the same range and
        does not move the generator. It stays where the parameter was written meanwhile (by a
        checkpoint, an optimiser, ``DistributedDataParallel``), is another object (a copy of the
        module), a process group of ``torch.distributed`` is initialised, or the first call is that
        of a compiled or exported graph.
    requires_grad
        Learn the neuron's parameters. A decay that is learned has a second parameter beside it,
        ``<name>_update``, a share of the decay, through which any optimizer moves it at the rate of
        the weights. It is added to the decay, and set back to 0, when the neuron runs, when the
        decay is looked at, and in the state dict, where it does not appear.
    complex
        The input is a pair (real, imaginary).
    surrogate
        Shape h of the surrogate gradient, each of height 1 and integral 2: ``"exponential"``,
        ``exp(-|z|)``, as in lava-dl; ``"fast_sigmoid"``, ``1 / (1 + |z|)**2``; ``"arctan"``,
        ``1 / (1 + (pi z / 2)**2)``; ``"sigmoid"``, ``1 / cosh(z)**2``; ``"triangle"``,
        ``max(0, 1 - |z| / 2)``; ``"boxcar"``, 1 where ``|z| <= 1``; or one of your own, see
        ``lapilli.surrogate``. The derivative of a spike by the state that is tested is
        ``scale / (2 tau) h(d / tau)``, of a graded one ``scale h(min(d, 0) / tau)``, where d is
        how far that is above its threshold, tau is ``tau_grad`` times threshold and scale is
        ``scale_grad``, both times a constant of the kind of neuron (``TAU_RHO_MULT`` and
        ``SCALE_RHO_MULT`` of its module). Neurons that spike by their phase: see
        ``kernels/numbers/surrogate.py``. It is not in the state dict and not in network files.

    Attributes
    ----------
    shape : torch.Size or None
        Shape of the neurons, without batch and time; known after the first call.
    num_neurons : int or None
        Their number.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For a threshold that quantises to zero or is not
        finite, a state scale below the weight scale, a decay outside [0, 1].

    Examples
    --------
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.cuba.Neuron(threshold=1.25, current_decay=0.25, voltage_decay=0.1)
    >>> neuron.threshold = 1.26  # rounded down to a multiple of 1/64
    >>> neuron.threshold
    1.25
    """

    norm: torch.nn.Module | None
    real_norm: torch.nn.Module | None  # of complex neurons, in place of ``norm``
    imag_norm: torch.nn.Module | None
    _fixed = {  # noqa: RUF012 (a table)
        "p_scale": _SCALE,
        "w_scale": _SCALE,
        "s_scale": _SCALE,
        "shared_param": f"{ANEW} shared_param",
        "complex": "it belongs to the kind of neuron",
        "threshold_eps": "spikes are decided in integers; set threshold",
    }
    _derived = {  # noqa: RUF012 (a table)
        "scale": _SCALE,
        "v_th_mant": "set threshold",
        "v_th_step": "set threshold_step",
        "weight_exponent": _SCALE,
        "device_params": "set what it is made of",
        "overflows": "set count_overflows, and reset_state() to begin anew",
        "device": "move the neuron with .to(device)",
        "decay": "set sin_decay and cos_decay",
        "frequency": "set sin_decay and cos_decay",
        "period": "set sin_decay and cos_decay",
        "lam": "set sin_decay and cos_decay",
        **{
            f"cx_{name}_decay": f"write to the parameter {name}_decay, in units of 1/4096"
            for name in ("current", "voltage", "threshold", "refractory", "sin", "cos")
        },
    }

    def __init__(
        self,
        threshold: float,
        tau_grad: float = 1,
        scale_grad: float = 1,
        p_scale: int = 1,
        w_scale: int = 1,
        s_scale: int = 1,
        norm: Callable[[], torch.nn.Module] | None = None,
        dropout: torch.nn.Module | None = None,
        persistent_state: bool = False,
        shared_param: bool = True,
        requires_grad: bool = True,
        complex: bool = False,
        surrogate: GivenSurrogate = DEFAULT,
    ):
        super().__init__(persistent_state)
        self.p_scale = p_scale
        self.w_scale = int(w_scale)
        self.s_scale = int(s_scale)
        require(
            self.s_scale >= self.w_scale >= 1,
            f"state scale must be at least the weight scale, and that at least 1; got "
            f"s_scale={s_scale}, w_scale={w_scale}",
        )
        self._threshold = self.quantize_threshold(threshold)
        self.tau_grad = tau_grad
        self.scale_grad = scale_grad
        self.surrogate = surrogate
        self.shared_param = flag("shared_param", shared_param)
        self._learned: tuple[str, ...] = ()  # the parameters of the kernels, in their order
        self._learning: tuple[str, ...] = ()  # those of them that have a gradient
        self.requires_grad = requires_grad
        self.debug = False
        self.complex = bool(complex)
        self.drop = function("dropout", dropout, "a module")
        self._add_norms(norm)
        self._ranges: dict[str, tuple[float, float]] = {}  # to be drawn at the first call

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        ours = next(base for base in cls.__mro__ if base.__module__.startswith("lapilli."))
        cls._replaced = tuple(
            name for name in _METHODS if getattr(cls, name, None) is not getattr(ours, name, None)
        )
        cls._replaced_stage = any(name in _STAGES for name in cls._replaced)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "tau_rho":
            width(name, value)
        elif name == "scale_rho":
            finite(name, value)
        super().__setattr__(name, value)

    # methods that a class outside lapilli gave (no set: torch 2.7 cannot guard one in a graph), and
    # whether one of them is a stage of ``forward``
    _replaced: tuple[str, ...] = ()
    _replaced_stage = False

    @property
    def _replaces_stages(self) -> bool:
        """Whether a subclass or an assignment gave this neuron a ``dynamics`` or ``spike``."""
        own = self.__dict__
        return "spike" in own or "dynamics" in own or self._replaced_stage

    @property
    def is_observed(self) -> bool:
        """Whether a hook or a ``forward`` from elsewhere is to see each call as it is."""
        return (
            bool(
                self._forward_hooks
                or self._forward_pre_hooks
                or self._backward_hooks
                or self._backward_pre_hooks
            )
            or "forward" in self._replaced
            or "forward" in self.__dict__
        )

    def _add_norms(self, norm: Callable[[], torch.nn.Module] | None) -> None:
        self.norm = None
        function("norm", norm, "a callable that returns a norm, such as its class")
        names = ("real_norm", "imag_norm") if self.complex else ("norm",)
        for name in names:
            module: Any = None if norm is None else _made_by(norm)
            if hasattr(module, "pre_hook_fx"):
                module.pre_hook_fx = self.quantize_8bit
            setattr(self, name, module)

    def quantize_threshold(self, threshold: float) -> float:
        """Round a threshold down to a multiple of ``1 / w_scale``."""
        threshold = number("threshold", threshold)
        require(
            math.isfinite(threshold) and int(threshold * self.w_scale) > 0,
            f"threshold must be finite and at least 1 / scale = {1 / self.w_scale:g}, or it "
            f"quantises to 0 and the surrogate gradient is undefined; got {threshold}. Raise the "
            f"threshold or the scale.",
        )
        return int(threshold * self.w_scale) / self.w_scale

    # parameters

    # call

    def _enter(self, x: Tensor) -> Tensor:
        """Check an input ``[N, neurons..., T]``, learn its shape, draw what waits for that."""
        self._check(x)
        if self._ranges:
            self._settle(x.shape[1])
        return x

    def _leave(self, spikes: Tensor) -> Tensor:
        return spikes if self.drop is None else self.drop(spikes)

    # values

    @property
    def threshold(self) -> float:
        """Quantised threshold in real units; -1 where ``no_reset`` leaves it out.

        Setting it does as the constructor does: the value is quantised, the surrogate gradient
        keeps its width relative to the threshold, and a threshold that adapts rests at the new
        value. What spikes have added to that stays.
        """
        return -1 if getattr(self, "no_reset", False) else self._threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        before, self._threshold = self._threshold, self.quantize_threshold(threshold)
        self.tau_rho *= self._threshold / before
        self._rests_at_threshold(before)

    def _rests_at_threshold(self, before: float) -> None:
        """Move the state that rests at the threshold, which was ``before``."""
        if "threshold_state" in self._rest:
            self._rest["threshold_state"] = self._threshold
            kept = self._kept["threshold_state"]
            if kept is not None:
                self._kept["threshold_state"] = kept + (self._threshold - before)

    @property
    def tau_grad(self) -> float:
        """Width of the surrogate gradient, relative to the threshold."""
        return self.tau_rho / self._threshold

    @tau_grad.setter
    def tau_grad(self, tau_grad: float) -> None:
        self.tau_rho = width("tau_grad", tau_grad) * self._threshold

    @property
    def scale_grad(self) -> float:
        """Scale of the surrogate gradient."""
        return self.scale_rho

    @scale_grad.setter
    def scale_grad(self, scale_grad: float) -> None:
        self.scale_rho = finite("scale_grad", scale_grad)

    @property
    def surrogate(self) -> str:
        """Name of the shape of the surrogate gradient; set by a name or a function."""
        return self._surrogate_name

    @surrogate.setter
    def surrogate(self, surrogate: GivenSurrogate) -> None:
        self._surrogate_name = name_of(surrogate)

    @property
    def requires_grad(self) -> bool:
        """Whether the neuron's parameters are learned; setting it sets that of each of them."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self._requires_grad = flag("requires_grad", requires_grad)
        for name in self._learning:
            settle_update(self, name)
            if self._requires_grad:
                self._add_update(name)
        for parameter in self.parameters(recurse=False):
            parameter.requires_grad_(self._requires_grad)

    @property
    def scale(self) -> int:
        """Number of integer units in a weight of 1."""
        return self.w_scale

    @property
    def v_th_mant(self) -> int:
        """Threshold in weight units, as the chip holds it."""
        return round(self.threshold * self.w_scale)

    @property
    def weight_exponent(self) -> int:
        """Exponent of the weights beyond the state's own."""
        return int(math.log2(self.s_scale // self.w_scale) - STATE_BITS)

    def quantize_8bit(self, weight: Tensor, descale: bool = False) -> Tensor:
        """Quantise weights to even integers in [-256, 254] over ``w_scale``.

        Parameters
        ----------
        weight
            Any shape, real units.
        descale
            Return the integers.
        """
        return quantize_8bit(weight, self.w_scale, descale)

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        shape = None if self.shape is None else tuple(self.shape)
        return (
            f"threshold={self.threshold:g}, scale={self.w_scale}, shape={shape}, "
            f"shared_param={self.shared_param}, persistent_state={self.persistent_state}"
        )
