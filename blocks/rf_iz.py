"""Blocks of RF-Izhikevich neurons. Equations: kernels/resonator_steps.py; kinds: base.py.

Source: lava-dl block/rf_iz.py.
"""

from lapilli.neurons import rf_iz

from .family import NeuronMixin, blocks

__all__ = [
    "KWTA", "AbstractRFIz", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input",
    "Pool", "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractRFIz(NeuronMixin):
    """Mixin of the blocks of RF-Izhikevich neurons."""

    neurons = rf_iz


(
    KWTA, Affine, Average, Conv, ConvT, Dense, Flatten, Input, Pool, Recurrent, TimeDecimation,
    Unpool,
) = blocks(AbstractRFIz, *(name for name in __all__ if name != "AbstractRFIz"))  # fmt: skip
