"""Network files: write what Loihi runs, read it back, check both."""

from .build import Network, load
from .chip import Budget, Chip, budget
from .deployment import Finding, check
from .describe import blocks_of
from .errors import NetworkFileError, NetxCompatibilityWarning, QuantisationWarning
from .interchange import from_nir, to_nir
from .interpreter import Run, run
from .summary import LayerInfo, format_table, inspect, weights
from .writer import export_block, save

__all__ = [
    "Budget",
    "Chip",
    "Finding",
    "LayerInfo",
    "Network",
    "NetworkFileError",
    "NetxCompatibilityWarning",
    "QuantisationWarning",
    "Run",
    "blocks_of",
    "budget",
    "check",
    "export_block",
    "format_table",
    "from_nir",
    "inspect",
    "load",
    "run",
    "save",
    "to_nir",
    "weights",
]
