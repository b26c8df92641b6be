"""The adaptive threshold of ALIF, ADRF and ADRF-Izhikevich neurons: parameters, state, gradients.

Equations: kernels/recurrences/adaptive_threshold.py.
"""

from typing import Any

import torch
from lapilli.kernels.numbers.fixed_point import is_power_of_two
from torch import Tensor

from .base import FixedPointNeuron, Range, chip_value
from .dynamics.adaptive_threshold import persistent_ref_state, persistent_th_state
from .errors import finite
from .gradients import with_zero_gradients
from .settings import Settings
from .state import state_value

__all__ = ["AdaptiveNeuron", "adaptation_params"]


class AdaptiveNeuron(FixedPointNeuron):
    """Base of the neurons whose threshold rises at each spike.

    Attributes
    ----------
    threshold_step : float
        What a spike adds to the threshold, rounded toward zero to a multiple of ``1 / scale``.
    threshold_decay, refractory_decay : Parameter
        ``[1]`` or ``[channels]``, in units of 1/4096. Their gradients are zero.

    Examples
    --------
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.alif.Neuron(
    ...     threshold=1, threshold_step=0.25, current_decay=0.25, voltage_decay=0.1,
    ...     threshold_decay=0.2, refractory_decay=0.5,
    ... )
    >>> neuron.threshold_step = 0.26  # rounded toward zero to a multiple of 1/64
    >>> neuron.threshold_step
    0.25
    """

    threshold_decay: torch.nn.Parameter
    refractory_decay: torch.nn.Parameter
    threshold_state: Tensor = state_value("threshold_state", "Threshold that the last call left.")
    refractory_state: Tensor = state_value("refractory_state", "Refractory state that it left.")
    _has_chip_rule = False
    cx_threshold_decay = chip_value("threshold_decay")
    cx_refractory_decay = chip_value("refractory_decay")

    def _add_adaptation(
        self, threshold_step: float, threshold_decay: Range, refractory_decay: Range
    ) -> None:
        self.threshold_step = threshold_step
        self._add_decay("threshold_decay", threshold_decay, learns=False)
        self._add_decay("refractory_decay", refractory_decay, learns=False)

    @property
    def threshold_step(self) -> float:
        """What a spike adds to the threshold; quantised when it is set."""
        return self._threshold_step

    @threshold_step.setter
    def threshold_step(self, threshold_step: float) -> None:
        finite("threshold_step", threshold_step)
        self._threshold_step = int(threshold_step * self.w_scale) / self.w_scale

    @property
    def v_th_step(self) -> int:
        """Threshold step in weight units, as the chip holds it."""
        return round(self.threshold_step * self.w_scale)

    def _reaches(self, state: Tensor, threshold: Tensor, refractory: Tensor) -> Tensor:
        """Whether a state spikes: the decision of the kernels, which integers take."""
        units = (state.detach() * self.s_scale).trunc()
        return units >= sum((y.detach() * self.s_scale).round() for y in (threshold, refractory))

    @property
    def _states_round(self) -> bool:
        """Whether the state that is kept is not the kernels', which raise it as an integer.

        lava-dl raises it in float32, which is the same where the scale is a power of two.
        """
        return self.persistent_state and not is_power_of_two(self.s_scale)

    def _after_spike(
        self, spikes: Tensor, fires: Tensor, threshold: Tensor, refractory: Tensor
    ) -> Tensor:
        """Keep the threshold that the last step leaves, and finish the spikes of ``spike()``."""
        if self._keeps(spikes):
            th, r, fired = threshold[..., -1], refractory[..., -1], fires[..., -1]
            self._keep_state(
                refractory_state=persistent_ref_state(r, fired, th),
                threshold_state=persistent_th_state(th, fired, self.threshold_step),
            )
        spikes = with_zero_gradients(spikes, self.threshold_decay, self.refractory_decay)
        return self._leave(spikes)


def adaptation_params(
    device_params: dict[str, Any], scale: int = 1 << 6, p_scale: int = 1 << 12
) -> dict[str, Any]:
    """Turn the ``device_params`` of the threshold back into constructor arguments.

    Examples
    --------
    >>> from lapilli.neurons.adaptive import adaptation_params
    >>> chip = {"vThMant": 64, "vThStep": 16, "thDecay": 1024, "refDecay": 2048}
    >>> adaptation_params(chip)["threshold_step"]
    0.25
    """
    return {
        "threshold": device_params["vThMant"] / scale,
        "threshold_step": device_params["vThStep"] / scale,
        "threshold_decay": device_params["thDecay"] / p_scale,
        "refractory_decay": device_params["refDecay"] / p_scale,
    }


ADAPTATION = Settings(
    usual={"threshold_step": 0.1, "threshold_decay": 0.02, "refractory_decay": 0.05},
    quick={"threshold_step": 0.5, "threshold_decay": 0.2, "refractory_decay": 0.3},
    ranges={"threshold_decay": (0.1, 0.3), "refractory_decay": (0.2, 0.5)},
)
