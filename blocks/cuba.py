"""Blocks of CUBA neurons. Equations: kernels/cuba.py; kinds: base.py.

Source: lava-dl block/cuba.py.
"""

from lapilli.neurons import cuba

from .family import NeuronMixin, blocks

__all__ = [
    "KWTA", "AbstractCuba", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input",
    "Pool", "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractCuba(NeuronMixin):
    """Mixin of the blocks of CUBA neurons."""

    neurons = cuba


(
    KWTA, Affine, Average, Conv, ConvT, Dense, Flatten, Input, Pool, Recurrent, TimeDecimation,
    Unpool,
) = blocks(AbstractCuba, *(name for name in __all__ if name != "AbstractCuba"))  # fmt: skip
