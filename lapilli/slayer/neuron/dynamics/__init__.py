"""Dynamics of the neurons, see ``lapilli.neurons.dynamics``."""

from . import adaptive_phase_th, adaptive_resonator, adaptive_threshold, leaky_integrator, resonator

__all__ = [
    "adaptive_phase_th",
    "adaptive_resonator",
    "adaptive_threshold",
    "leaky_integrator",
    "resonator",
]
