"""Adaptive threshold as a function. Equations: kernels/recurrences/adaptive_threshold.py.

Source: lava-dl neuron/dynamics/adaptive_threshold.py.
"""

from lapilli.kernels.recurrences.adaptive_threshold import adaptive_threshold
from torch import Tensor

from .series import after_spike, run


def dynamics(
    input: Tensor,
    ref_state: Tensor,
    ref_decay: Tensor,
    th_state: Tensor,
    th_decay: Tensor,
    th_scale: float,
    th0: float,
    w_scale: int,
    debug: bool = False,
) -> tuple[Tensor, Tensor]:
    """Follow the threshold that ``input`` meets, and raise it where it is reached.

    Parameters
    ----------
    input
        What spikes where it reaches threshold and refractory together, ``[..., T]``, real units.
    ref_state, th_state
        Refractory and threshold before the first step; one value, or one a neuron.
    ref_decay, th_decay
        Share lost a step by refractory and by threshold, of its distance from rest, 0..4096; one
        value, or one a channel.
    th_scale
        What a spike adds to the threshold.
    th0
        Threshold at rest.
    w_scale
        Number of state units in a value of 1.
    debug
        Not used.

    Returns
    -------
    tuple of Tensor
        Threshold and refractory before each spike, of the shape of ``input``; not differentiable.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> half, rest, threshold = torch.tensor([2048.0]), torch.zeros(1), torch.ones(1)
    >>> slayer.neuron.dynamics.adaptive_threshold.dynamics(  # reached in the second step
    ...     torch.tensor([[[0.0, 1.0, 0.0, 0.0]]]), rest, half, threshold, half,
    ...     th_scale=0.5, th0=1.0, w_scale=4096,
    ... )
    (tensor([[[1.0000, 1.0000, 1.2500, 1.1250]]]), tensor([[[0.0000, 0.0000, 1.0000, 0.5000]]]))
    """

    def kernel(inputs, decays, states):
        (x,), (th, ref) = inputs, decays
        return adaptive_threshold(x, th, ref, th0, th_scale, w_scale, state=states)

    threshold, refractory = run(kernel, (input,), (th_decay, ref_decay), (th_state, ref_state))
    return threshold, refractory


def persistent_ref_state(ref_state: Tensor, spike: Tensor, th_state: Tensor) -> Tensor:
    """Refractory from which the next call starts: twice the threshold more after a spike.

    Parameters
    ----------
    ref_state, th_state
        Last step of ``dynamics``.
    spike
        Spikes of that step.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.neuron.dynamics.adaptive_threshold.persistent_ref_state(
    ...     torch.tensor([0.5]), spike=torch.tensor([1.0]), th_state=torch.tensor([1.0])
    ... )
    tensor([2.5000])
    """
    return after_spike(ref_state, spike, ref_state + 2 * th_state)


def persistent_th_state(th_state: Tensor, spike: Tensor, th_step: float) -> Tensor:
    """Threshold from which the next call starts: one step more after a spike.

    Parameters
    ----------
    th_state
        Last step of ``dynamics``.
    spike
        Spikes of that step.
    th_step
        What a spike adds to the threshold.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.neuron.dynamics.adaptive_threshold.persistent_th_state(
    ...     torch.tensor([1.0]), spike=torch.tensor([1.0]), th_step=0.5
    ... )
    tensor([1.5000])
    """
    return after_spike(th_state, spike, th_state + th_step)
