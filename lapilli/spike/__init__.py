"""Spike functions with surrogate gradients, under lava-dl's names and arguments.

``Spike`` is a threshold, ``complex.Spike`` one by the phase of a complex state.

Source: lava-dl spike.
"""

from . import complex
from .spike import Spike

__all__ = ["Spike", "complex"]
