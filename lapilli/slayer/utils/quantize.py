"""Quantisation."""

from lapilli.kernels.synapses.quantize import QuantizeMode as MODE
from lapilli.kernels.synapses.quantize import quantize, quantize_hook_fx

__all__ = [
    "MODE",
    "quantize",
    "quantize_hook_fx",
]
