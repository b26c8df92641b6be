"""Axonal delays."""

from lapilli.blocks.delay import Delay

from lapilli.shifts import delay

__all__ = [
    "Delay",
    "delay",
]
