"""Fixed-point arithmetic of Loihi, shared by every recurrence.

A state is an int32 that counts units of ``1 / scale`` (``scale`` is 64 times the weight scale, 4096
by default). A decay is a 12-bit integer; what a state keeps a step is ``keep = 4096 - decay``.

    to_fixed(x)  = trunc(x * scale)            input to state, toward zero
    to_float(y)  = y / scale                   state to output, rounded once
    decay(y, k)  = trunc(y * k / 4096)         what is left of y after one step

**Numbers that do not fit.** A state is at least -MOST and at most MOST = 2**31 - 128, the largest
float32 below 2**31. What is beyond saturates: an input, infinity too, when it becomes an integer,
and each sum that becomes a state. Nothing wraps. A number that is not one (NaN) is the integer
NAN, -2**31: a state that it is added to is NAN as well, from that step on, and where a state is NAN
so are the neuron's spike and all of its other states after that step. A decay that is not finite
makes its neuron NAN from the start. Backward, the gradient of a neuron that became NAN is NaN at
every step; saturation is not differentiated, just as truncation is not. A current that is rebuilt
from the voltage, for the gradient of its decay, is what a saturated voltage took up of it. Sums of
float32 (sigma, delta, sigma-delta) have infinities and NaN of their own and keep to IEEE 754.

**24 bits.** That is the rule SATURATE. The rule LOIHI is that by which Lava's fixed-point models
simulate the chip, for neurons that its netx runs. With L = 2**23 - 1 and a sum y, exact:

    CUBA       current             y - 2**24 where y > L + 1,  y + 2**24 where y < -L,  else y
    CUBA       voltage             min(max(y, -L), L)
    RF, RF-Iz  real, imaginary     min(max(y, -L), L)

It holds before the spike is decided; after one the voltage is 0, and the state of RF-Iz (0, theta -
1), as ever. A current comes round once: an input beyond 2**24 leaves it beyond 24 bits, as in Lava.
Inputs, and the sums y, saturate at MOST before, where Lava's own int32 would wrap, so that infinity
is a very large input. NaN is NAN by either rule. Lava has no rule for thresholds that adapt, and
none for sigma-delta neurons but that of int32.

**Counting.** A step of a neuron is a misfit if an input or a sum was at MOST or beyond it, or by
the rule LOIHI a sum was beyond L.

**Where it is computed.** Every executor runs one loop that knows nothing of all this, and keeps the
largest input that it met. After it, ``reach`` bounds every state: by that input, by the states at
the beginning, and by how much of its inputs a state can gather in so many steps (``gathered``). If
the bound is not CALM, which is far from the largest int32, or from 24 bits, the neurons of that
tile are computed again from their first step by the rule of ``to_state``, ``kept``, ``plus``,
``wrapped``, ``clipped`` and ``to_real``, which takes about three times as long. Both give the same
bits where both are right, so nobody can tell which has run but by the time it took.

Source: lava-dl neuron/dynamics/leaky_integrator.py, utils/int_utils.py; lava-nc proc/lif/models.py,
proc/rf/models.py, proc/rf_iz/models.py.
"""

from .language import jit, tl

DECAY_BITS = tl.constexpr(12)
DECAY_ONE = tl.constexpr(4096)  # a decay of 1
DECAY_FRACTION = tl.constexpr(4095)  # the bits below one
MAGNITUDE = tl.constexpr(0x7FFFFFFF)  # the bits of a float32 but for its sign
SIGN_TO_BIAS = tl.constexpr(20)  # from 32 copies of the sign to the bits below one
RINT = tl.constexpr(12582912.0)  # 1.5 * 2**23: adding it leaves no room for a fraction

DECAY_SCALE = 4096  # p_scale: a decay parameter of 4096 is a decay of 1
STATE_BITS = 6
STATE_SCALE = 1 << STATE_BITS  # s_scale is this many times w_scale
NEVER = 2**31 - 1  # a threshold that no state reaches: no spike and no reset

# rules for what does not fit; PLAIN is right where all does
PLAIN, SATURATE, LOIHI = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)

MOST = tl.constexpr(2**31 - 128)  # largest state, and the largest float32 that fits an int32
LEAST = tl.constexpr(-(2**31) + 128)
NAN = tl.constexpr(-(2**31))  # the state that is not a number

