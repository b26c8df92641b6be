"""lapilli: train spiking networks for Loihi with fused, bit-exact kernels.

``from lapilli import slayer`` gives the blocks and neurons under lava-dl's names. Submodules are
imported when they are first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "blocks",
    "classifier",
    "decay_gradient",
    "export",
    "loss",
    "neurons",
    "set_decay_gradient",
    "slayer",
]

_FUNCTIONS = {"decay_gradient", "set_decay_gradient"}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module("lapilli.kernels.decays"), name)
    if name in __all__:
        return importlib.import_module(f"lapilli.{name}")
    raise AttributeError(f"module 'lapilli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
