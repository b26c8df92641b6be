"""Blocks of RF-Izhikevich neurons.

Equations: kernels/recurrences/resonator_steps.py; kinds: base.py.

Source: lava-dl block/rf_iz.py.
"""

from lapilli.neurons import rf_iz

from . import base, recurrent
from .family import NeuronMixin

__all__ = [
    "KWTA", "AbstractRFIz", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input",
    "Pool", "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractRFIz(NeuronMixin):
    """Mixin of the blocks of RF-Izhikevich neurons."""

    neurons = rf_iz
    neuron: rf_iz.Neuron


class KWTA(AbstractRFIz, recurrent.AbstractKWTA):
    """Competition of RF-Izhikevich neurons."""


class Affine(AbstractRFIz, base.AbstractAffine):
    """Affine layer with the dynamics of RF-Izhikevich neurons."""


class Average(base.AbstractAverage):
    """Average of groups of neurons."""


class Conv(AbstractRFIz, base.AbstractConv):
    """Convolution layer of RF-Izhikevich neurons."""


class ConvT(AbstractRFIz, base.AbstractConvT):
    """Transposed convolution layer of RF-Izhikevich neurons."""


class Dense(AbstractRFIz, base.AbstractDense):
    """Dense layer of RF-Izhikevich neurons."""


class Flatten(base.AbstractFlatten):
    """Flattening of the neurons."""


class Input(AbstractRFIz, base.AbstractInput):
    """Input layer of RF-Izhikevich neurons."""


class Pool(AbstractRFIz, base.AbstractPool):
    """Pooling layer of RF-Izhikevich neurons."""


class Recurrent(AbstractRFIz, recurrent.AbstractRecurrent):
    """Recurrent layer of RF-Izhikevich neurons."""


class TimeDecimation(base.AbstractTimeDecimation):
    """Average of bins of time."""


class Unpool(AbstractRFIz, base.AbstractUnpool):
    """Unpooling layer of RF-Izhikevich neurons."""
