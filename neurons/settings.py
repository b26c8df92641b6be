"""What the file of a neuron declares of its arguments, for those who make neurons of all kinds.

``Settings`` stand at the end of each file that has a ``Neuron`` of the chip. Tests, examples and
measurements read them, so that none of them has a row of its own for a neuron.
"""

import functools
import importlib
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lapilli.kernels.recurrences.declared import recurrences


@dataclass(frozen=True)
class Settings:
    """Arguments of a neuron.

    Parameters
    ----------
    usual
        Those of measurements: time constants as long as in networks that learn.
    quick
        Those of examples and tests: such neurons spike within twenty steps.
    ranges
        Of the arguments that can differ by channel, from where to where.
    """

    usual: dict[str, Any]
    quick: dict[str, Any]
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __or__(self, other: "Settings") -> "Settings":
        """Join the arguments of both."""
        return Settings(
            self.usual | other.usual, self.quick | other.quick, self.ranges | other.ranges
        )


@functools.cache
def settings() -> dict[str, Settings]:
    """Return the settings of every neuron, by the name of its module and of its recurrence."""
    package = __name__.rpartition(".")[0]
    there = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    found = {
        name: vars(importlib.import_module(f"{package}.{name}")).get("SETTINGS")
        for name in recurrences()
        if name in there
    }
    return {name: own for name, own in found.items() if isinstance(own, Settings)}
