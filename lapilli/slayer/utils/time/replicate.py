"""Repetition of events."""

from .shift import replicate

__all__ = [
    "replicate",
]
