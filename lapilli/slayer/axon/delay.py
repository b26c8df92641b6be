"""Axonal delays."""

from lapilli.blocks.delay import Delay

from lapilli.slayer.utils.time.shift import delay

__all__ = [
    "Delay",
    "delay",
]
