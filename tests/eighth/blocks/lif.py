"""Blocks of LIF neurons. Equations: kernels/recurrences/lif.py; kinds: base.py."""

from lapilli.neurons import lif

from . import base
from .family import NeuronMixin

__all__ = ["AbstractLIF", "Average", "Conv", "Dense", "Flatten", "Input", "Pool"]


class AbstractLIF(NeuronMixin):
    """Mixin of the blocks of LIF neurons."""

    neurons = lif
    neuron: lif.Neuron


class Average(base.AbstractAverage):
    """Average of groups of neurons."""


class Conv(AbstractLIF, base.AbstractConv):
    """Convolution layer of LIF neurons."""


class Dense(AbstractLIF, base.AbstractDense):
    """Dense layer of LIF neurons."""


class Flatten(base.AbstractFlatten):
    """Flattening of the neurons."""


class Input(AbstractLIF, base.AbstractInput):
    """Input layer of LIF neurons."""


class Pool(AbstractLIF, base.AbstractPool):
    """Pooling layer of LIF neurons."""
