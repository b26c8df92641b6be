"""Filters over time; the function ``conv`` hides its module."""

from . import fir
from .conv import conv, corr
from .fir import FIR, FIRBank

__all__ = [
    "FIR",
    "FIRBank",
    "conv",
    "corr",
    "fir",
]
