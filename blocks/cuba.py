"""Blocks of CUBA neurons. Equations: kernels/cuba.py; kinds: base.py.

Source: lava-dl block/cuba.py.
"""

from lapilli.neurons import cuba

from .family import NeuronMixin, blocks

__all__ = [
    "AbstractCuba", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractCuba(NeuronMixin):
    """Mixin of the blocks of CUBA neurons."""

    neurons = cuba


Affine, Average, Conv, ConvT, Dense, Flatten, Input, Pool, TimeDecimation, Unpool = blocks(
    AbstractCuba, *__all__[1:]
)
