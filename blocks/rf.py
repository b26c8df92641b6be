"""Blocks of RF neurons. Equations: kernels/resonator_steps.py; kinds: base.py.

Source: lava-dl block/rf.py.
"""

from lapilli.neurons import rf

from .family import NeuronMixin, blocks

__all__ = [
    "KWTA", "AbstractRF", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractRF(NeuronMixin):
    """Mixin of the blocks of RF neurons."""

    neurons = rf


(
    KWTA, Affine, Average, Conv, ConvT, Dense, Flatten, Input, Pool, Recurrent, TimeDecimation,
    Unpool,
) = blocks(AbstractRF, *(name for name in __all__ if name != "AbstractRF"))  # fmt: skip
