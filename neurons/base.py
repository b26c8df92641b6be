"""What every neuron module has: scales, threshold, decays, state, norm, dropout.

A neuron's own file adds its parameters, its dynamics and its device values.

Source: lava-dl neuron/base.py.
"""

from .fixed_point import FixedPointNeuron, chip_value, fixed_point_scales
from .learning import Range
from .neuron import Neuron

__all__ = ["FixedPointNeuron", "Neuron", "Range", "chip_value", "fixed_point_scales"]
