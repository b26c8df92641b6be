"""Resonators: neurons with a complex state that turns and decays, Loihi fixed point.

Forward (int32, 1 unit = 1 / scale):

    a[t] = D(a'[t-1], cos) - D(b'[t-1], sin) + x_re[t]      real part
    b[t] = D(a'[t-1], sin) + D(b'[t-1], cos) + x_im[t]      imaginary part
    D(y, k) = trunc(y * k / 4096)                           decay, toward zero

Here is what four neurons share; they differ in what spikes and in what a spike changes:

    neuron    spikes where                                  then
    RF        a[t] >= theta,     b[t-1] < 0 <= b[t]
    RF-Iz     b[t] >= theta                                 a'[t] = 0, b'[t] = theta - 1
    ADRF      a[t] >= th + r,    b[t-1] < 0 <= b[t]         threshold rises
    ADRF-Iz   b[t] >= th + r                                threshold rises

a' and b' are a and b where no other is given; th and r are the state of adaptive_threshold.py.
PHASE stands for the neurons that test the phase (RF, ADRF), ADAPT for those whose threshold adapts.

Backward (float32). Neither the reset, the truncation nor the threshold is differentiated:

    A[t] = (cos A[t+1] + sin B[t+1]) / 4096 + rho_a[t] g_s[t]       = g_x_re[t]
    B[t] = (cos B[t+1] - sin A[t+1]) / 4096 + rho_b[t] g_s[t]       = g_x_im[t]
    g_sin = sum B[t+1] a[t] - A[t+1] b[t],    g_cos = sum A[t+1] a[t] + B[t+1] b[t]

The last two are per unit of sin / 4096 and cos / 4096.

Source: lava-dl neuron/dynamics/resonator.py, neuron/dynamics/adaptive_resonator.py,
neuron/dynamics/adaptive_phase_th.py, spike/complex.py.
"""

from lapilli.kernels.numbers.fixed_point import NAN, SATURATE, clipped, kept, misfit, one_unit, plus
from lapilli.kernels.numbers.language import jit, tl
from lapilli.kernels.numbers.surrogate import complex_surrogate, surrogate

from .adaptive_threshold import rise, settle, tested_against

CIRCLE = tl.constexpr(2**24)  # the square of a sine and a cosine of length 4096


@jit
def rotate(re, im, sin, cos, x_re, x_im, RULE: tl.constexpr):
    """Turn and shrink the state, then add the input, int32; ``sin`` and ``cos`` 0..4096."""
    turned_re = plus(kept(re, cos, RULE), -kept(im, sin, RULE), RULE)
    turned_im = plus(kept(re, sin, RULE), kept(im, cos, RULE), RULE)
    re = clipped(plus(turned_re, x_re, RULE), RULE)
    im = clipped(plus(turned_im, x_im, RULE), RULE)
    if RULE:
        re, im = tl.where(im == NAN, NAN, re), tl.where(re == NAN, NAN, im)
    return re, im


@jit
def rotation_misfits(re, im, sin, cos, x_re, x_im, RULE: tl.constexpr):
    """Return 1 where an input or a sum of ``rotate`` does not fit, else 0."""
    turned_re = plus(kept(re, cos, RULE), -kept(im, sin, RULE), RULE)
    turned_im = plus(kept(re, sin, RULE), kept(im, cos, RULE), RULE)
    of_x = misfit(x_re, SATURATE) | misfit(x_im, SATURATE)
    of_turn = misfit(turned_re, SATURATE) | misfit(turned_im, SATURATE)
    of_re = misfit(plus(turned_re, x_re, RULE), RULE)
    of_im = misfit(plus(turned_im, x_im, RULE), RULE)
    return (of_x | of_turn | of_re | of_im).to(tl.int32)


@jit
def turning_gain(sin, cos, T):
    """Bound both parts of T steps, as a multiple of the largest input, first state and unit.

    A rotation makes the state longer only by the rounding of its sine and cosine; where that may
    more than double it in T steps, there is no bound.
    """
    longer = (sin * sin + cos * cos - CIRCLE).to(tl.float32)  # of the square, as a share of CIRCLE
    steps = T * 1.0
    shrinking = tl.minimum(tl.div_rn(2.0 * CIRCLE, tl.maximum(-longer, 1.0)), steps)
    growing = tl.where(longer * steps <= CIRCLE, steps * 2.0, float("inf"))
    return tl.where(longer < 0.0, shrinking, growing) * 8.0


@jit
def after_spike(theta, scale):
    """Return the imaginary part after a spike of a neuron that resets, real; 0 for a positive one.

    That of a threshold above 0 is smaller than before the spike.
    """
    return (tl.minimum(theta, 1) - 1).to(tl.float32) * one_unit(scale)


@jit
def rotate_bwd(g_re, g_im, sin, cos, d_re, d_im):
    """Turn the gradient back one step and add that of this step, float32; fractions of 1."""
    return cos * g_re + sin * g_im + d_re, cos * g_im - sin * g_re + d_im


@jit
def resonator_step(
    re, im, th, r, x_re, x_im, sin, cos, keep_th, keep_r, theta,
    PHASE: tl.constexpr, ADAPT: tl.constexpr, RULE: tl.constexpr,
):  # fmt: skip
    """Advance one step up to the spike, int32; also return what is tested and its limit."""
    im_before = im
    re, im = rotate(re, im, sin, cos, x_re, x_im, RULE)
    limit = theta
    tested = re if PHASE else im
    if ADAPT:
        th, r = settle(th, r, theta, keep_th, keep_r, RULE)
        limit = plus(th, r, RULE)
        tested = tested_against(tested, limit, RULE)
    if PHASE:
        return re, im, th, r, tested, limit, (tested >= limit) & (im_before < 0) & (im >= 0)
    else:
        return re, im, th, r, tested, limit, tested >= limit


@jit
def resonator_after(
    re, im, th, r, s, tested, theta, step,
    PHASE: tl.constexpr, ADAPT: tl.constexpr, RULE: tl.constexpr,
):  # fmt: skip
    """State after the spike ``s`` of what was tested, int32."""
    if ADAPT:
        th, r = rise(th, r, s, tested, step, RULE)
    elif not PHASE:
        re, im = tl.where(s, 0, re), tl.where(s, theta - 1, im)
    return re, im, th, r


@jit
def resonator_spike_bwd(
    g_s, distance, im, height, excess, rate,
    PHASE: tl.constexpr, GRADED: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Gradients of real and imaginary part through the spike, ``distance`` above its limit."""
    if PHASE:
        rho_re, rho_im = complex_surrogate(distance, im, height, excess, rate, GRADED, SHAPE)
        return rho_re * g_s, rho_im * g_s
    else:
        return 0.0 * g_s, surrogate(distance, height, rate, GRADED, SHAPE) * g_s
