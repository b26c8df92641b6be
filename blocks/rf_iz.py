"""Blocks of RF-Izhikevich neurons. Equations: kernels/resonator_steps.py; kinds: base.py.

Source: lava-dl block/rf_iz.py.
"""

from lapilli.neurons import rf_iz

from .family import NeuronMixin, blocks

__all__ = [
    "AbstractRFIz", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractRFIz(NeuronMixin):
    """Mixin of the blocks of RF-Izhikevich neurons."""

    neurons = rf_iz


Affine, Average, Conv, ConvT, Dense, Flatten, Input, Pool, TimeDecimation, Unpool = blocks(
    AbstractRFIz, *__all__[1:]
)
