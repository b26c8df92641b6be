"""Neuron modules: parameters, quantisation, state and device values around the kernels."""

import importlib
from typing import Any

from . import norm
from .dropout import Dropout

_MODULES = ("cuba",)

__all__ = ["Dropout", "cuba", "norm"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
