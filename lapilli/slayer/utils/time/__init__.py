"""Shifts in time; the functions hide the modules of their names."""

from .replicate import replicate
from .shift import shift

__all__ = [
    "replicate",
    "shift",
]
