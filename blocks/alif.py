"""Blocks of ALIF neurons. Equations: kernels/alif.py; kinds: base.py.

Source: lava-dl block/alif.py.
"""

from lapilli.neurons import alif

from .family import NeuronMixin, blocks

__all__ = [
    "AbstractALIF", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractALIF(NeuronMixin):
    """Mixin of the blocks of ALIF neurons."""

    neurons = alif


Average, Conv, ConvT, Dense, Flatten, Input, Pool, TimeDecimation, Unpool = blocks(
    AbstractALIF, *__all__[1:]
)