MOST_OF_CHIP = tl.constexpr(2**23 - 1)  # largest state of 24 bits; the smallest is its negative
TURN = tl.constexpr(2**24)  # what a current that wraps around loses or gains

# Units that the bound of a state has to stay below, by the rule: two such states have a sum that
# fits; of the chip, the bound itself is rounded
CALM = tl.constexpr(2.0**30)
CALM_OF_CHIP = tl.constexpr(2.0**23 - 2.0**13)


@jit
def decay(y, keep):
    """Return trunc(y * keep / 4096) for any int32 ``y`` and 0 <= keep <= 4096."""
    # y = 4096 * high + low with 0 <= low < 4096, so high * keep is exact and only low * keep is
    # shifted; the bias turns the floor of the shift into truncation. No 64-bit product.
    k = keep & 8191  # tells the compiler that 13 bits are enough
    high = y >> DECAY_BITS
    bias = (high.to(tl.uint32) >> SIGN_TO_BIAS).to(tl.int32)  # 4095 for negative y, else 0
    return high * k + (((y & DECAY_FRACTION) * k + bias) >> DECAY_BITS)


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
def to_state(x, scale, RULE: tl.constexpr):
    """Convert a float32 to an integer state, toward zero; beyond the integers by the rule."""
    if RULE:
        y = x * scale
        y = tl.minimum(tl.maximum(tl.where(y == y, y, 0.0), LEAST + 0.0), MOST + 0.0)
        return tl.where(x == x, y.to(tl.int32), NAN)
    else:
        return to_fixed(x, scale)


@jit
def to_real(y, scale, EXACT: tl.constexpr, RULE: tl.constexpr):
    """Convert a state to float32 by the rule."""
    if RULE:
        return tl.where(y == NAN, float("nan"), to_float(y, scale, EXACT))
    else:
        return to_float(y, scale, EXACT)


@jit
def to_next(y, scale, EXACT: tl.constexpr, RULE: tl.constexpr):
    """Pass a state from one stage to the next by the rule."""
    if RULE:
        return y if EXACT else to_state(to_real(y, scale, EXACT, RULE), scale, RULE)
    else:
        return through_float(y, scale, EXACT)


@jit
def kept(y, keep, RULE: tl.constexpr):
    """Return what is left of a state after one step, by the rule."""
    if RULE:
        return tl.where(y == NAN, NAN, decay(y, keep))
    else:
        return decay(y, keep)


@jit
def plus(a, b, RULE: tl.constexpr):
    """Add two states by the rule."""
    if RULE:
        y = a + b
        beyond = ((a ^ y) & (b ^ y)) < 0  # the sum has a sign that neither of them has
        y = tl.where(beyond, tl.where(a < 0, LEAST, MOST), tl.minimum(tl.maximum(y, LEAST), MOST))
        return tl.where((a == NAN) | (b == NAN), NAN, y)
    else:
        return a + b


@jit
def wrapped(y, RULE: tl.constexpr):
    """Return what becomes of a sum as a current: by the chip's rule it wraps around, once."""
    if RULE == LOIHI:
        high, low = y > MOST_OF_CHIP + 1, (y <= -MOST_OF_CHIP - 1) & (y != NAN)
        return tl.where(high, y - TURN, tl.where(low, y + TURN, y))
    else:
        return y


@jit
def clipped(y, RULE: tl.constexpr):
    """Return what becomes of a sum as another state: by the chip's rule it stays at the limit."""
    if RULE == LOIHI:
        return tl.where(y == NAN, NAN, tl.minimum(tl.maximum(y, -MOST_OF_CHIP), MOST_OF_CHIP))
    else:
        return y


@jit
def misfit(y, RULE: tl.constexpr):
    """Whether a sum, as ``plus`` returns it, does not fit a state."""
    if RULE == LOIHI:
        return (y != NAN) & (tl.abs(y) > MOST_OF_CHIP)
    else:
        return (y != NAN) & (tl.abs(y) >= MOST)


@jit
def spike_value(s, y, scale, GRADED: tl.constexpr, EXACT: tl.constexpr, RULE: tl.constexpr):
    """Return what a neuron sends, float32: 1, or its state ``y``, where the spike ``s`` is."""
    out = tl.where(s, to_float(y, scale, EXACT) if GRADED else 1.0, 0.0)
    if RULE:
        out = tl.where(y == NAN, float("nan"), out)
    return out


