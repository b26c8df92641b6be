"""What a block of each kind does, whatever its neuron: the kinds, under lava-dl's path.

The concrete classes join a kind with the mixin of a neuron (family.py).

Source: lava-dl block/base.py.
"""

from .block import MAX_DELAY, NEURON_HOOK, AbstractResidual, event_rate, step_delay
from .dense import AbstractAffine, AbstractDense
from .passing import AbstractAverage, AbstractFlatten, AbstractInput, AbstractTimeDecimation
from .recurrent import AbstractKWTA, AbstractRecurrent
from .windows import AbstractConv, AbstractConvT, AbstractPool, AbstractUnpool

__all__ = [
    "MAX_DELAY",
    "NEURON_HOOK",
    "AbstractAffine",
    "AbstractAverage",
    "AbstractConv",
    "AbstractConvT",
    "AbstractDense",
    "AbstractFlatten",
    "AbstractInput",
    "AbstractKWTA",
    "AbstractPool",
    "AbstractRecurrent",
    "AbstractResidual",
    "AbstractTimeDecimation",
    "AbstractUnpool",
    "event_rate",
    "step_delay",
]
