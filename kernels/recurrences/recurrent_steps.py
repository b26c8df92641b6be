"""Recurrent layers: neurons whose spikes come back, one step later, through a weight R.

Forward, for each step t (s is 0, or the last spikes of the call before, ahead of the first):

    x[t] = z[t] + R s[t-1] + bias              z: weighted input, of all steps at once
    s[t] = what the neuron makes of x[t]       equations: cuba.py, alif.py, resonator_steps.py

Resonators have two inputs, real and imaginary, each with its own R or with none. The bias goes to
the part that the threshold tests.

Backward (float32). f[t] is the surrogate gradient where the spike was decided, g[t] what comes from
the layers after:

    d[t] = f[t] (g[t] + R^T g_x[t+1])          resonators: one d for each part, R^T g_x a sum of two
    g_x[t] = d[t]                                          gradient "lava-dl"
    g_v[t] = (1 - a_v / 4096) g_v[t+1] + d[t]              gradient "full"
    g_x[t] = (1 - a_u / 4096) g_x[t+1] + g_v[t]
    g_z = g_x,    g_R = sum g_x[t] s[t-1]^T

In lava-dl the states carry no gradient from step to step: it comes back to the step before through
R alone, and the decays are not learned. "full" goes through the states as well, as in layers
without recurrence; of resonators it turns g_x as resonator_steps.py does. The decay gradients are
theirs.

Either can grow without bound: each turn of the loop multiplies by f and by R. "bounded" is "full"
but for what comes back through R, which meets a slope of at most ``room``:

    d[t] = f[t] (g[t] + room / (room + |f[t]|) R^T g_x[t+1])       resonators: |f| = |f_re| + |f_im|
    room = memory / (2 |R|)

|R| is the spectral norm, of resonators that of both parts, one below the other. ``memory`` is one
over the sum of what an input leaves in the state over all steps: a_u a_v / 4096**2, of resonators 1
less the length of (sine, cosine) / 4096. So the loop's gain is at most 1/2: over all steps and
neurons, the root of the sum of squares of g_x is at most twice that without feedback, whatever T.

A neuron is four integers (a, b, c, d): current, voltage, threshold, refractory; of resonators real
and imaginary part instead of the first two. COMPLEX stands for resonators, PHASE for those that
test the phase, ADAPT for neurons whose threshold adapts.

Source: lava-dl block/base.py (AbstractRecurrent, AbstractKWTA).
"""

from lapilli.kernels.numbers.language import jit, tl

from .adaptive_threshold import margin_above, threshold_misfits
from .alif import alif_step
from .cuba import cuba_gain, cuba_misfits, cuba_step
from .resonator_steps import (
    resonator_after,
    resonator_spike_bwd,
    resonator_step,
    rotation_misfits,
    turning_gain,
)


@jit
def advance(
    a, b, c, d, x, x_im, k_a, k_b, k_c, k_d, theta, step, scale,
    COMPLEX: tl.constexpr, PHASE: tl.constexpr, ADAPT: tl.constexpr, EXACT: tl.constexpr,
    RULE: tl.constexpr,
):  # fmt: skip
    """Advance any neuron by one step, int32; ``k`` are what its four states keep.

    Returns the four states after the spike, the first two before it, what the threshold tests, how
    far it is above, and the spike.
    """
    if COMPLEX:
        re, im, c, d, tested, limit, s = resonator_step(
            a, b, c, d, x, x_im, k_a, k_b, k_c, k_d, theta, PHASE, ADAPT, RULE
        )
        a, b, c, d = resonator_after(re, im, c, d, s, tested, theta, step, PHASE, ADAPT, RULE)
        return a, b, c, d, re, im, tested, margin_above(tested, limit, RULE), s
    elif ADAPT:
        u, v, c, d, above, sent, s = alif_step(
            a, b, c, d, x, k_a, k_b, k_c, k_d, theta, step, scale, EXACT, RULE
        )
        return u, v, c, d, u, v, sent, above, s
    else:
        u, v, s, w = cuba_step(a, b, x, k_a, k_b, theta, scale, EXACT, RULE)
        return u, w, c, d, u, v, v, margin_above(v, theta, RULE), s


@jit
def misfits(
    a, b, x, x_im, before_a, c, d, k_a, k_b, scale,
    COMPLEX: tl.constexpr, ADAPT: tl.constexpr, EXACT: tl.constexpr, RULE: tl.constexpr,
):  # fmt: skip
    """Return 1 where an input or a state of a step does not fit, else 0.

    ``a`` and ``b`` are the state before the step, ``before_a`` is what the step made of ``a``, and
    ``c`` and ``d`` are the threshold and refractory after it.
    """
    if COMPLEX:
        lost = rotation_misfits(a, b, k_a, k_b, x, x_im, RULE)
    else:
        lost = cuba_misfits(a, b, x, before_a, k_a, k_b, scale, EXACT, RULE)
    if ADAPT:
        lost = lost | threshold_misfits(c, d)
    return lost


@jit
def gain_of(k_a, k_b, T, COMPLEX: tl.constexpr):
    """Bound the first two states, as a multiple of the largest input, first state and unit."""
    if COMPLEX:
        return turning_gain(k_a, k_b, T)
    else:
        return cuba_gain(k_a, k_b, T)


@jit
def limit_reach(theta):
    """Bound what a threshold that stays takes away from a state, and leaves after a spike."""
    return tl.abs(theta.to(tl.float32)) + 1.0


@jit
def limited(fed, slope, room):
    """Weaken what comes back through R where it meets a slope, of size ``slope``, beyond room."""
    return fed * (room / (room + slope))


@jit
def slopes(
    distance, im, height, excess, rate,
    PHASE: tl.constexpr, GRADED: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Surrogate gradients of a spike, for the real part (PHASE alone) and for what is tested."""
    return resonator_spike_bwd(1.0, distance, im, height, excess, rate, PHASE, GRADED, SHAPE)
