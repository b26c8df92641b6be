"""Blocks of ALIF neurons. Equations: kernels/alif.py; kinds: base.py.

Source: lava-dl block/alif.py.
"""

from lapilli.neurons import alif

from .family import NeuronMixin, blocks

__all__ = [
    "KWTA", "AbstractALIF", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractALIF(NeuronMixin):
    """Mixin of the blocks of ALIF neurons."""

    neurons = alif


(
    KWTA, Average, Conv, ConvT, Dense, Flatten, Input, Pool, Recurrent, TimeDecimation, Unpool,
) = blocks(AbstractALIF, *(name for name in __all__ if name != "AbstractALIF"))  # fmt: skip
