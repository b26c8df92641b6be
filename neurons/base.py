"""What every neuron module has: scales, threshold, decays, state, norm, dropout.

A neuron's own file adds its parameters, its dynamics and its device values.

Source: lava-dl neuron/base.py.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lapilli.kernels.executors.operators import is_transformed
from lapilli.kernels.numbers.fixed_point import DECAY_SCALE, OVERFLOWS, STATE_BITS, STATE_SCALE
from lapilli.kernels.numbers.formula import GivenSurrogate, name_of
from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.recurrences.adaptive_threshold import NO_CHIP_RULE
from lapilli.kernels.recurrences.delay import step_delay
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.synapses.quantize import quantize_8bit
from torch import Tensor
from torch.nn.parameter import is_lazy

from .errors import ArgumentTypeError, finite, flag, function, number, require, width
from .lazy import (
    fill,
    is_to_be_drawn,
    resize,
    size_provisionally,
    unmark,
)
from .limits import UPDATE, confined, own_parameter, require_finite, settle_update
from .state import Stateful, refuse_graph

Range = float | tuple[float, float]

_STAGES = ("dynamics", "spike")
_METHODS = ("forward", *_STAGES)  # what a subclass may replace
_ANEW = "make another neuron, with the argument"
_SCALE = f"{_ANEW} scale"


class Neuron(Stateful):
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
        Class or function without arguments that makes a norm module; None: no norm.
    dropout
        Module applied to the spikes; None: no dropout.
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
    """

    norm: torch.nn.Module | None
    real_norm: torch.nn.Module | None  # of complex neurons, in place of ``norm``
    imag_norm: torch.nn.Module | None
    _fixed = {  # noqa: RUF012 (a table)
        "p_scale": _SCALE,
        "w_scale": _SCALE,
        "s_scale": _SCALE,
        "shared_param": f"{_ANEW} shared_param",
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
        cls._replaced = frozenset(
            name for name in _METHODS if getattr(cls, name, None) is not getattr(ours, name, None)
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "tau_rho":
            width(name, value)
        elif name == "scale_rho":
            finite(name, value)
        super().__setattr__(name, value)

    _replaced: frozenset[str] = frozenset()  # methods that a class outside lapilli gave

    @property
    def _replaces_stages(self) -> bool:
        """Whether a subclass or an assignment gave this neuron a ``dynamics`` or ``spike``."""
        own = self.__dict__
        return "spike" in own or "dynamics" in own or not self._replaced.isdisjoint(_STAGES)

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
            module = None if norm is None else norm()
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

    def _add_decay(self, name: str, value: Range, jitter: float = 0.0, learns: bool = True) -> None:
        """Register a decay parameter, in units of ``1 / p_scale``.

        ``value`` is a number in [0, 1] or, without ``shared_param``, a pair (min, max); a number
        is then widened by the relative ``jitter``. ``learns`` says that it has a gradient.
        """
        self._add_parameter(name, self._range(name, value, (0, 1), jitter)[0], learns)

    def _range(
        self, name: str, value: Range, limits: tuple[float, float], jitter: float
    ) -> tuple[float, float]:
        """Check a constructor argument and return the range of its values, to be drawn later."""
        label = name.replace("_", " ")
        expected = f"expected {label} to be a scalar or a pair (min, max)"
        if isinstance(value, (np.ndarray, Tensor)):
            value = value.tolist()
        if self.shared_param:
            require(
                np.isscalar(value),
                f"expected {label} to be a scalar when shared_param is True; got {name}={value}. "
                f"A range needs shared_param=False.",
            )
            low = high = number(name, value)
        elif np.isscalar(value):
            number(name, value)
            low, high = (1 - jitter) * value, (1 + jitter) * value
        else:
            if not isinstance(value, (tuple, list)):
                raise ArgumentTypeError(f"{expected}; got {name}={value!r}")
            require(len(value) == 2, f"{expected}; got {name}={value}")
            low, high = (number(name, v) for v in value)
        require(
            all(limits[0] <= v <= limits[1] for v in np.ravel(value)),
            f"{label} must be in [{limits[0]:g}, {limits[1]:g}]; got {name}={value}",
        )
        if not self.shared_param:
            self._ranges[name] = (low, high)
            setattr(self, f"{name}_min", low)
            setattr(self, f"{name}_max", high)
        return low, high

    def _add_parameter(self, name: str, value: float, learns: bool = True) -> None:
        """Register a parameter; ``value`` is the shared one, without ``p_scale``."""
        if self.shared_param:
            values = torch.tensor([self.p_scale * value], dtype=torch.float32)
            parameter = torch.nn.Parameter(values, requires_grad=self.requires_grad)
            self.register_parameter(name, parameter)
        else:
            self._register_unsized(name, self.requires_grad)
            self.lazy_sizes = (*self.lazy_sizes, name)
        self._learned = (*self._learned, name)
        if learns:
            self._learning = (*self._learning, name)
            if self.requires_grad:
                self._add_update(name)

    def _add_update(self, name: str) -> None:
        """Register what is learned of a decay, see limits.py."""
        parameter = self._parameters.get(name)
        if parameter is None or name + UPDATE in self._parameters:
            return
        if is_lazy(parameter):
            self._register_unsized(name + UPDATE, True)
        else:
            update = torch.nn.Parameter(torch.zeros_like(parameter.detach()))
            self.register_parameter(name + UPDATE, update)

    def _size_updates(self) -> None:
        """Give what is learned of each decay the size of the decay."""
        for name in self._learning:
            parameter, update = (self._parameters.get(n) for n in (name, name + UPDATE))
            if parameter is None or update is None or is_lazy(parameter):
                continue
            if is_lazy(update) or update.shape != parameter.shape:
                zeros = torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
                if is_lazy(update):
                    fill(self, name + UPDATE, zeros)
                else:
                    resize(update, zeros)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for name in self._learning:
            settle_update(self, name)
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self._learning:
            destination.pop(prefix + name + UPDATE, None)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        assigning = local_metadata.get("assign_to_params_buffers", False)
        for name in self._learning:
            update, saved = self._parameters.get(name + UPDATE), state_dict.get(prefix + name)
            if update is None:
                continue
            settle_update(self, name)
            like = saved if assigning and saved is not None else update
            update = update if is_lazy(like) else torch.zeros_like(like.data)
            state_dict[prefix + name + UPDATE] = update
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)
        self._size_updates()

    def _sized(self, name: str) -> None:
        if self._ranges.pop(name, None) is not None:
            delattr(self, f"{name}_min")
            delattr(self, f"{name}_max")

    def _uniform(self, name: str, channels: int) -> Tensor:
        """Draw one value a channel from the range of a parameter, on torch's CPU generator."""
        low, high = self._ranges[name]
        return low + (high - low) * torch.rand(channels, dtype=torch.float32, device="cpu")

    def _draws(self) -> list[tuple[tuple[str, ...], Callable[[int], tuple[Tensor, ...]]]]:
        """Return what is to be drawn, in order: names of parameters, and what draws them."""

        def of(name: str) -> Callable[[int], tuple[Tensor, ...]]:
            return lambda channels: (self.p_scale * self._uniform(name, channels),)

        return [((name,), of(name)) for name in self._ranges]

    def _size(self, channels: int, dimensions: int) -> None:
        """Give every parameter that has no size one value a channel, until the first call.

        ``dimensions`` are the neuron dimensions of a sample.
        """
        for names, draw in self._draws():
            for name, values in zip(names, draw(channels), strict=True):
                size_provisionally(self, name, values)
        self._size_updates()
        self.clamp()
        for name in ("norm", "real_norm", "imag_norm"):
            norm = getattr(self, name, None)
            if hasattr(norm, "_size"):
                norm._size(channels)

    def _settle(self, channels: int) -> None:
        """Draw what waits for the first call, in order of registration; see lazy.py."""
        if torch.compiler.is_compiling():
            self._require_sizes()
            if not torch.compiler.is_exporting():
                self._ranges.clear()
            return
        for names, draw in self._draws():
            own = [self._parameters.get(name) for name in names]
            if any(p is not None and not isinstance(p, torch.nn.Parameter) for p in own):
                continue  # those of torch.func.functional_call
            if all(p is not None and is_to_be_drawn(p) for p in own):
                for name, values in zip(names, draw(channels), strict=True):
                    fill(self, name, values)
            for parameter in (self._parameters.get(name) for name in names):
                if parameter is None:  # computed from another
                    continue
                if parameter.numel() == 1 != channels:  # from a checkpoint
                    resize(parameter, parameter.detach().expand(channels))
                unmark(parameter)
            self._sized(names[0])
        self._size_updates()
        self.clamp()

    def _decays(self) -> tuple[str, ...]:
        """Names of the decay parameters that stay within [0, p_scale] each by itself."""
        return self._learned

    def clamp(self) -> None:
        """Move the parameters back into their range, in place.

        Raises
        ------
        ValueError
            For a parameter that is not finite; on the CPU only, where looking costs nothing.
        """
        for name in self._decays():
            if own_parameter(self, name) is not None:
                confined(self, name, 0, self.p_scale)

    def _used(self, name: str) -> Tensor:
        """Return a decay as forward uses it: see limits.py. Frozen ones stay as they are."""
        value = self._parameters.get(name)
        if value is None:
            value = getattr(self, name)
        if self.requires_grad or value.requires_grad:
            return confined(self, name, 0, self.p_scale)
        require_finite(self, name, value)
        return value

    def _parameters_used(self) -> tuple[Tensor, ...]:
        """Return what forward uses of the parameters, in the order of the kernels."""
        return tuple([self._used(name) for name in self._learned])

    def _clamped(self, name: str) -> Tensor:
        """Return what ``clamp`` would make of a decay; the parameter is not touched."""
        return getattr(self, name).detach().clamp(0, self.p_scale)

    def _quantized(self, name: str) -> np.int64 | np.ndarray:
        """Value of a decay as the chip holds it; the parameter is not touched."""
        value = self._clamped(name).round().cpu().numpy().astype(np.int64)
        return value.reshape(-1)[0] if value.size == 1 else value

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
        """Integer units in 1 of weights."""
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


def fixed_point_scales(scale: int) -> dict[str, int]:
    """Return the three scales of a neuron with fixed-point dynamics."""
    finite("scale", scale)
    return {"p_scale": DECAY_SCALE, "w_scale": int(scale), "s_scale": int(scale * STATE_SCALE)}


class FixedPointNeuron(Neuron):
    """Base of the neurons whose states are integers; its arguments end their constructors.

    Parameters
    ----------
    scale
        Integer units in 1 of weights; states have 64 times as many.
    graded_spike
        Spikes carry the state that spikes instead of 1.
    threshold, tau_grad, scale_grad, norm, dropout, shared_param, persistent_state, requires_grad, \
    complex, surrogate
        See ``Neuron``.
    overflow
        What becomes of a state that does not fit. ``"saturate"``: it has 32 bits and stays at the
        limit. ``"loihi"``: it has 24 bits, as on the chip, and follows the rule by which Lava
        simulates it: a current wraps around, the other states stay at the limit. The equations are
        in ``lapilli/kernels/numbers/fixed_point.py``. Keyword only.

    Attributes
    ----------
    count_overflows : bool
        Whether calls count the states that did not fit; False at first, and costs nothing then.
    overflows : int or None
        Steps of a neuron at which an input or a state did not fit, summed over neurons, samples and
        calls since the last ``reset_state()``; None if nothing was counted. Reading it waits for
        the device. What is not a number does not count. With a norm between them, current and
        voltage count apart.
    """

    _overflow = "saturate"
    _counts_overflows = False
    _lost: Tensor | None = None  # the count so far, on the device
    _has_chip_rule = True  # whether lava's netx simulates such neurons
    phase = False  # whether it is a resonator that spikes by its phase
    _options: Callable[[], dict[str, Any]]  # of the surrogate gradient

    def __init__(
        self,
        threshold: float,
        tau_grad: float,
        scale_grad: float,
        scale: int,
        norm: Callable[[], torch.nn.Module] | None,
        dropout: torch.nn.Module | None,
        shared_param: bool,
        persistent_state: bool,
        requires_grad: bool,
        graded_spike: bool,
        complex: bool = False,
        surrogate: GivenSurrogate = DEFAULT,
        *,
        overflow: str = "saturate",
    ):
        super().__init__(
            threshold=threshold,
            tau_grad=tau_grad,
            scale_grad=scale_grad,
            norm=norm,
            dropout=dropout,
            persistent_state=persistent_state,
            shared_param=shared_param,
            requires_grad=requires_grad,
            complex=complex,
            surrogate=surrogate,
            **fixed_point_scales(scale),
        )
        self.graded_spike = flag("graded_spike", graded_spike)
        self.overflow = overflow

    @property
    def overflow(self) -> str:
        """What becomes of a state that does not fit, ``"saturate"`` or ``"loihi"``."""
        return self._overflow

    @overflow.setter
    def overflow(self, overflow: str) -> None:
        known = isinstance(overflow, str) and overflow in OVERFLOWS
        require(
            known, f"overflow must be one of {', '.join(map(repr, OVERFLOWS))}; got {overflow!r}"
        )
        require(overflow != "loihi" or self._has_chip_rule, NO_CHIP_RULE)
        self._overflow = overflow

    @property
    def count_overflows(self) -> bool:
        """Whether calls count the states that did not fit, see ``overflows``."""
        return self._counts_overflows

    @count_overflows.setter
    def count_overflows(self, count_overflows: bool) -> None:
        self._counts_overflows = flag("count_overflows", count_overflows)

    @property
    def overflows(self) -> int | None:
        """Steps of neurons that did not fit since the last ``reset_state()``; see the class."""
        if self._lost is None:
            return 0 if self._counts_overflows else None
        return int(self._lost)

    def reset_state(self) -> None:  # noqa: D102 (the base says it)
        super().reset_state()
        self._lost = None

    def _care(self) -> dict[str, Any]:
        """Return what the kernels want to know of what does not fit."""
        care: dict[str, Any] = {"count": self._counts_overflows}
        return care | {"overflow": self._overflow} if self._has_chip_rule else care

    def _counted(self, found: Any) -> Any:
        """Add what a kernel counted last to ``overflows``, if it did, and return the rest."""
        if not self._counts_overflows:
            return found
        *others, lost = found
        self._add_overflows(lost.sum())
        return others[0] if len(others) == 1 else tuple(others)

    def _add_overflows(self, lost: Tensor) -> None:
        if torch.compiler.is_exporting() or (
            not torch.compiler.is_compiling() and is_transformed()
        ):
            raise RuntimeError(
                "overflows cannot be counted under torch.export or a transform of torch.func: set "
                "count_overflows = False for this call"
            )
        refuse_graph(lost, "overflows are counted; set count_overflows = False for a graphed step")
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            return  # activation checkpointing computes again what has been counted
        self._lost = lost if self._lost is None else self._lost.to(lost.device) + lost

    def _surrogate(self, tau_mult: float, scale_mult: float) -> dict[str, Any]:
        """Return what the kernels want to know of the surrogate gradient."""
        return {
            "tau_rho": self.tau_rho * tau_mult,
            "scale_rho": self.scale_rho * scale_mult,
            "surrogate": self._surrogate_name,
            "graded": self.graded_spike,
        }

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        usual = self._overflow == FixedPointNeuron._overflow
        return super().extra_repr() + ("" if usual else f", overflow={self._overflow}")

    def _in_two_stages(self, input: Any, delay_shift: bool) -> Tensor:
        """Do as ``forward``, by ``dynamics`` and ``spike``, which a subclass may have replaced."""
        spikes = self.spike(*self._tested(self.dynamics(input)))
        return step_delay(spikes) if delay_shift else spikes

    def _tested(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return those of the states of ``dynamics`` that ``spike`` takes."""
        return states

    def run_with_feedback(
        self, z: Any, feedback: Any, *, spikes: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Run the neuron over time with its spikes coming back; without norm and dropout.

        Parameters
        ----------
        z
            Weighted input, as ``forward`` takes it.
        feedback
            Weight ``[neurons, neurons]``; of resonators a pair, None for no feedback.
        spikes
            Spikes ``[N, neurons...]`` before the first step; ignored where the neurons are at rest.
        options
            ``bias``, ``quantum``, ``shift`` and ``gradient`` of
            ``lapilli.kernels.recurrences.recurrent.recurrent``.

        Returns
        -------
        tuple of Tensor
            Spikes over time, and those of the last step.
        """
        first, *others = z if self.complex else (z,)
        self._enter(first)
        for other in others:
            self._check(other)
        state = self._state(first.shape[0])
        found = recurrent(
            z, feedback,
            self._parameters_used(), self._threshold, self.s_scale, phase=self.phase,
            threshold_step=getattr(self, "threshold_step", 0.0), state=state,
            spikes=None if self.began_at_rest else spikes, return_state=True,
            overflow=self._overflow, count=self._counts_overflows, **options, **self._options(),
        )  # fmt: skip
        out, states, last = self._counted(found)
        if self._keeps(first):
            self._keep_state(**dict(zip(self._rest, states, strict=True)))
        return out, last


def chip_value(name: str) -> property:
    """Make the property ``cx_<name>`` of a decay: its value as the chip holds it."""

    def get(self: Neuron) -> np.int64 | np.ndarray:
        return self._quantized(name)

    get.__doc__ = f"{name.replace('_', ' ').capitalize()} as the chip holds it, 0..4096."
    return property(get)
