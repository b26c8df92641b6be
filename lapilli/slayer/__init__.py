"""lava-dl's names: ``from lapilli import slayer`` in place of ``import lava.lib.dl.slayer``.

A facade without code of its own: its modules hold names of lapilli's other modules, or are those
modules. Each name is found by attribute (``slayer.block.cuba.Dense``) and by import (``from
lapilli.slayer.block.cuba import Dense``), and a module is imported when it is first used. Importing
compiles nothing and opens no device; matplotlib and h5py are imported where they are used.
docs/migration.md lists what differs from lava-dl.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._alias import install_alias as install_alias

if TYPE_CHECKING:  # what ``__getattr__`` imports
    from . import auto, axon, block, classifier, dendrite, io, loss, neuron, spike, synapse, utils
    from . import jitconfig as jitconfig

__all__ = [
    "auto",
    "axon",
    "block",
    "classifier",
    "dendrite",
    "io",
    "loss",
    "neuron",
    "spike",
    "synapse",
    "utils",
]

if not TYPE_CHECKING:  # or checkers would take every name for one that is here

    def __getattr__(name: str) -> Any:
        if name in ("obd", "object_detection"):
            raise AttributeError(
                f"slayer.{name}: lapilli has no object detection. Its networks are made of blocks "
                "that are here; take data sets and metrics from lava-dl or torchvision."
            )
        if name in __all__ or name == "jitconfig":
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "install_alias", "jitconfig"])
