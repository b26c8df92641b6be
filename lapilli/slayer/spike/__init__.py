"""Spike functions, see ``lapilli.spike``."""

from . import complex, spike
from .spike import Spike

__all__ = [
    "Spike",
    "complex",
    "spike",
]
