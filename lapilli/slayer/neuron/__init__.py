"""Neurons, see ``lapilli.neurons``."""

from . import adrf, adrf_iz, alif, base, cuba, dropout, dynamics, norm, rf, rf_iz, sigma_delta
from .dropout import Dropout

__all__ = [
    "Dropout",
    "adrf",
    "adrf_iz",
    "alif",
    "base",
    "cuba",
    "dropout",
    "dynamics",
    "norm",
    "rf",
    "rf_iz",
    "sigma_delta",
]
