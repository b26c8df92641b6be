"""ALIF: leaky integrate-and-fire neuron with an adaptive threshold.

Equations: kernels/recurrences/alif.py.

Source: lava-dl neuron/alif.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.numbers.formula import GivenSurrogate
from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.recurrences import alif as kernel
from lapilli.kernels.recurrences.spike import spike
from torch import Tensor

from .adaptive import ADAPTATION, AdaptiveNeuron, adaptation_params
from .base import Range, chip_value
from .cuba import SETTINGS as CUBA
from .limits import decay_parameter
from .state import state_value

__all__ = ["SCALE_RHO_MULT", "TAU_RHO_MULT", "Neuron", "neuron_params"]

SCALE_RHO_MULT = 0.1
TAU_RHO_MULT: float = 100


class Neuron(AdaptiveNeuron):
    """Leaky integrate-and-fire neuron with an adaptive threshold in Loihi's fixed point.

    A spike does not reset the voltage. Instead the neuron gets harder to excite: the threshold
    rises by ``threshold_step``, and a refractory state rises by twice the threshold. The neuron
    spikes again where its voltage reaches the sum of the two, which both decay.

    Input and output are ``[N, neurons..., T]`` as for ``cuba.Neuron``, and so are the arguments
    after ``refractory_decay``.

    Parameters
    ----------
    threshold
        Threshold at rest, which the voltage must reach to spike; at least ``1 / scale``.
    threshold_step
        What a spike adds to the threshold; rounded toward zero to a multiple of ``1 / scale``.
    current_decay, voltage_decay
        Share that is lost in each step, in [0, 1]. With ``shared_param=False`` it may also be a
        pair (min, max), from which each channel draws its own. A single number is then widened by
        1 %.
    threshold_decay, refractory_decay
        The same for the threshold, which returns to its value at rest, and for the refractory
        state, which returns to 0. A single number is not widened.
    norm
        Class or function that makes a norm, which is applied to the input, or None.
    requires_grad
        Learn the current and voltage decay. The gradients of the other two are zero.
    overflow
        ``"saturate"``; ``"loihi"`` raises, since Lava's netx has no such neuron.

    Attributes
    ----------
    current_decay, voltage_decay, threshold_decay, refractory_decay : Parameter
        ``[1]`` or ``[channels]``, in units of 1/4096.
    current_state, voltage_state, threshold_state, refractory_state : Tensor
        State after the last call where it persists; not in the state dict.

    Raises
    ------
    ArgumentError
        (An AssertionError and a ValueError.) For arguments out of range, inputs of a wrong shape.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.alif.Neuron(
    ...     threshold=1, threshold_step=0.25, current_decay=0.25, voltage_decay=0.1,
    ...     threshold_decay=0.2, refractory_decay=0.5,
    ... )
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
        threshold_step: float,
        current_decay: Range,
        voltage_decay: Range,
        threshold_decay: Range,
        refractory_decay: Range,
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
        self._add_decay("current_decay", current_decay, jitter=0.01)
        self._add_decay("voltage_decay", voltage_decay, jitter=0.01)
        self._add_adaptation(threshold_step, threshold_decay, refractory_decay)
        self._add_states(
            current_state=0, voltage_state=0, threshold_state=self._threshold, refractory_state=0
        )
        self.clamp()

    def _options(self) -> dict[str, Any]:
        return self._surrogate(TAU_RHO_MULT, SCALE_RHO_MULT)

    @property
    def device_params(self) -> dict[str, Any]:
        """Parameters as the chip holds them."""
        return {
            "type": "ALIF",
            "iDecay": self.cx_current_decay,
            "vDecay": self.cx_voltage_decay,
            "thDecay": self.cx_threshold_decay,
            "refDecay": self.cx_refractory_decay,
            "vThMant": self.v_th_mant,
            "vThStep": self.v_th_step,
            "refDelay": self.ref_delay,
            "gradedSpike": self.graded_spike,
        }

    def _arguments(self, input: Tensor) -> tuple[tuple[Any, ...], Any]:
        """Return the kernel's arguments for this call and the state before it."""
        x = self._enter(input)
        if self.norm is not None:
            x = self.norm(x.to(torch.float32))
        decays = self._parameters_used()
        return (x, *decays, self._threshold, self.threshold_step, self.s_scale), self._state(
            x.shape[0]
        )

    def dynamics(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return current, voltage, threshold and refractory before each spike.

        All have ``input``'s shape; the first two are differentiable.
        """
        arguments, state = self._arguments(input)
        states = self._counted(kernel.alif_dynamics(*arguments, state=state, **self._care()))
        self._keep_last(**dict(zip(self._rest, states, strict=True)))
        return states

    def _tested(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return states[1:]

    def spike(self, voltage: Tensor, threshold: Tensor, refractory: Tensor) -> Tensor:
        """Spike where the voltage of ``dynamics`` reaches its threshold and refractory."""
        fires = self._reaches(voltage, threshold, refractory)
        spikes = spike(
            voltage, threshold + refractory, fires=fires,
            **self._options(),
        )  # fmt: skip
        return self._after_spike(spikes, fires, threshold, refractory)

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
        if self._states_round or self._replaces_stages:
            return self._in_two_stages(input, delay_shift)
        arguments, state = self._arguments(input)
        keeps = self._keeps(input)
        found = kernel.alif(
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
    >>> neuron = slayer.neuron.alif.Neuron(1.25, 0.5, 0.25, 0.5, 0.25, 0.5)
    >>> slayer.neuron.alif.neuron_params(neuron.device_params)["threshold_step"]
    0.5
    """
    return {
        **adaptation_params(device_params, scale, p_scale),
        "current_decay": device_params["iDecay"] / p_scale,
        "voltage_decay": device_params["vDecay"] / p_scale,
    }


SETTINGS = CUBA | ADAPTATION
