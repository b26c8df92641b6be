"""Surrogate gradients: what the derivative of a spike is taken to be.

    binary   rho(d) = scale_rho / (2 tau) exp(-|d| / tau)         d = v - threshold
    graded   rho(d) = scale_rho exp(min(d, 0) / tau)

``height`` is the value at d = 0 and ``rate`` is -log2(e) / tau, so that the kernels need one exp2.

Source: lava-dl spike/spike.py.
"""

import math

from .language import jit, tl


@jit
def surrogate(distance, height, rate, GRADED: tl.constexpr):
    """Evaluate the surrogate gradient at ``distance`` (real units) from the threshold."""
    if GRADED:
        return height * tl.exp2(rate * tl.maximum(-distance, 0.0))
    else:
        return height * tl.exp2(rate * tl.abs(distance))


def surrogate_constants(tau_rho: float, scale_rho: float, graded: bool) -> tuple[float, float]:
    """Return ``(height, rate)`` of ``surrogate`` for a width and a scale."""
    height = scale_rho if graded else scale_rho / 2 / tau_rho
    return height, -math.log2(math.e) / tau_rho
