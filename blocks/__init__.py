"""Blocks: synapse, neuron and delay as one layer, for each neuron.

    cuba, alif, ...           the blocks of one neuron, which the user builds
    family, documentation     how a neuron and a kind become a block, with its docstring
    base                      the kinds, under lava-dl's path: from block (what all share), passing
                              (no weights), dense, windows (convolutions and pooling), recurrent
                              (and feedback, what its two kinds share)
    stream                    one step a call, without the layers of Python between
    delay                     learnable axonal delays
    synapse, complex_synapse  the weights: stored_weight, generic_layer, then one class a shape
    linear, convolution       what a weight and a frame give, with gradients
    maps, crossover           dense or by events; tensor_cores how a GPU multiplies

Imports ``kernels`` and ``neurons``. ``z`` is the input of a neuron, ``y`` what a block hands on;
a ``hook`` is a function of the weight; a ``frame`` is one step of one sample.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what ``__getattr__`` imports, by the names that checkers know
    from . import adrf, adrf_iz, alif, cuba, rf, rf_iz, sigma_delta

__all__ = ["adrf", "adrf_iz", "alif", "cuba", "rf", "rf_iz", "sigma_delta"]


if not TYPE_CHECKING:  # or checkers would take every name for one that is here

    def __getattr__(name: str) -> Any:
        if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
