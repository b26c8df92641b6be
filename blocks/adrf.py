"""Blocks of ADRF neurons. Equations: kernels/resonator_steps.py; kinds: base.py.

Source: lava-dl block/adrf.py.
"""

from lapilli.neurons import adrf

from .family import NeuronMixin, blocks

__all__ = [
    "KWTA", "AbstractADRF", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractADRF(NeuronMixin):
    """Mixin of the blocks of ADRF neurons."""

    neurons = adrf


(
    KWTA, Average, Conv, ConvT, Dense, Flatten, Input, Pool, Recurrent, TimeDecimation, Unpool,
) = blocks(AbstractADRF, *(name for name in __all__ if name != "AbstractADRF"))  # fmt: skip
