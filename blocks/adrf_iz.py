"""Blocks of ADRF-Izhikevich neurons.

Equations: kernels/recurrences/resonator_steps.py; kinds: base.py.

Source: lava-dl block/adrf_iz.py.
"""

from lapilli.neurons import adrf_iz

from . import base, recurrent
from .family import NeuronMixin

__all__ = [
    "KWTA", "AbstractADRFIZ", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractADRFIZ(NeuronMixin):
    """Mixin of the blocks of ADRF-Izhikevich neurons."""

    neurons = adrf_iz
    neuron: adrf_iz.Neuron


class KWTA(AbstractADRFIZ, recurrent.AbstractKWTA):
    """Competition of ADRF-Izhikevich neurons."""


class Average(base.AbstractAverage):
    """Average of groups of neurons."""


class Conv(AbstractADRFIZ, base.AbstractConv):
    """Convolution layer of ADRF-Izhikevich neurons."""


class ConvT(AbstractADRFIZ, base.AbstractConvT):
    """Transposed convolution layer of ADRF-Izhikevich neurons."""


class Dense(AbstractADRFIZ, base.AbstractDense):
    """Dense layer of ADRF-Izhikevich neurons."""


class Flatten(base.AbstractFlatten):
    """Flattening of the neurons."""


class Input(AbstractADRFIZ, base.AbstractInput):
    """Input layer of ADRF-Izhikevich neurons."""


class Pool(AbstractADRFIZ, base.AbstractPool):
    """Pooling layer of ADRF-Izhikevich neurons."""


class Recurrent(AbstractADRFIZ, recurrent.AbstractRecurrent):
    """Recurrent layer of ADRF-Izhikevich neurons."""


class TimeDecimation(base.AbstractTimeDecimation):
    """Average of bins of time."""


class Unpool(AbstractADRFIZ, base.AbstractUnpool):
    """Unpooling layer of ADRF-Izhikevich neurons."""
