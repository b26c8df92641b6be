"""Repetition of events."""

from lapilli.shifts import replicate

__all__ = [
    "replicate",
]
