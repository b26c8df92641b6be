"""Blocks: synapse, neuron and delay as one layer, for each neuron."""

import importlib
from typing import Any

_MODULES = ("cuba",)

__all__ = ["cuba"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
