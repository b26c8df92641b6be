"""CUBA: current-based leaky integrate-and-fire neuron. Equations: kernels/recurrences/cuba.py.

Source: lava-dl neuron/cuba.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.numbers.formula import GivenSurrogate
from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.numbers.threshold import EPSILON
from lapilli.kernels.recurrences import cuba as kernel
from lapilli.kernels.recurrences.leaky import leaky, leaky_spike
from lapilli.kernels.recurrences.spike import spike
from torch import Tensor

from .base import FixedPointNeuron, Range, chip_value
from .dynamics.leaky_integrator import persistent_state
from .limits import decay_parameter
from .settings import Settings
from .state import state_value

__all__ = ["SCALE_RHO_MULT", "TAU_RHO_MULT", "Neuron", "neuron_params"]

SCALE_RHO_MULT = 0.1
TAU_RHO_MULT: float = 100


class Neuron(FixedPointNeuron):
    """Current-based leaky integrate-and-fire neuron in Loihi's fixed point.

    Input and output are ``[N, neurons..., T]`` float32 with at least three dimensions, in any
    memory layout; half precision and integers are converted. The first neuron dimension is the
    channel.

    Parameters
    ----------
    threshold
        Voltage that must be exceeded to spike; at least ``1 / scale``.
    current_decay, voltage_decay
        Share that is lost in each step, in [0, 1]. With ``shared_param=False`` it may also be a
        pair (min, max), from which each channel draws its own. A single number is then widened by
        1 %.
    tau_grad, scale_grad
        Width, above 0, and height of the surrogate gradient, which stands in for the derivative of
        a spike while training. By default it is ``0.1 * scale_grad / (2 * w) * exp(-d / w)``, where
        d is how far the voltage is from the threshold, and ``w = 100 * tau_grad * threshold``: the
        width follows the threshold. Values of 0.03 and 3 are a start; docs/gradients.md says more.
    scale
        The chip computes in integers: a weight of 1 is this many of its units, a voltage of 1 is
        64 times as many. Results equal lava-dl's bit for bit if ``scale`` is a power of two and no
        state passes 2**24 of its units, which is 4096 at the default.
    norm
        Class or function that makes a norm, which is applied to the current, or None.
    dropout
        Module applied to the spikes. With None there is no dropout.
    shared_param
        Whether all neurons share one decay, or each channel has its own; see
        ``lapilli.neurons.base.Neuron``.
    persistent_state
        Keep current and voltage from one call to the next (detached), from one batch of training to
        the next too: call ``lapilli.reset_state(net)`` between samples. A change of batch size
        returns to rest, and so does ``reset_state()``.
    requires_grad
        Learn the decays. Their gradients are those of the loss, as for every parameter of torch, so
        that an optimizer lowers it. Those of lava-dl have the opposite sign; see
        ``lapilli.set_decay_gradient``.
    graded_spike
        Spikes carry the voltage instead of 1.
    surrogate
        Shape of the surrogate gradient; see ``lapilli.neurons.base.Neuron``.
    overflow
        What becomes of a state that does not fit: ``"saturate"`` at 32 bits, or ``"loihi"``, 24
        bits by the chip's rule; see ``lapilli.neurons.base.FixedPointNeuron``. Keyword only.

    Attributes
    ----------
    current_decay, voltage_decay : Parameter
        ``[1]`` or ``[channels]``, in units of 1/4096.
    current_state, voltage_state : Tensor
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
    >>> neuron = slayer.neuron.cuba.Neuron(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> spikes = neuron(torch.rand(4, 3, 10))  # of weighted inputs, [batch, neurons, time]
    >>> spikes.shape
    torch.Size([4, 3, 10])
    """

    current_decay: torch.nn.Parameter = decay_parameter()
    voltage_decay: torch.nn.Parameter = decay_parameter()
    current_state: Tensor = state_value("current_state", "Current that the last call left.")
    voltage_state: Tensor = state_value("voltage_state", "Voltage that the last call left.")
    cx_current_decay = chip_value("current_decay")
    cx_voltage_decay = chip_value("voltage_decay")
    ref_delay = 1  # steps

    def __init__(
        self,
        threshold: float,
        current_decay: Range,
        voltage_decay: Range,
        tau_grad: float = 1,
        scale_grad: float = 1,
        scale: int = 1 << 6,
        norm: Callable[[], torch.nn.Module] | None = None,
        dropout: torch.nn.Module | None = None,
        shared_param: bool = True,
        persistent_state: bool = False,
        requires_grad: bool = False,
        graded_spike: bool = False,
        surrogate: GivenSurrogate = DEFAULT,
        *,
        overflow: str = "saturate",
    ):
        super().__init__(
            threshold, tau_grad, scale_grad, scale, norm, dropout, shared_param, persistent_state,
            requires_grad, graded_spike, surrogate=surrogate, overflow=overflow,
        )  # fmt: skip
        self.threshold_eps = EPSILON / self.s_scale
        self.no_reset = False
        self._add_decay("current_decay", current_decay, jitter=0.01)
        self._add_decay("voltage_decay", voltage_decay, jitter=0.01)
        self._add_states(current_state=0, voltage_state=0)
        self.clamp()

    def _options(self) -> dict[str, Any]:
        return self._surrogate(TAU_RHO_MULT, SCALE_RHO_MULT)

    @property
    def device_params(self) -> dict[str, Any]:
        """Parameters as the chip holds them."""
        return {
            "type": "CUBA",
            "iDecay": self.cx_current_decay,
            "vDecay": self.cx_voltage_decay,
            "vThMant": self.v_th_mant,
            "refDelay": self.ref_delay,
            "gradedSpike": self.graded_spike,
        }

    def _tested(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return states[1:]

    def _current(self, x: Tensor, current_decay: Tensor, state: Any) -> tuple[Tensor, Tensor]:
        """Return the current after the norm, and before it."""
        found = leaky(
            x, current_decay, self.s_scale, state=state and state[0], is_current=True,
            **self._care(),
        )  # fmt: skip
        current = self._counted(found)
        norm: Any = self.norm  # there where this is called
        return norm(current), current

    def dynamics(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return current (after the norm) and voltage before the reset, as ``input``'s shape."""
        x = self._enter(input)
        state = self._state(x.shape[0])
        current_decay, voltage_decay = self._parameters_used()
        threshold = None if self.no_reset else self._threshold
        if self.norm is None:
            found = kernel.cuba_dynamics(
                x, current_decay, voltage_decay, threshold, self.s_scale, state=state,
                **self._care(),
            )  # fmt: skip
            current, voltage = self._counted(found)
            raw = current
        else:
            current, raw = self._current(x, current_decay, state)
            found = leaky(
                current, voltage_decay, self.s_scale, threshold=threshold,
                state=state and state[1], **self._care(),
            )  # fmt: skip
            voltage = self._counted(found)
        self._keep_last(current_state=raw, voltage_state=voltage)
        return current, voltage

    def spike(self, voltage: Tensor) -> Tensor:
        """Spike where the voltage of ``dynamics`` exceeds the threshold."""
        fires = voltage > self._threshold
        spikes = spike(
            voltage, self._threshold + self.threshold_eps, fires=fires,
            **self._options(),
        )  # fmt: skip
        if self._keeps(voltage):
            self._keep_state(voltage_state=persistent_state(self.voltage_state, fires[..., -1]))
        return self._leave(spikes)

    def forward(self, input: Tensor, delay_shift: bool = False) -> Tensor:
        """Run the neuron over time.

        Parameters
        ----------
        input
            Weighted input ``[N, neurons..., T]``, real units.
        delay_shift
            Delay the spikes by one step in the same pass; the last one is dropped.

        Returns
        -------
        Tensor
            Spikes, of the shape of ``input``.
        """
        if self._replaces_stages:
            return self._in_two_stages(input, delay_shift)
        x = self._enter(input)
        state = self._state(x.shape[0])
        current_decay, voltage_decay = self._parameters_used()
        keeps = self._keeps(x)
        options = {
            "shift": delay_shift, "return_state": keeps, **self._options(), **self._care()
        }  # fmt: skip
        if self.norm is None:
            found = kernel.cuba(
                x, current_decay, voltage_decay, self._threshold, self.s_scale, state=state,
                **options,
            )  # fmt: skip
            spikes = self._counted(found)
            if keeps:
                spikes, (current, voltage) = spikes
                self._keep_state(current_state=current, voltage_state=voltage)
        else:
            current, raw = self._current(x, current_decay, state)
            found = leaky_spike(
                current, voltage_decay, self._threshold, self.s_scale, state=state and state[1],
                **options,
            )  # fmt: skip
            spikes = self._counted(found)
            if keeps:
                spikes, voltage = spikes
                self._keep_last(current_state=raw)
                self._keep_state(voltage_state=voltage)
        return self._leave(spikes)


def neuron_params(
    device_params: dict[str, Any], scale: int = 1 << 6, p_scale: int = 1 << 12
) -> dict[str, Any]:
    """Turn ``device_params`` back into constructor arguments.

    Examples
    --------
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.cuba.Neuron(1.25, current_decay=0.25, voltage_decay=0.5)
    >>> slayer.neuron.cuba.neuron_params(neuron.device_params)["threshold"]
    1.25
    """
    return {
        "threshold": device_params["vThMant"] / scale,
        "current_decay": device_params["iDecay"] / p_scale,
        "voltage_decay": device_params["vDecay"] / p_scale,
    }


SETTINGS = Settings(
    usual={"threshold": 1.0, "current_decay": 0.1, "voltage_decay": 0.04},
    quick={"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1},
    ranges={"current_decay": (0.1, 0.4), "voltage_decay": (0.05, 0.3)},
)
