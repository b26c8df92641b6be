"""Neuron modules: parameters, quantisation, state and device values around the kernels."""

import importlib
from typing import TYPE_CHECKING, Any

from . import norm
from .dropout import Dropout

if TYPE_CHECKING:  # what ``__getattr__`` imports
    from . import adrf, adrf_iz, alif, cuba, delta, dynamics, rf, rf_iz, sigma, sigma_delta

_MODULES = (
    "adrf", "adrf_iz", "alif", "cuba", "delta", "dynamics", "rf", "rf_iz", "sigma", "sigma_delta",
)  # fmt: skip

__all__ = [
    "Dropout",
    "adrf",
    "adrf_iz",
    "alif",
    "cuba",
    "delta",
    "dynamics",
    "norm",
    "rf",
    "rf_iz",
    "sigma",
    "sigma_delta",
]


if not TYPE_CHECKING:  # or checkers would take every name for one that is here

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
