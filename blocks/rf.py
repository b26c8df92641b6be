"""Blocks of RF neurons. Equations: kernels/recurrences/resonator_steps.py; kinds: base.py.

Source: lava-dl block/rf.py.
"""

from lapilli.neurons import rf

from . import base, recurrent
from .family import NeuronMixin

__all__ = [
    "KWTA", "AbstractRF", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool",
    "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractRF(NeuronMixin):
    """Mixin of the blocks of RF neurons."""

    neurons = rf
    neuron: rf.Neuron


class KWTA(AbstractRF, recurrent.AbstractKWTA):
    """Competition of RF neurons."""


class Affine(AbstractRF, base.AbstractAffine):
    """Affine layer with the dynamics of RF neurons."""


class Average(base.AbstractAverage):
    """Average of groups of neurons."""


class Conv(AbstractRF, base.AbstractConv):
    """Convolution layer of RF neurons."""


class ConvT(AbstractRF, base.AbstractConvT):
    """Transposed convolution layer of RF neurons."""


class Dense(AbstractRF, base.AbstractDense):
    """Dense layer of RF neurons."""


class Flatten(base.AbstractFlatten):
    """Flattening of the neurons."""


class Input(AbstractRF, base.AbstractInput):
    """Input layer of RF neurons."""


class Pool(AbstractRF, base.AbstractPool):
    """Pooling layer of RF neurons."""


class Recurrent(AbstractRF, recurrent.AbstractRecurrent):
    """Recurrent layer of RF neurons."""


class TimeDecimation(base.AbstractTimeDecimation):
    """Average of bins of time."""


class Unpool(AbstractRF, base.AbstractUnpool):
    """Unpooling layer of RF neurons."""