@jit
def round_even(x):
    """Round a float32 of magnitude below 2**22 to the nearest integer, ties to even."""
    return ((x + RINT) - RINT).to(tl.int32)


@jit
def multiplier_of(parameter):
    """Round a parameter in units of 1 / 4096; never outside [0, 4096], and 0 for NaN."""
    return round_even(tl.where(parameter > 0.0, tl.minimum(parameter, DECAY_ONE + 0.0), 0.0))


@jit
def keep_of(decay_parameter):
    """Return what a state keeps a step: 4096 minus the rounded decay, never outside [0, 4096]."""
    # in this order: with the constant on the left, Triton's interpreter makes it a constant
    return -multiplier_of(decay_parameter) + DECAY_ONE


@jit
def less_itself(x):
    """Return 0 for a finite number, NaN for infinity and NaN."""
    return x - x


@jit
def rest_of(decay_a, decay_b):
    """Return what a neuron's states are before the first step: 0, or NaN by a decay."""
    return less_itself(decay_a) + less_itself(decay_b)


@jit
def fraction_of(keep):
    """``keep`` as the float32 factor of the backward pass; exact."""
    return keep.to(tl.float32) * (1.0 / DECAY_ONE)


@jit
def gradient_after(y):
    """Return the gradient that a state gives, float32: 0, or NaN where it is NAN."""
    return tl.where(y == NAN, float("nan"), 0.0)


@jit
def larger(top, x):
    """Return the larger of a magnitude and that of ``x``, float32; NaN is the largest of all."""
    # as bits, which are ordered as magnitudes are: AMD takes three instructions for a maximum of
    # floats that keeps NaN
    bits = x.to(tl.int32, bitcast=True) & MAGNITUDE
    return tl.maximum(top.to(tl.int32, bitcast=True), bits).to(tl.float32, bitcast=True)


@jit
def one_unit(scale):
    """Return one unit, real: what rounding can add to a state a step."""
    return tl.div_rn(1.0, scale)


@jit
def both(a, b):
    """Return the sum of two magnitudes."""
    return tl.abs(a) + tl.abs(b)


@jit
def gathered(keep, T):
    """Return the most that a state can hold after T steps with inputs of at most 1, float32."""
    left = (-keep + DECAY_ONE).to(tl.float32)
    steps = T * 1.0
    # a division that is approximate on a GPU will do
    return tl.where(left > 0.0, tl.minimum(4096.0 / left, steps), steps)


@jit
def calm_of(CARE: tl.constexpr):
    """Return what the bound of a state has to stay below, by the rule of those that do not."""
    if CARE == LOIHI:
        return CALM_OF_CHIP
    else:
        return CALM


@jit
def calm_or_infinite(reach):
    """Return 0 where the bound of a state is CALM, else infinity, which stands for any input."""
    return tl.where(reach < CALM, 0.0, float("inf"))


@jit
def not_calm(top, gain, scale, CARE: tl.constexpr):
    """Return 1 if a state may not fit in any lane, else 0.

    ``top`` is the largest input and state at the beginning, real; ``gain`` bounds all states as a
    multiple of it; ``CARE`` is the rule for states that do not fit.
    """
    return tl.max(tl.where(top * scale * gain < calm_of(CARE), 0, 1))


_MOST: int = MOST.value
OVERFLOWS = {"saturate": SATURATE.value, "loihi": LOIHI.value}


def rule_of(overflow: str) -> int:
    """Return the rule that a name stands for.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    rule = OVERFLOWS.get(overflow)
    if rule is None:
        raise ValueError(
            f"overflow must be one of {', '.join(map(repr, OVERFLOWS))}; got {overflow!r}"
        )
    return rule


def units_of(value: float, scale: float) -> int:
    """Return the state nearest to a real value."""
    return max(-_MOST, min(round(value * scale), _MOST))


def is_power_of_two(scale: float) -> bool:
    """Whether the state scale is a power of two, so that states survive a trip through float32."""
    return scale >= 1 and float(scale).is_integer() and int(scale) & (int(scale) - 1) == 0
