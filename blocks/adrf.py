"""Blocks of ADRF neurons. Equations: kernels/recurrences/resonator_steps.py; kinds: base.py.

Source: lava-dl block/adrf.py.
"""

from lapilli.neurons import adrf

from . import base, recurrent
from .family import NeuronMixin

__all__ = [
    "KWTA", "AbstractADRF", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractADRF(NeuronMixin):
    """Mixin of the blocks of ADRF neurons."""

    neurons = adrf
    neuron: adrf.Neuron


class KWTA(AbstractADRF, recurrent.AbstractKWTA):
    """Competition of ADRF neurons."""


class Average(base.AbstractAverage):
    """Average of groups of neurons."""


class Conv(AbstractADRF, base.AbstractConv):
    """Convolution layer of ADRF neurons."""


class ConvT(AbstractADRF, base.AbstractConvT):
    """Transposed convolution layer of ADRF neurons."""


class Dense(AbstractADRF, base.AbstractDense):
    """Dense layer of ADRF neurons."""


class Flatten(base.AbstractFlatten):
    """Flattening of the neurons."""


class Input(AbstractADRF, base.AbstractInput):
    """Input layer of ADRF neurons."""


class Pool(AbstractADRF, base.AbstractPool):
    """Pooling layer of ADRF neurons."""


class Recurrent(AbstractADRF, recurrent.AbstractRecurrent):
    """Recurrent layer of ADRF neurons."""


class TimeDecimation(base.AbstractTimeDecimation):
    """Average of bins of time."""


class Unpool(AbstractADRF, base.AbstractUnpool):
    """Unpooling layer of ADRF neurons."""
