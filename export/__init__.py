"""Network files: write what Loihi runs, read it back, check both."""

from .build import Network, load
from .errors import NetworkFileError, NetxCompatibilityWarning, QuantisationWarning
from .summary import LayerInfo, format_table, inspect
from .writer import blocks_of, export_block, save

__all__ = [
    "LayerInfo",
    "Network",
    "NetworkFileError",
    "NetxCompatibilityWarning",
    "QuantisationWarning",
    "blocks_of",
    "export_block",
    "format_table",
    "inspect",
    "load",
    "save",
]
