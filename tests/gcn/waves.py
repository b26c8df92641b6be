"""A wave of 64 lanes: masks of them, and what surrounds its registers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WAVE = 64
ARGUMENTS = 1 << 20  # number of the allocation that holds the arguments
FILL = 0xDEADBEEF  # what registers hold before they are written
LANES = np.arange(WAVE)


def to_bits(mask: Array) -> Array:
    """Return masks of 64 lanes as numbers."""
    return np.packbits(mask, axis=1, bitorder="little").view(np.uint64)[:, 0]


def from_bits(bits: Array) -> Array:
    """Return numbers as masks of 64 lanes."""
    parts = np.ascontiguousarray(bits)[:, None].view(np.uint8)
    return np.unpackbits(parts, axis=1, bitorder="little").astype(bool)
