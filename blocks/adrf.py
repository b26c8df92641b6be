"""Blocks of ADRF neurons. Equations: kernels/resonator_steps.py; kinds: base.py.

Source: lava-dl block/adrf.py.
"""

from lapilli.neurons import adrf

from .family import NeuronMixin, blocks

__all__ = [
    "AbstractADRF", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractADRF(NeuronMixin):
    """Mixin of the blocks of ADRF neurons."""

    neurons = adrf


Average, Conv, ConvT, Dense, Flatten, Input, Pool, TimeDecimation, Unpool = blocks(
    AbstractADRF, *__all__[1:]
)
