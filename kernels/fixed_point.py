"""Fixed-point arithmetic of Loihi, shared by every recurrence.

A state is an int32 that counts units of ``1 / scale`` (``scale`` is 64 times the weight scale, 4096
by default). A decay is a 12-bit integer; what a state keeps a step is ``keep = 4096 - decay``.

    to_fixed(x)  = trunc(x * scale)            input to state, toward zero
    to_float(y)  = y / scale                   state to output, rounded once
    decay(y, k)  = trunc(y * k / 4096)         what is left of y after one step

Source: lava-dl neuron/dynamics/leaky_integrator.py, utils/int_utils.py.
"""

from .language import jit, tl

DECAY_BITS = tl.constexpr(12)
DECAY_ONE = tl.constexpr(4096)  # a decay of 1
DECAY_FRACTION = tl.constexpr(4095)  # the bits below one
RINT = tl.constexpr(12582912.0)  # 1.5 * 2**23: adding it leaves no room for a fraction

DECAY_SCALE = 4096  # p_scale: a decay parameter of 4096 is a decay of 1
STATE_BITS = 6
STATE_SCALE = 1 << STATE_BITS  # s_scale is this many times w_scale
NEVER = 2**31 - 1  # a threshold that no state reaches: no spike and no reset


@jit
def decay(y, keep):
    """Return trunc(y * keep / 4096) for any int32 ``y`` and 0 <= keep <= 4096."""
    # y = 4096 * high + low with 0 <= low < 4096, so high * keep is exact and only low * keep is
    # shifted; the bias turns the floor of the shift into truncation. No 64-bit product.
    k = keep & 8191  # tells the compiler that 13 bits are enough
    bias = (y >> 31) & DECAY_FRACTION
    return (y >> DECAY_BITS) * k + (((y & DECAY_FRACTION) * k + bias) >> DECAY_BITS)


@jit
def to_fixed(x, scale):
    """Convert a float32 to an integer state, toward zero."""
    return (x * scale).to(tl.int32)


@jit
def to_float(y, scale, EXACT: tl.constexpr):
    """Convert an integer state to float32; ``EXACT`` says that the scale is a power of two."""
    # div_rn: plain division is approximate on a GPU, and states must be equal bit for bit
    if EXACT:
        return y.to(tl.float32) * tl.div_rn(1.0, scale)
    else:
        return tl.div_rn(y.to(tl.float32), scale)


@jit
def through_float(y, scale, EXACT: tl.constexpr):
    """Pass a state from one stage to the next, as the float32 that lava-dl hands over.

    With a power-of-two scale the round trip changes nothing and is left out (``EXACT``).
    """
    if EXACT:
        return y
    else:
        return to_fixed(to_float(y, scale, EXACT), scale)


@jit
def round_even(x):
    """Round a float32 of magnitude below 2**22 to the nearest integer, ties to even."""
    return ((x + RINT) - RINT).to(tl.int32)


@jit
def multiplier_of(parameter):
    """Round a parameter in units of 1 / 4096; never outside [0, 4096]."""
    return tl.minimum(tl.maximum(round_even(parameter), 0), DECAY_ONE)


@jit
def keep_of(decay_parameter):
    """Return what a state keeps a step: 4096 minus the rounded decay, never outside [0, 4096]."""
    # in this order: with the constant on the left, Triton's interpreter makes it a constant
    return -multiplier_of(decay_parameter) + DECAY_ONE


@jit
def fraction_of(keep):
    """``keep`` as the float32 factor of the backward pass; exact."""
    return keep.to(tl.float32) * (1.0 / DECAY_ONE)


def is_power_of_two(scale: float) -> bool:
    """Whether the state scale is a power of two, so that states survive a trip through float32."""
    return scale >= 1 and float(scale).is_integer() and int(scale) & (int(scale) - 1) == 0
