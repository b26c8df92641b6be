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
        Number of state units in a value of 1.
    threshold
        The state returns to zero after a step in which it reaches this; None, or a threshold that
        is not positive, leaves the reset out.
    debug
        Not used.

    Returns
    -------
    Tensor
        State before each reset, of the shape of ``input``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> pulse = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    >>> slayer.neuron.dynamics.leaky_integrator.dynamics(
    ...     pulse, decay=torch.tensor([2048.0]), state=torch.zeros(1), w_scale=4096
    ... )  # half is lost a step
    tensor([[[1.0000, 0.5000, 0.2500, 0.1250]]])
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

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.neuron.dynamics.leaky_integrator.persistent_state(
    ...     torch.tensor([0.75, 2.0]), spike=torch.tensor([0.0, 1.0])
    ... )
    tensor([0.7500, 0.0000])
    """
    return after_spike(state, spike, 0.0)
