"""What lifted step functions call instead of the Triton language: the same operations on scalars.

Imported by the generated modules only; importing it loads Numba.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

__all__ = [
    "abs",
    "div_rn",
    "exp2",
    "float32",
    "floor",
    "int32",
    "magnitude",
    "maximum",
    "minimum",
    "narrow",
    "note",
    "sqrt",
    "uint32",
    "where",
    "widest_vectors",
]

float32 = np.float32
int32 = np.int32
uint32 = np.uint32


def narrow(x):
    """Cast an int64 or float64, which Numba made of 32-bit operands, back to 32 bits."""
    raise NotImplementedError("only for compiled code")


@overload(narrow, inline="always")
def _narrow(x):
    if isinstance(x, types.Integer) and x.bitwidth == 64:
        return lambda x: np.int32(x)
    if x is types.float64:
        return lambda x: np.float32(x)
    return lambda x: x


@njit(forceinline=True)
def where(condition, a, b):
    """Select; both sides are evaluated."""
    return narrow(a) if condition else narrow(b)


@njit(forceinline=True)
def maximum(a, b):
    """Larger of two numbers."""
    return narrow(a) if a > b else narrow(b)


@njit(forceinline=True)
def minimum(a, b):
    """Smaller of two numbers."""
    return narrow(a) if a < b else narrow(b)


@njit(forceinline=True)
def abs(x):
    """Absolute value."""
    return narrow(-x) if x < 0 else narrow(x)


@njit(forceinline=True)
def floor(x):
    """Largest whole number that is not above ``x``, as a float32."""
    return np.float32(np.floor(x))


@njit(forceinline=True)
def sqrt(x):
    """Square root, as a float32."""
    return np.float32(np.sqrt(x))


@njit(forceinline=True, error_model="numpy")
def div_rn(a, b):
    """Correctly rounded float32 division."""
    return np.float32(a / b)


@intrinsic
def _float_of_bits(typingctx, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def magnitude(typingctx, x):
    """Bits of a float32 without its sign, an int32: ordered as magnitudes are, NaN above all."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(32))
        return builder.and_(bits, ir.Constant(bits.type, 0x7FFFFFFF))

    return types.int32(types.float32), codegen


@njit(forceinline=True, error_model="numpy")
def note(suspect, tile, top, gain, scale, calm):
    """Mark a tile for ``dispatch.run_watched`` if a state in it may not fit.

    ``top`` and ``gain`` are those of ``fixed_point.not_calm``, the largest of the tile, as
    ``magnitude`` returns them; the bound has to stay below ``calm``.
    """
    reach = np.float32(np.float32(_float_of_bits(top) * scale) * _float_of_bits(gain))
    if not reach < calm:
        suspect[0] = 1  # threads may do so at once
        suspect[1 + tile] = 1


@intrinsic
def widest_vectors(typingctx):
    """Let the function that calls this use all of a vector register.

    LLVM keeps to 256 bits where processors of the time clocked down for more; a sixth of the speed.
    """

    def codegen(context, builder, signature, args):
        # past llvmlite's list of attributes, which has none with a value
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


_RINT = np.float32(12582912.0)
# fit of 2**f on [-1/2, 1/2], relative error 2e-9; what is left is float32 rounding
_C = [
    np.float32(c)
    for c in (
        1.00000000055,
        0.693147205737,
        0.240226468906,
        0.0555032877697,
        0.0096184889578,
        0.00133999312178,
        0.000153458118185,
    )
]
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = _C


@njit(forceinline=True, error_model="numpy")
def exp2(x):
    """2 to the power x < 128, as plain arithmetic so that it vectorises; at least 2**-126."""
    x = maximum(x, np.float32(-126.0))
    whole = np.float32(np.float32(x + _RINT) - _RINT)
    f = np.float32(x - whole)
    exponent = np.int32((np.int32(whole) + np.int32(127)) << 23)
    return _polynomial(f) * _float_of_bits(exponent)


@njit(forceinline=True, error_model="numpy", fastmath={"contract"})
def _polynomial(f):
    """Horner's rule; contraction saves half of the instructions."""
    return ((((((_C6 * f + _C5) * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f) + _C0
