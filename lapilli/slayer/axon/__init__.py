"""Delays, and the encoder of sigma-delta networks; the function ``delay`` hides its module."""

from . import delta
from .delay import Delay, delay
from .delta import Delta

__all__ = [
    "Delay",
    "Delta",
    "delay",
    "delta",
]
