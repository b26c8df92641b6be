"""Neuron modules: parameters, quantisation, state and device values around the kernels.

    cuba, alif, ...                 one neuron each, which the user builds; adaptive, resonator,
                                    adaptive_resonator and encoding what several of them share
    delta, sigma, norm, dropout     the parts of neurons that are modules of their own
    base                            under lava-dl's path: from neuron (scales, threshold, surrogate
                                    gradient), learning (parameters), fixed_point (integer states)
    state, lazy, limits, precision  what a call leaves behind, sizes that the first call tells,
                                    ranges of parameters, numbers that stay float32
    settings                        what the file of a neuron declares of its arguments
    errors, gradients               checks of arguments; gradients that are zero and not absent
    dynamics                        the recurrences under lava-dl's names

Imports ``kernels``. ``rests`` says whether a neuron begins a call at rest, ``kept`` is what the
last call left, ``settle`` draws what waits for the first call, ``cx_...`` is a value of the chip.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from . import norm
from .dropout import Dropout

if TYPE_CHECKING:  # what ``__getattr__`` imports, by the names that checkers know
    from . import adrf, adrf_iz, alif, cuba, delta, dynamics, rf, rf_iz, sigma, sigma_delta

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
        if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
