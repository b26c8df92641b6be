"""Resonator with an adaptive threshold as a function.

Equations: kernels/recurrences/resonator_steps.py.

Source: lava-dl neuron/dynamics/adaptive_resonator.py.
"""

from lapilli.kernels.recurrences.rf_iz import adrf_iz_dynamics
from torch import Tensor

from .adaptive_threshold import persistent_ref_state, persistent_th_state
from .series import run

__all__ = ["dynamics", "persistent_ref_state", "persistent_th_state"]


def dynamics(
    real_input: Tensor,
    imag_input: Tensor,
    sin_decay: Tensor,
    cos_decay: Tensor,
    ref_decay: Tensor,
    th_decay: Tensor,
    real_state: Tensor,
    imag_state: Tensor,
    ref_state: Tensor,
    th_state: Tensor,
    th_scale: float,
    th0: float,
    w_scale: int,
    debug: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn a complex state over time, with a threshold that its imaginary part raises.

    Parameters
    ----------
    real_input, imag_input, sin_decay, cos_decay, real_state, imag_state
        See ``resonator.dynamics``.
    ref_decay, th_decay, ref_state, th_state, th_scale, th0, w_scale, debug
        See ``adaptive_threshold.dynamics``; what reaches the threshold is the imaginary part.

    Returns
    -------
    tuple of Tensor
        Real and imaginary part, which are differentiable, threshold and refractory before each
        spike, of the shape of the inputs.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> pulse = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    >>> quarter, none = torch.tensor([4096.0]), torch.tensor([0.0])  # of a turn a step
    >>> half, rest, threshold = torch.tensor([2048.0]), torch.zeros(1), torch.ones(1)
    >>> real, imag, threshold, refractory = slayer.neuron.dynamics.adaptive_resonator.dynamics(
    ...     pulse, 0 * pulse, quarter, none, half, half, rest, rest, rest, threshold,
    ...     th_scale=0.5, th0=1.0, w_scale=4096,
    ... )
    >>> imag
    tensor([[[ 0.,  1.,  0., -1.]]])
    >>> threshold  # raised where the imaginary part reached it
    tensor([[[1.0000, 1.0000, 1.2500, 1.1250]]])
    """

    def kernel(inputs, decays, states):
        sin, cos, th, ref = decays
        return adrf_iz_dynamics(inputs, sin, cos, th, ref, th0, th_scale, w_scale, state=states)

    real, imag, threshold, refractory = run(
        kernel, (real_input, imag_input), (sin_decay, cos_decay, th_decay, ref_decay),
        (real_state, imag_state, th_state, ref_state),
    )  # fmt: skip
    return real, imag, threshold, refractory
