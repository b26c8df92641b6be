"""Integers that round toward zero."""

from .utils import Q2Zero, right_shift_to_zero

__all__ = [
    "Q2Zero",
    "right_shift_to_zero",
]
