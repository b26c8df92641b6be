"""Whether a network can be deployed, and what it takes of a chip.

    findings  ``check``: everything that stands in the way, for each target
    chip      ``budget``: cores, memory and work that a network takes of a Loihi 2

Imports ``file``, ``machine`` and ``network``.
"""

from .chip import Budget, Chip, budget
from .findings import Finding, check

__all__ = ["Budget", "Chip", "Finding", "budget", "check"]
