"""Surrogate gradients: what the derivative of a spike is taken to be.

    binary   rho(d) = scale_rho / (2 tau) exp(-|d| / tau)         d = v - threshold
    graded   rho(d) = scale_rho exp(min(d, 0) / tau)

``height`` is the value at d = 0 and ``rate`` is -log2(e) / tau, so that the kernels need one exp2.

A neuron that spikes by its phase has two, for its real part a and its imaginary part b:

    rho_a = scale_rho A B                            d = a - threshold
    rho_b = -scale_rho / tau sign(b) B (1 + sign(d) (1 - 2 tau A)) / 2
    A = exp(-|d| / tau) / (2 tau), graded: exp(min(d, 0) / tau);  B = exp(-|b| / tau) / (2 tau)

``excess`` is 2 tau A at d = 0 and ``height`` is scale_rho / (4 tau**2).

Source: lava-dl spike/spike.py, spike/complex.py.
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


@jit
def complex_surrogate(distance, imag, height, excess, rate, GRADED: tl.constexpr):
    """Evaluate the two surrogate gradients of a spike by phase: for the real and imaginary part."""
    reach = tl.maximum(-distance, 0.0) if GRADED else tl.abs(distance)
    near = excess * tl.exp2(rate * reach)
    crossing = height * tl.exp2(rate * tl.abs(imag))
    side = tl.where(distance > 0, 1.0 - near, tl.where(distance < 0, near - 1.0, 0.0))
    pull = crossing * (1.0 + side)
    return crossing * near, tl.where(imag > 0, -pull, tl.where(imag < 0, pull, 0.0))


def surrogate_constants(tau_rho: float, scale_rho: float, graded: bool) -> tuple[float, float]:
    """Return ``(height, rate)`` of ``surrogate`` for a width and a scale."""
    height = scale_rho if graded else scale_rho / 2 / tau_rho
    return height, -math.log2(math.e) / tau_rho


def complex_surrogate_constants(
    tau_rho: float, scale_rho: float, graded: bool
) -> tuple[float, float, float]:
    """Return ``(height, excess, rate)`` of ``complex_surrogate`` for a width and a scale."""
    height = scale_rho / 4 / tau_rho / tau_rho
    return height, 2 * tau_rho if graded else 1.0, -math.log2(math.e) / tau_rho
