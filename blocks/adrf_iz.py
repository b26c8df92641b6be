"""Blocks of ADRF-Izhikevich neurons. Equations: kernels/resonator_steps.py; kinds: base.py.

Source: lava-dl block/adrf_iz.py.
"""

from lapilli.neurons import adrf_iz

from .family import NeuronMixin, blocks

__all__ = [
    "AbstractADRFIZ", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractADRFIZ(NeuronMixin):
    """Mixin of the blocks of ADRF-Izhikevich neurons."""

    neurons = adrf_iz


Average, Conv, ConvT, Dense, Flatten, Input, Pool, TimeDecimation, Unpool = blocks(
    AbstractADRFIZ, *__all__[1:]
)
