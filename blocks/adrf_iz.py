"""Blocks of ADRF-Izhikevich neurons. Equations: kernels/resonator_steps.py; kinds: base.py.

Source: lava-dl block/adrf_iz.py.
"""

from lapilli.neurons import adrf_iz

from .family import NeuronMixin, blocks

__all__ = [
    "KWTA", "AbstractADRFIZ", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractADRFIZ(NeuronMixin):
    """Mixin of the blocks of ADRF-Izhikevich neurons."""

    neurons = adrf_iz


(
    KWTA, Average, Conv, ConvT, Dense, Flatten, Input, Pool, Recurrent, TimeDecimation, Unpool,
) = blocks(AbstractADRFIZ, *(name for name in __all__ if name != "AbstractADRFIZ"))  # fmt: skip
