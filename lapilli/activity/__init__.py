"""How much the layers of a network spike, and weights that make them start at a wished rate.

A rate is the share of a layer's outputs that are not zero: spikes a neuron and step, of sigma-delta
neurons events. A layer whose rate is near zero hands nothing on and, as the surrogate gradient
falls with the distance from the threshold, learns slowly or not at all.

    counting  ``Activity``: counts while a network runs
    start     ``init_rates_``: scales weights to a rate

``events`` are outputs that are not zero, ``wished`` is the rate that a layer should start at.
"""

from .counting import Activity, LayerActivity, SilentNeuronsWarning, silence
from .start import LayerStart, init_rates_

__all__ = [
    "Activity",
    "LayerActivity",
    "LayerStart",
    "SilentNeuronsWarning",
    "init_rates_",
    "silence",
]
