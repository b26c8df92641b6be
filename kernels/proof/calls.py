"""The calls that are measured and compiled ahead of time: those that the recurrences declare."""

from lapilli.kernels.recurrences.declared import Recurrence, recurrences

__all__ = ["RECURRENCES", "Recurrence"]

RECURRENCES = recurrences()
