"""Synapses, see ``lapilli.blocks.synapse``."""

from . import complex, layer
from .layer import Conv, ConvTranspose, Dense, Pool, Unpool

__all__ = [
    "Conv",
    "ConvTranspose",
    "Dense",
    "Pool",
    "Unpool",
    "complex",
    "layer",
]
