"""Adaptive threshold of a phase as a function.

Equations: kernels/recurrences/adaptive_threshold.py.

Source: lava-dl neuron/dynamics/adaptive_phase_th.py.
"""

from lapilli.kernels.recurrences.adaptive_threshold import adaptive_phase_threshold
from torch import Tensor

from .adaptive_threshold import persistent_ref_state, persistent_th_state
from .series import run

__all__ = ["dynamics", "persistent_ref_state", "persistent_th_state"]


def dynamics(
    re_input: Tensor,
    im_input: Tensor,
    im_state: Tensor,
    ref_state: Tensor,
    ref_decay: Tensor,
    th_state: Tensor,
    th_decay: Tensor,
    th_scale: float,
    th0: float,
    w_scale: int,
    debug: bool = False,
) -> tuple[Tensor, Tensor]:
    """Follow the threshold of a complex state that spikes by its phase.

    It is reached where ``re_input`` is at least threshold and refractory together while
    ``im_input`` turns from negative to not.

    Parameters
    ----------
    re_input, im_input
        Real and imaginary part, ``[..., T]``, real units.
    im_state
        Imaginary part before the first step; one value, or one a neuron.
    ref_state, ref_decay, th_state, th_decay, th_scale, th0, w_scale, debug
        See ``adaptive_threshold.dynamics``.

    Returns
    -------
    tuple of Tensor
        Threshold and refractory before each spike, of the shape of the inputs; not
        differentiable.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> half, rest, threshold = torch.tensor([2048.0]), torch.zeros(1), torch.ones(1)
    >>> real, imag = torch.ones(1, 1, 4), torch.tensor([[[-1.0, 1.0, 1.0, 1.0]]])
    >>> slayer.neuron.dynamics.adaptive_phase_th.dynamics(
    ...     real, imag, rest, rest, half, threshold, half, th_scale=0.5, th0=1.0, w_scale=4096
    ... )
    (tensor([[[1.0000, 1.0000, 1.2500, 1.1250]]]), tensor([[[0.0000, 0.0000, 1.0000, 0.5000]]]))
    """

    def kernel(inputs, decays, states):
        (re, im), (th, ref), (imag_before, *state) = inputs, decays, states
        return adaptive_phase_threshold(
            re, im, th, ref, th0, th_scale, w_scale, imag_before=imag_before, state=tuple(state)
        )

    threshold, refractory = run(
        kernel, (re_input, im_input), (th_decay, ref_decay), (im_state, th_state, ref_state)
    )
    return threshold, refractory
