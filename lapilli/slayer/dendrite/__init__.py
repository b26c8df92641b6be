"""Dendrite of sigma-delta networks."""

from . import sigma
from .sigma import Sigma

__all__ = [
    "Sigma",
    "sigma",
]
