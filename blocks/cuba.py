"""Blocks of CUBA neurons. Equations: kernels/recurrences/cuba.py; kinds: base.py.

Source: lava-dl block/cuba.py.
"""

from lapilli.neurons import cuba

from . import base, recurrent
from .family import NeuronMixin

__all__ = [
    "KWTA", "AbstractCuba", "Affine", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input",
    "Pool", "Recurrent", "TimeDecimation", "Unpool",
]  # fmt: skip


class AbstractCuba(NeuronMixin):
    """Mixin of the blocks of CUBA neurons."""

    neurons = cuba
    neuron: cuba.Neuron


class KWTA(AbstractCuba, recurrent.AbstractKWTA):
    """Competition of CUBA neurons."""


class Affine(AbstractCuba, base.AbstractAffine):
    """Affine layer with the dynamics of CUBA neurons."""


class Average(base.AbstractAverage):
    """Average of groups of neurons."""


class Conv(AbstractCuba, base.AbstractConv):
    """Convolution layer of CUBA neurons."""


class ConvT(AbstractCuba, base.AbstractConvT):
    """Transposed convolution layer of CUBA neurons."""


class Dense(AbstractCuba, base.AbstractDense):
    """Dense layer of CUBA neurons."""


class Flatten(base.AbstractFlatten):
    """Flattening of the neurons."""


class Input(AbstractCuba, base.AbstractInput):
    """Input layer of CUBA neurons."""


class Pool(AbstractCuba, base.AbstractPool):
    """Pooling layer of CUBA neurons."""


class Recurrent(AbstractCuba, recurrent.AbstractRecurrent):
    """Recurrent layer of CUBA neurons."""


class TimeDecimation(base.AbstractTimeDecimation):
    """Average of bins of time."""


class Unpool(AbstractCuba, base.AbstractUnpool):
    """Unpooling layer of CUBA neurons."""
