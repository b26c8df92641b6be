"""Blocks, see ``lapilli.blocks``."""

from . import adrf, adrf_iz, alif, base, cuba, rf, rf_iz, sigma_delta

__all__ = [
    "adrf",
    "adrf_iz",
    "alif",
    "base",
    "cuba",
    "rf",
    "rf_iz",
    "sigma_delta",
]
