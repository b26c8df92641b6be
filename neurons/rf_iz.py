"""RF-Izhikevich: resonate-and-fire neuron with a reset.

Equations: kernels/recurrences/resonator_steps.py.

Source: lava-dl neuron/rf_iz.py.
"""

from typing import Any

from lapilli.kernels.recurrences import rf_iz as kernel
from lapilli.kernels.recurrences.resonator import resonator
from lapilli.kernels.recurrences.spike import spike
from torch import Tensor

from . import resonator as base
from . import rf
from .dynamics.resonator import persistent_imag_state, persistent_real_state

__all__ = ["SCALE_RHO_MULT", "TAU_RHO_MULT", "Neuron", "neuron_params"]

SCALE_RHO_MULT = 0.1
TAU_RHO_MULT: float = 100

neuron_params = base.neuron_params


class Neuron(base.ResonatorNeuron):
    """Resonate-and-fire neuron in Loihi's fixed point with a reset.

    It spikes where the imaginary part is at least the threshold. A spike sets the real part to zero
    and the imaginary part to one state unit below the threshold.

    Parameters, input and attributes are those of ``lapilli.neurons.resonator.ResonatorNeuron``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.rf_iz.Neuron(threshold=1, period=10, decay=0.1)
    >>> real, imag = torch.rand(4, 3, 10), torch.rand(4, 3, 10)
    >>> spikes = neuron((real, imag))  # of weighted inputs
    >>> spikes.shape
    torch.Size([4, 3, 10])
    """

    device_type = "RF_IZHIKEVICH"
    _run = staticmethod(kernel.rf_iz)

    def _run_dynamics(
        self, x: base.Pair, sin: Tensor, cos: Tensor, threshold: float, scale: int, **options: Any
    ) -> base.Pair:
        reset_from = None if self.no_reset else threshold
        found: Any = resonator(x, sin, cos, scale, threshold=reset_from, **options)
        return found

    def _options(self) -> dict[str, Any]:
        return self._surrogate(TAU_RHO_MULT, SCALE_RHO_MULT)

    def spike(self, real: Tensor, imag: Tensor) -> Tensor:
        """Spike where the imaginary part of ``dynamics`` reaches the threshold."""
        fires = imag >= self._threshold
        spikes = spike(imag, self._threshold, fires=fires, **self._options())
        if self._keeps(imag):
            fired = fires[..., -1]
            self._keep_state(
                real_state=persistent_real_state(real[..., -1], fired),
                imag_state=persistent_imag_state(
                    imag[..., -1], fired, self._threshold, self.s_scale
                ),
            )
        return self._leave(spikes)


SETTINGS = rf.SETTINGS
