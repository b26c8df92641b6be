"""The threshold of neurons that must exceed it to spike, as Loihi's do.

lava-dl adds 0.01 state units to the threshold, so that ``>=`` means "exceeds"; the epsilon vanishes
in float32 from a threshold of 2**18 state units up, and its neurons then spike at equality. Here an
integer decides, and the comparison is strict for every threshold.
"""

from .fixed_point import units_of

EPSILON = 0.01  # state units; only the surrogate gradient still sees it


def lowest_spiking(threshold: float, scale: int) -> int:
    """Return the lowest integer state that exceeds ``threshold``."""
    return units_of(threshold, scale) + 1
