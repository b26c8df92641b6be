"""Convolution and correlation over time."""

from lapilli.filter import conv, corr

__all__ = [
    "conv",
    "corr",
]
