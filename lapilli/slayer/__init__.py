"""lava-dl's names: ``from lapilli import slayer`` in place of ``import lava.lib.dl.slayer``.

A facade without code of its own: each name is a module of lapilli, found by attribute
(``slayer.block.cuba.Dense``) and by import (``from lapilli.slayer.block.cuba import Dense``).
"""

import importlib
import pkgutil
import sys

_HOMES = {
    "block": "lapilli.blocks",
    "neuron": "lapilli.neurons",
    "loss": "lapilli.loss",
    "classifier": "lapilli.classifier",
}

__all__ = ["block", "classifier", "loss", "neuron"]

for _name, _home in _HOMES.items():
    _module = importlib.import_module(_home)
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _module
    for _part in pkgutil.iter_modules(getattr(_module, "__path__", [])):
        sys.modules[f"{__name__}.{_name}.{_part.name}"] = importlib.import_module(
            f"{_home}.{_part.name}"
        )
