"""Blocks of ALIF neurons. Equations: kernels/recurrences/alif.py; kinds: base.py.

Source: lava-dl block/alif.py.
"""

from lapilli.neurons import alif

from . import base, recurrent
from .family import NeuronMixin

__all__ = [
    "KWTA", "AbstractALIF", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractALIF(NeuronMixin):
    """Mixin of the blocks of ALIF neurons."""

    neurons = alif
    neuron: alif.Neuron


class KWTA(AbstractALIF, recurrent.AbstractKWTA):
    """Competition of ALIF neurons."""


class Average(base.AbstractAverage):
    """Average of groups of neurons."""


class Conv(AbstractALIF, base.AbstractConv):
    """Convolution layer of ALIF neurons."""


class ConvT(AbstractALIF, base.AbstractConvT):
    """Transposed convolution layer of ALIF neurons."""


class Dense(AbstractALIF, base.AbstractDense):
    """Dense layer of ALIF neurons."""


class Flatten(base.AbstractFlatten):
    """Flattening of the neurons."""


class Input(AbstractALIF, base.AbstractInput):
    """Input layer of ALIF neurons."""


class Pool(AbstractALIF, base.AbstractPool):
    """Pooling layer of ALIF neurons."""


class Recurrent(AbstractALIF, recurrent.AbstractRecurrent):
    """Recurrent layer of ALIF neurons."""


class TimeDecimation(base.AbstractTimeDecimation):
    """Average of bins of time."""


class Unpool(AbstractALIF, base.AbstractUnpool):
    """Unpooling layer of ALIF neurons."""
