"""ADRF: resonate-and-fire neuron that spikes by its phase, with an adaptive threshold.

Equations: kernels/recurrences/resonator_steps.py.

Source: lava-dl neuron/adrf.py.
"""

from typing import Any

from lapilli.kernels.recurrences import rf as kernel
from lapilli.kernels.recurrences.spike import complex_spike, turns
from torch import Tensor

from . import adaptive_resonator as base

__all__ = ["SCALE_RHO_MULT", "TAU_RHO_MULT", "Neuron", "neuron_params"]

SCALE_RHO_MULT = 0.1
TAU_RHO_MULT: float = 100

neuron_params = base.adaptive_neuron_params


class Neuron(base.AdaptiveResonatorNeuron):
    """Resonate-and-fire neuron in Loihi's fixed point that adapts and spikes at most once a period.

    It spikes where the imaginary part turns from negative to not while the real part is at least
    the sum of threshold and refractory state.

    Parameters, input and attributes are those of
    ``lapilli.neurons.adaptive_resonator.AdaptiveResonatorNeuron``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.adrf.Neuron(
    ...     threshold=1, threshold_step=0.25, period=10, decay=0.1, threshold_decay=0.2,
    ...     refractory_decay=0.5,
    ... )
    >>> real, imag = torch.rand(4, 3, 10), torch.rand(4, 3, 10)
    >>> spikes = neuron((real, imag))  # of weighted inputs
    >>> spikes.shape
    torch.Size([4, 3, 10])
    """

    device_type = "ADRF_PHASE"
    phase = True
    _run = staticmethod(kernel.adrf)
    _run_dynamics = staticmethod(kernel.adrf_dynamics)

    def _options(self) -> dict[str, Any]:
        return self._surrogate(TAU_RHO_MULT, SCALE_RHO_MULT)

    def spike(self, real: Tensor, imag: Tensor, threshold: Tensor, refractory: Tensor) -> Tensor:
        """Spike by the phase of the states of ``dynamics``."""
        fires = self._reaches(real, threshold, refractory) & turns(imag, self._imag_last())
        spikes = complex_spike(real, imag, threshold + refractory, fires=fires, **self._options())
        self._keep_last(imag_state=imag)
        return self._after_spike(spikes, fires, threshold, refractory)


SETTINGS = base.ADAPTIVE_ROTATION
