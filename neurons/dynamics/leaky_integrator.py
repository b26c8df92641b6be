"""Leaky integrator as a function. Equations: kernels/recurrences/leaky.py.

Source: lava-dl neuron/dynamics/leaky_integrator.py.
"""

import math

from lapilli.kernels.recurrences.leaky import leaky
from torch import Tensor

from .series import after_spike, run


def dynamics(
    input: Tensor,
    decay: Tensor,
    state: Tensor,
    w_scale: int,
    threshold: float | None = None,
    debug: bool = False,
) -> Tensor:
    """Filter ``input`` over time.

    Parameters
    ----------
    input
        ``[..., T]``, real units.
    decay
        Share lost a step, 0..4096; one value, or one a channel.
    state
        State before the first step; one value, or one a neuron. Not differentiated.
    w_scale
        State units in 1.
    threshold
        The state returns to zero after a step in which it reaches this; None, or a threshold that
        is not positive, leaves the reset out.
    debug
        Not used.

    Returns
    -------
    Tensor
        State before each reset, of the shape of ``input``.
    """
    if threshold is not None and threshold <= 0:
        threshold = None
    if threshold is not None:  # the kernel's must be exceeded
        threshold = (math.ceil(threshold * w_scale) - 1) / w_scale

    def kernel(inputs, decays, states):
        (x,), (rate,) = inputs, decays
        return (leaky(x, rate, w_scale, threshold=threshold, state=states[0]),)

    (y,) = run(kernel, (input,), (decay,), (state,))
    return y


def persistent_state(state: Tensor, spike: Tensor) -> Tensor:
    """State from which the next call starts: zero where the last step spiked.

    Parameters
    ----------
    state
        Last step of ``dynamics``.
    spike
        Spikes of that step.
    """
    return after_spike(state, spike, 0.0)
