"""RF: resonate-and-fire neuron that spikes by its phase.

Equations: kernels/recurrences/resonator_steps.py.

Source: lava-dl neuron/rf.py.
"""

from typing import Any

from lapilli.kernels.recurrences import rf as kernel
from lapilli.kernels.recurrences.resonator import resonator
from lapilli.kernels.recurrences.spike import complex_spike
from torch import Tensor

from . import resonator as base
from .settings import Settings

__all__ = ["SCALE_RHO_MULT", "TAU_RHO_MULT", "Neuron", "neuron_params"]

SCALE_RHO_MULT: float = 10
TAU_RHO_MULT = 0.5

neuron_params = base.neuron_params


class Neuron(base.ResonatorNeuron):
    """Resonate-and-fire neuron in Loihi's fixed point that spikes at most once a period.

    It spikes where the imaginary part turns from negative to not while the real part is at least
    the threshold. A spike resets nothing.

    Parameters, input and attributes are those of ``lapilli.neurons.resonator.ResonatorNeuron``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.rf.Neuron(threshold=1, period=10, decay=0.1)
    >>> real, imag = torch.rand(4, 3, 10), torch.rand(4, 3, 10)
    >>> spikes = neuron((real, imag))  # of weighted inputs
    >>> spikes.shape
    torch.Size([4, 3, 10])
    """

    device_type = "RF_PHASE"
    phase = True
    _run = staticmethod(kernel.rf)

    def _run_dynamics(
        self, x: base.Pair, sin: Tensor, cos: Tensor, threshold: float, scale: int, **options: Any
    ) -> base.Pair:
        found: Any = resonator(x, sin, cos, scale, **options)
        return found

    def _options(self) -> dict[str, Any]:
        return self._surrogate(TAU_RHO_MULT, SCALE_RHO_MULT)

    def spike(self, real: Tensor, imag: Tensor) -> Tensor:
        """Spike by the phase of the states of ``dynamics``."""
        spikes = complex_spike(
            real, imag, self._threshold, imag_last=self._imag_last(), **self._options()
        )
        self._keep_last(imag_state=imag)
        return self._leave(spikes)


SETTINGS = Settings(
    usual={"threshold": 1.0, "period": 20, "decay": 0.1},
    quick={"threshold": 1.0, "period": 8, "decay": 0.1},
    ranges={"period": (5, 20), "decay": (0.05, 0.2)},
)
