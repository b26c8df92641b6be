"""LIF: leaky integrate-and-fire neuron. Equations: kernels/recurrences/lif.py."""

from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.numbers.formula import GivenSurrogate
from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.numbers.threshold import EPSILON
from lapilli.kernels.recurrences import lif as kernel
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
    """Leaky integrate-and-fire neuron in Loihi's fixed point; its input is its current.

    Arguments are those of ``cuba.Neuron`` without ``current_decay``.
    """

    voltage_decay: torch.nn.Parameter = decay_parameter()
    voltage_state: Tensor = state_value("voltage_state", "Voltage that the last call left.")
    cx_voltage_decay = chip_value("voltage_decay")
    _has_chip_rule = False

    def __init__(
        self,
        threshold: float,
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
        self._add_decay("voltage_decay", voltage_decay, jitter=0.01)
        self._add_states(voltage_state=0)
        self.clamp()

    def _options(self) -> dict[str, Any]:
        return self._surrogate(TAU_RHO_MULT, SCALE_RHO_MULT)

    @property
    def device_params(self) -> dict[str, Any]:
        """Parameters as a chip would hold them."""
        return {
            "type": "LIF",
            "vDecay": self.cx_voltage_decay,
            "vThMant": self.v_th_mant,
            "gradedSpike": self.graded_spike,
        }

    def _arguments(self, input: Tensor) -> tuple[tuple[Any, ...], Any]:
        """Return the kernel's arguments for this call and the state before it."""
        x = self._enter(input)
        if self.norm is not None:
            x = self.norm(x.to(torch.float32))
        state = self._state(x.shape[0])
        arguments = x, *self._parameters_used(), self._threshold, self.s_scale
        return arguments, state and state[0]

    def dynamics(self, input: Tensor) -> tuple[Tensor]:
        """Return the voltage before the reset, as ``input``'s shape."""
        arguments, state = self._arguments(input)
        voltage = self._counted(kernel.lif_dynamics(*arguments, state=state, **self._care()))
        self._keep_last(voltage_state=voltage)
        return (voltage,)

    def spike(self, voltage: Tensor) -> Tensor:
        """Spike where the voltage of ``dynamics`` exceeds the threshold."""
        fires = voltage > self._threshold
        limit = self._threshold + EPSILON / self.s_scale
        spikes = spike(voltage, limit, fires=fires, **self._options())
        if self._keeps(voltage):
            self._keep_state(voltage_state=persistent_state(self.voltage_state, fires[..., -1]))
        return self._leave(spikes)

    def forward(self, input: Tensor, delay_shift: bool = False) -> Tensor:
        """Run the neuron over time."""
        if self._replaces_stages:
            return self._in_two_stages(input, delay_shift)
        arguments, state = self._arguments(input)
        keeps = self._keeps(input)
        found = kernel.lif(
            *arguments, state=state, shift=delay_shift, return_state=keeps, **self._options(),
            **self._care(),
        )  # fmt: skip
        spikes = self._counted(found)
        if keeps:
            spikes, voltage = spikes
            self._keep_state(voltage_state=voltage)
        return self._leave(spikes)


def neuron_params(
    device_params: dict[str, Any], scale: int = 1 << 6, p_scale: int = 1 << 12
) -> dict[str, Any]:
    """Turn ``device_params`` back into constructor arguments."""
    return {
        "threshold": device_params["vThMant"] / scale,
        "voltage_decay": device_params["vDecay"] / p_scale,
    }


SETTINGS = Settings(
    usual={"threshold": 1.0, "voltage_decay": 0.04},
    quick={"threshold": 1.0, "voltage_decay": 0.1},
    ranges={"voltage_decay": (0.05, 0.3)},
)
