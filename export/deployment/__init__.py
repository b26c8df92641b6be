"""Whether a network can be deployed, and what it takes of a chip.

    findings  ``check``: everything that stands in the way, for each target
    chip      ``budget``: cores, memory and work that a network takes of a Loihi 2

Imports ``file``, ``machine`` and ``network``. A ``target`` is what the network is to run on,
``info`` what ``inspect`` says of a layer, ``binds`` the limit of a core that is reached first.
"""

from .chip import Budget, Chip, budget
from .findings import Finding, check

__all__ = ["Budget", "Chip", "Finding", "budget", "check"]
