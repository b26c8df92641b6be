"""What fits nowhere else."""

from lapilli.utilities import diagonal_mask, dotdict, event_rate, staticproperty

__all__ = [
    "diagonal_mask",
    "dotdict",
    "event_rate",
    "staticproperty",
]
