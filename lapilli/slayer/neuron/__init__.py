"""Neurons, see ``lapilli.neurons``."""

import importlib
from typing import TYPE_CHECKING, Any

from .dropout import Dropout

if TYPE_CHECKING:  # what ``__getattr__`` imports
    from . import adrf, adrf_iz, alif, base, cuba, dropout, dynamics, norm, rf, rf_iz, sigma_delta

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

if not TYPE_CHECKING:  # or checkers would take every name for one that is here

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
