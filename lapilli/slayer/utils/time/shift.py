"""Shift of every neuron in time."""

from lapilli.shifts import shift

__all__ = [
    "shift",
]
