"""What RF, RF-Izhikevich, ADRF and ADRF-Izhikevich neurons share: a complex state that turns.

Equations: kernels/recurrences/resonator_steps.py.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lapilli.kernels.executors.layout import wrong_type
from lapilli.kernels.numbers.formula import GivenSurrogate
from lapilli.kernels.numbers.surrogate import DEFAULT
from torch import Tensor

from .errors import ArgumentError, InputTypeError, flag
from .fixed_point import FixedPointNeuron, chip_value
from .learning import Range
from .limits import confined_together, decay_parameter, own_parameter, require_finite, value_of
from .state import state_value

__all__ = ["Pair", "ResonatorNeuron", "neuron_params"]

Pair = tuple[Tensor, Tensor]  # real and imaginary part

_ROTATION = ("sin_decay", "cos_decay")


class ResonatorNeuron(FixedPointNeuron):
    """Base of the resonate-and-fire neurons, and the constructor of those with a fixed threshold.

    Input is a pair (real, imaginary) of ``[N, neurons..., T]`` float32 tensors of equal shape, with
    at least three dimensions, in any memory layout; half precision and integers are converted. The
    first neuron dimension is the channel. Spikes have the shape of each part.

    Parameters
    ----------
    threshold
        What the part of the state that is tested must reach to spike; at least ``1 / scale``.
    period
        Steps of one turn of the state, at least 4; with ``shared_param=False`` also a pair (min,
        max) over which the channels spread. A single number is then widened by 1 %.
    decay
        Share of its length that the state loses a step, in [0, 1]; with ``shared_param=False`` also
        a pair (min, max) from which each channel draws. A single number is then widened by 1 %.
    tau_grad, scale_grad
        Width, above 0, relative to the threshold, and height of the surrogate gradient, which
        stands in for the derivative of a spike while training; see ``surrogate`` of
        ``lapilli.neurons.base.Neuron`` for the formula. docs/gradients.md has good values.
    scale
        The chip computes in integers: a weight of 1 is this many of its units, a voltage of 1 is
        64 times as many. Results equal lava-dl's bit for bit if ``scale`` is a power of two and no
        state passes 2**24 of its units, which is 4096 at the default.
    norm
        Class or function that makes a norm, one for each part of the input, or None.
    dropout
        Module applied to the spikes. With None there is no dropout.
    shared_param
        Whether all neurons share one period and decay, or each channel has its own; see
        ``lapilli.neurons.base.Neuron``.
    persistent_state
        Keep the state from one call to the next (detached), from one batch of training to the next
        too: call ``lapilli.reset_state(net)`` between samples. A change of batch size returns to
        rest, and so does ``reset_state()``.
    requires_grad
        Learn period and decay, as sine and cosine of the turn that the state makes in a step.
    graded_spike
        Spikes carry the part of the state that is tested instead of 1.
    log_init
        Spread the frequencies of the channels evenly in the logarithm, the longest period first,
        instead of at random.
    surrogate
        Shape of the surrogate gradient; see ``lapilli.neurons.base.Neuron``.
    overflow
        What becomes of a state that does not fit: ``"saturate"`` at 32 bits, or ``"loihi"``, 24
        bits by the chip's rule; see ``lapilli.neurons.base.FixedPointNeuron``. Keyword only.

    Attributes
    ----------
    sin_decay, cos_decay : Parameter
        Sine and cosine of one step's turn times what the state keeps of its length, in units of
        1/4096; ``[1]`` or ``[channels]``.
    real_state, imag_state : Tensor
        State after the last call where it persists; not in the state dict.
    no_reset : bool
        Leave spike and reset out of ``dynamics``.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For arguments out of range, inputs of a wrong shape.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.rf_iz.Neuron(threshold=1, period=10, decay=0.1)
    >>> neuron.period.round().tolist()  # steps of a turn
    [10.0]
    >>> wave = torch.rand(4, 3, 20)
    >>> neuron((wave, torch.zeros_like(wave))).shape  # a real and an imaginary part
    torch.Size([4, 3, 20])
    """

    device_type: str  # of the neuron on the chip
    _thresholds: tuple[str, ...] = ("_threshold",)  # attributes that the kernel wants
    _run: Callable[..., Any]  # kernel: spikes and, if asked for, the last state
    _run_dynamics: Callable[..., tuple[Tensor, ...]]  # kernel: the states before each reset

    sin_decay: torch.nn.Parameter = decay_parameter()
    cos_decay: torch.nn.Parameter = decay_parameter()
    real_state: Tensor = state_value(
        "real_state", "Real part of the state that the last call left."
    )
    imag_state: Tensor = state_value(
        "imag_state", "Imaginary part of the state that the last call left."
    )
    cx_sin_decay = chip_value("sin_decay")
    cx_cos_decay = chip_value("cos_decay")

    def __init__(
        self,
        threshold: float,
        period: Range,
        decay: Range,
        tau_grad: float = 1,
        scale_grad: float = 1,
        scale: int = 1 << 6,
        norm: Callable[[], torch.nn.Module] | None = None,
        dropout: torch.nn.Module | None = None,
        shared_param: bool = True,
        persistent_state: bool = False,
        requires_grad: bool = False,
        graded_spike: bool = False,
        log_init: bool = True,
        surrogate: GivenSurrogate = DEFAULT,
        *,
        overflow: str = "saturate",
    ):
        super().__init__(
            threshold, tau_grad, scale_grad, scale, norm, dropout, shared_param, persistent_state,
            requires_grad, graded_spike, complex=True, surrogate=surrogate, overflow=overflow,
        )  # fmt: skip
        self.no_reset = False
        self.log_init = flag("log_init", log_init)
        self._links: tuple[Tensor, ...] | None = None  # see stepping() of state.py
        self._before: dict[str, Tensor] = {}  # imag_state as dynamics() found it, for spike()
        self._add_rotation(period, decay)
        self._add_states(real_state=0, imag_state=0)
        self.clamp()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "norm" and value is not None:
            raise AttributeError(
                "norm of a resonator cannot be set: its input has two parts; set real_norm and "
                "imag_norm"
            )
        super().__setattr__(name, value)

    # parameters

    def _add_rotation(self, period: Range, decay: Range) -> None:
        turn = 2 * math.pi / self._range("period", period, (4, math.inf), 0.01)[0]
        kept = 1 - self._range("decay", decay, (0, 1), 0.01)[0]
        self._add_parameter("sin_decay", kept * math.sin(turn))
        self._add_parameter("cos_decay", kept * math.cos(turn))

    def _sized(self, name: str) -> None:
        for of_range in ("period", "decay") if name in _ROTATION else (name,):
            super()._sized(of_range)

    def _draw_rotation(self, channels: int) -> Pair:
        low, high = self._ranges["period"]
        if self.log_init:
            frequency = torch.logspace(
                -math.log10(high), -math.log10(low), channels, dtype=torch.float32, device="cpu"
            )
        else:
            spread = torch.rand(channels, dtype=torch.float32, device="cpu")
            frequency = 1 / high + (1 / low - 1 / high) * spread
        kept = self.p_scale * (1 - self._uniform("decay", channels))
        # in float64: sine and cosine in float32 differ from processor to processor
        turn = (2 * math.pi * frequency).double()
        return kept * torch.sin(turn).float(), kept * torch.cos(turn).float()

    def _draws(self) -> list[Any]:
        draws = [draw for draw in super()._draws() if draw[0][0] not in ("period", "decay")]
        if "period" in self._ranges:
            draws.insert(0, (_ROTATION, self._draw_rotation))
        return draws

    def _decays(self) -> tuple[str, ...]:
        return tuple([name for name in self._learned if name not in _ROTATION])

    def _within(self, sin: Tensor, cos: Tensor) -> Pair:
        """Return sine and cosine within their range: shorter than 1, at most a quarter turn.

        In float64 and rounded once, so that every processor gives the same.
        """
        sin, cos = sin.double(), cos.double()
        with torch.no_grad():  # of what is within, the gradient passes
            length = torch.sqrt(sin * sin + cos * cos)
            shrink = torch.where(length > self.p_scale - 1, (self.p_scale - 1) / length, 1.0)
        return (sin * shrink).float().clamp(min=1), (cos * shrink).float().clamp(min=0)

    def _rotation(self) -> Pair:
        """Return what ``clamp`` would make of sine and cosine; neither is touched."""
        return self._within(*(getattr(self, name).detach() for name in _ROTATION))

    def clamp(self) -> None:  # noqa: D102 (the base says it)
        super().clamp()
        if all(own_parameter(self, name) is not None for name in _ROTATION):
            confined_together(self, _ROTATION, self._within)

    def _parameters_used(self) -> tuple[Tensor, ...]:
        rotation = tuple([value_of(self, name) for name in _ROTATION])
        if self.requires_grad or any(part.requires_grad for part in rotation):
            rotation = confined_together(self, _ROTATION, self._within)
        else:
            for name, part in zip(_ROTATION, rotation, strict=True):
                require_finite(self, name, part)
        return *rotation, *(self._used(name) for name in self._decays())

    def _clamped(self, name: str) -> Tensor:
        if name in _ROTATION:
            return self._rotation()[_ROTATION.index(name)]
        return super()._clamped(name)

    # values

    def _fractions(self) -> tuple[np.ndarray, np.ndarray]:
        sin, cos = (p.round().cpu().numpy() / np.float32(self.p_scale) for p in self._rotation())
        return sin, cos

    @property
    def decay(self) -> np.ndarray:
        """Share of its length that the state loses a step, as on the chip; one a parameter."""
        sin, cos = self._fractions()
        return 1 - np.sqrt(sin * sin + cos * cos)

    @property
    def frequency(self) -> np.ndarray:
        """Turns of the state a step, as on the chip; one value a parameter."""
        return np.arctan2(*self._fractions()) / np.float32(2 * math.pi)

    @property
    def period(self) -> np.ndarray:
        """Steps of one turn, as on the chip; one value a parameter."""
        return 1 / self.frequency

    @property
    def lam(self) -> np.ndarray:
        """Decay rate of the state's length, per step, as on the chip; one value a parameter."""
        return -np.log(1 - self.decay)

    @property
    def device_params(self) -> dict[str, Any]:
        """Parameters as the chip holds them."""
        return {
            "type": self.device_type,
            "sinDecay": self.cx_sin_decay,
            "cosDecay": self.cx_cos_decay,
            "vThMant": self.v_th_mant,
            "gradedSpike": self.graded_spike,
        }

    # call

    def _arguments(self, input: Pair) -> tuple[tuple[Any, ...], tuple[Tensor, ...] | None]:
        """Return the kernel's arguments for this call and the state before it."""
        if not isinstance(input, (tuple, list)) or len(input) != 2:
            raise ArgumentError(
                f"input of a resonator must be a pair (real, imag) of tensors; got "
                f"{type(input).__name__}. For a complex tensor use (x.real, x.imag)."
            )
        real, imag = input
        for part in input:
            wrong = wrong_type(part)
            if wrong is not None:
                raise InputTypeError(f"neuron input {wrong}")
        if real.shape != imag.shape:
            raise ArgumentError(
                f"real and imaginary input must have the same shape; got {tuple(real.shape)} and "
                f"{tuple(imag.shape)}"
            )
        self._enter(real)
        self._check(imag)
        if self.real_norm is not None:
            real = self.real_norm(real.to(torch.float32))
        if self.imag_norm is not None:
            imag = self.imag_norm(imag.to(torch.float32))
        decays = self._parameters_used()
        thresholds = (getattr(self, name) for name in self._thresholds)
        state = self._state(real.shape[0])
        if self._links is not None:
            sin, cos, *_ = decays
            real, imag = self._linked((real, imag), sin, cos, state)
        return ((real, imag), *decays, *thresholds, self.s_scale), state

    def _linked(self, x: Pair, sin: Tensor, cos: Tensor, state: tuple[Tensor, ...] | None) -> Pair:
        """Add to the input of a step what the state before it hands on: 0, with its gradient.

        Kernels take no gradient to the state that they start from, but an input adds to the state
        like what is left of it. ``_links`` are those of the step before, then of this one.
        """
        real, imag = (part.to(torch.float32) for part in x)
        if self._links and state is not None:
            a, b = (y.unsqueeze(-1) + link for y, link in zip(state, self._links, strict=False))
            sin, cos = (  # rounded, with the gradient per unit of k / 4096, as kernels do
                ((k.round() / self.p_scale).detach() + (k - k.detach())).view(
                    1, -1, *(1,) * (real.ndim - 2)
                )
                for k in (sin, cos)
            )
            turned = cos * a - sin * b, sin * a + cos * b
            real, imag = (
                part + (y - y.detach()) for part, y in zip((real, imag), turned, strict=True)
            )
        self._links = real - real.detach(), imag - imag.detach()
        return real, imag

    def dynamics(self, input: Pair) -> tuple[Tensor, ...]:
        """Return the states before each reset, in the order of the buffers.

        Real and imaginary part, which are differentiable, and of a neuron whose threshold adapts
        threshold and refractory before each spike. All have the shape of each part of ``input``.
        """
        arguments, state = self._arguments(input)
        if self.persistent_state:
            self._before["imag_state"] = self.imag_state
        states = self._counted(self._run_dynamics(*arguments, state=state, **self._care()))
        self._keep_last(**dict(zip(self._rest, states, strict=True)))
        return states

    def reset_state(self) -> None:  # noqa: D102 (the base says it)
        super().reset_state()
        self._before.clear()

    def _imag_last(self) -> Tensor:
        """Imaginary part before the series that ``spike()`` was given."""
        before = self._before.pop("imag_state", None)
        return self.imag_state if before is None else before

    def forward(self, input: Pair, delay_shift: bool = False) -> Tensor:
        """Run the neuron over time.

        Parameters
        ----------
        input
            Weighted input, a pair (real, imaginary) of ``[N, neurons..., T]``, real units.
        delay_shift
            Delay the spikes by one step in the same pass; the last one is dropped.

        Returns
        -------
        Tensor
            Spikes, of the shape of each part of ``input``.
        """
        if self._replaces_stages:
            return self._in_two_stages(input, delay_shift)
        arguments, state = self._arguments(input)
        if self._before:
            self._before.clear()
        keeps = self._keeps(input[0])
        found = self._run(
            *arguments, state=state, shift=delay_shift, return_state=keeps, **self._options(),
            **self._care(),
        )  # fmt: skip
        spikes = self._counted(found)
        if keeps:
            spikes, states = spikes
            self._keep_state(**dict(zip(self._rest, states, strict=True)))
        return self._leave(spikes)


def neuron_params(
    device_params: dict[str, Any], scale: int = 1 << 6, p_scale: int = 1 << 12
) -> dict[str, Any]:
    """Turn ``device_params`` back into constructor arguments.

    Examples
    --------
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.rf.Neuron(1.25, period=10, decay=0.1)
    >>> slayer.neuron.rf.neuron_params(neuron.device_params)["threshold"]
    1.25
    """
    sin, cos = (np.asarray(device_params[name]) / p_scale for name in ("sinDecay", "cosDecay"))
    return {
        "threshold": device_params["vThMant"] / scale,
        "period": 2 * np.pi / np.arctan2(sin, cos),
        "decay": 1 - np.sqrt(sin**2 + cos**2),
    }
