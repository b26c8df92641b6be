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
    """

    def kernel(inputs, decays, states):
        sin, cos, th, ref = decays
        return adrf_iz_dynamics(inputs, sin, cos, th, ref, th0, th_scale, w_scale, state=states)

    real, imag, threshold, refractory = run(
        kernel, (real_input, imag_input), (sin_decay, cos_decay, th_decay, ref_decay),
        (real_state, imag_state, th_state, ref_state),
    )  # fmt: skip
    return real, imag, threshold, refractory
