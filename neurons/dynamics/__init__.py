"""Dynamics as functions of input, parameters and state, under lava-dl's names and arguments.

Thin forms of the kernels, for those who build neurons of their own. Inputs are ``[..., T]`` with
time last: ``[N, channels, ..., T]``, or with fewer dimensions for a few neurons that share their
parameters. Decays are tensors of one value, or one a channel, in units of 1/4096. States are
tensors of one value, or of the shape of a step. ``w_scale`` is what is called ``scale`` elsewhere
below ``lapilli.kernels``: the number of state units in a value of 1. ``debug`` is there for
lava-dl's sake and does nothing.

Source: lava-dl neuron/dynamics.
"""

from . import (
    adaptive_phase_th,
    adaptive_resonator,
    adaptive_threshold,
    leaky_integrator,
    resonator,
)

__all__ = [
    "adaptive_phase_th",
    "adaptive_resonator",
    "adaptive_threshold",
    "leaky_integrator",
    "resonator",
]
