"""Filters of finite length."""

from lapilli.filter import FIR, FIRBank

__all__ = [
    "FIR",
    "FIRBank",
]
