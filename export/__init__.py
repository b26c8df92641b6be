"""Network files: write what Loihi runs, read it back, check both.

    file/        the file: its tables, a layer of it, reading and writing HDF5; what netx, Lava's
                 reader, makes of it
    network/     from blocks to layers of a file and back; the chain of blocks that really ran;
                 saving, which checks what it writes
    machine/     a network file run in integers, as the chip does
    exchange/    graphs of NIR, read and written
    deployment/  whether a network can be deployed, and what it takes of a chip

``machine`` and ``network`` import from ``file`` alone, ``exchange`` from these, ``deployment`` from
``file``, ``machine`` and ``network``. No room but ``network`` and those below it builds a block.

Short names that recur: a ``layer`` is one entry of a file, ``module`` the neuron of its block as
lapilli calls it and ``neuron`` its type in the file; a ``dataset`` is an array of a layer, by its
path in the file. ``scale`` is the number of integer units in a weight of 1, ``unit`` the number of
units in a value of 1 that is handed on; ``netx`` is Lava's reader of such files.
"""

from lapilli import moved

from .deployment import Budget, Chip, Finding, budget, check
from .exchange import from_nir, to_nir
from .file.errors import NetworkFileError, NetxCompatibilityWarning, QuantisationWarning
from .file.summary import LayerInfo, format_table, inspect, weights
from .machine.interpreter import Run, run
from .network.blocks import blocks_of
from .network.build import Network, load
from .network.saving import export_block, save

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

# where modules were before there were rooms
moved.install(
    __name__,
    {
        "file": "errors files layers netx reader summary",
        "network": "build describe probe writer=saving",
        "machine": "interpreter integer_maps=maps integer_neurons=neurons",
        "exchange": (
            "interchange_graph=graph interchange_maps=maps interchange_read=reading "
            "interchange_write=writing"
        ),
        "deployment": "chip",
        "": "interchange=exchange",
    },
)
