"""Blocks: synapse, neuron and delay as one layer, for each neuron."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what ``__getattr__`` imports
    from . import adrf, adrf_iz, alif, cuba, rf, rf_iz, sigma_delta

_MODULES = ("adrf", "adrf_iz", "alif", "cuba", "rf", "rf_iz", "sigma_delta")

__all__ = ["adrf", "adrf_iz", "alif", "cuba", "rf", "rf_iz", "sigma_delta"]


if not TYPE_CHECKING:  # or checkers would take every name for one that is here

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
