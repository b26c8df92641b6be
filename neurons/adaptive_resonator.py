"""What ADRF and ADRF-Izhikevich share: a resonator whose threshold adapts.

Source: lava-dl neuron/adrf.py and adrf_iz.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.numbers.formula import GivenSurrogate
from lapilli.kernels.numbers.surrogate import DEFAULT
from torch import Tensor

from .adaptive import ADAPTATION, AdaptiveNeuron, adaptation_params
from .learning import Range
from .resonator import Pair, ResonatorNeuron, neuron_params
from .rf import SETTINGS as ROTATION

__all__ = ["AdaptiveResonatorNeuron", "adaptive_neuron_params"]


class AdaptiveResonatorNeuron(ResonatorNeuron, AdaptiveNeuron):
    """Base and constructor of the resonate-and-fire neurons whose threshold adapts.

    A spike resets nothing. Instead the neuron gets harder to excite: the threshold rises by
    ``threshold_step``, and a refractory state rises by twice the threshold. The neuron spikes again
    where its state reaches the sum of the two, which both decay.

    Parameters
    ----------
    threshold
        Threshold at rest; at least ``1 / scale``.
    threshold_step
        What a spike adds to the threshold; rounded toward zero to a multiple of ``1 / scale``.
    threshold_decay, refractory_decay
        Share lost a step by threshold (of its distance from rest) and refractory state, in [0, 1];
        with ``shared_param=False`` also a pair (min, max) from which each channel draws.
    period, decay, tau_grad, scale_grad, scale, norm, dropout, shared_param, persistent_state, \
    requires_grad, graded_spike, log_init, surrogate, overflow
        See ``ResonatorNeuron``. The decays of the threshold get gradients of zero, and
        ``overflow="loihi"`` raises: Lava has no such neuron.

    Attributes
    ----------
    threshold_state, refractory_state : Tensor
        State after the last call where it persists; not in the state dict.
    """

    _thresholds = ("_threshold", "threshold_step")

    def __init__(
        self,
        threshold: float,
        threshold_step: float,
        period: Range,
        decay: Range,
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
        log_init: bool = True,
        surrogate: GivenSurrogate = DEFAULT,
        *,
        overflow: str = "saturate",
    ):
        super().__init__(
            threshold, period, decay, tau_grad, scale_grad, scale, norm, dropout, shared_param,
            persistent_state, requires_grad, graded_spike, log_init, surrogate, overflow=overflow,
        )  # fmt: skip
        self._add_adaptation(threshold_step, threshold_decay, refractory_decay)
        self._add_states(threshold_state=self._threshold, refractory_state=0)
        self.clamp()

    def forward(self, input: Pair, delay_shift: bool = False) -> Tensor:  # noqa: D102 (the base's)
        if self._states_round:
            return self._in_two_stages(input, delay_shift)
        return super().forward(input, delay_shift)

    @property
    def device_params(self) -> dict[str, Any]:
        """Parameters as the chip holds them."""
        return {
            "type": self.device_type,
            "sinDecay": self.cx_sin_decay,
            "cosDecay": self.cx_cos_decay,
            "thDecay": self.cx_threshold_decay,
            "refDecay": self.cx_refractory_decay,
            "vThMant": self.v_th_mant,
            "vThStep": self.v_th_step,
            "gradedSpike": self.graded_spike,
        }


def adaptive_neuron_params(
    device_params: dict[str, Any], scale: int = 1 << 6, p_scale: int = 1 << 12
) -> dict[str, Any]:
    """Turn ``device_params`` back into constructor arguments.

    Examples
    --------
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.adrf.Neuron(1.25, 0.5, 10, 0.1, 0.25, 0.5)
    >>> slayer.neuron.adrf.neuron_params(neuron.device_params)["threshold_step"]
    0.5
    """
    return neuron_params(device_params, scale, p_scale) | adaptation_params(
        device_params, scale, p_scale
    )


ADAPTIVE_ROTATION = ROTATION | ADAPTATION
