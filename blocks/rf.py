"""Blocks of RF neurons. Equations: kernels/resonator_steps.py; kinds: base.py.

Source: lava-dl block/rf.py.
"""

from lapilli.neurons import rf

from .family import NeuronMixin, blocks

__all__ = [
    "AbstractRF", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractRF(NeuronMixin):
    """Mixin of the blocks of RF neurons."""

    neurons = rf


Affine, Average, Conv, ConvT, Dense, Flatten, Input, Pool, TimeDecimation, Unpool = blocks(
    AbstractRF, *__all__[1:]
)
