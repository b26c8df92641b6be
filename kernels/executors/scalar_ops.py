"""What lifted step functions call instead of the Triton language: the same operations on scalars.

Imported by the generated modules only; importing it loads Numba.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

__all__ = [
    "abs",
    "add",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "div_rn",
    "divide",
    "exp2",
    "float32",
    "floor",
    "int32",
    "left_shift",
    "magnitude",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "note",
    "right_shift",
    "sqrt",
    "state_at",
    "subtract",
    "uint32",
    "where",
    "widest_vectors",
]

_FLOAT = ir.FloatType()


# Intrinsics, not functions: Numba would compile a function on its own, and then again to inline it.
# The operators of Python would do, if looking them up did not take Numba longer than all the rest.


def _narrowed(kind):
    """Return the type of 32 bits that stands for one of 64."""
    kind = types.unliteral(kind)
    if isinstance(kind, types.Integer) and kind.bitwidth == 64:
        return types.int32
    return types.float32 if kind is types.float64 else kind


def _common(typingctx, *kinds):
    """Return the type that holds numbers of several, each narrowed before."""
    kind = typingctx.unify_types(*map(_narrowed, kinds))
    if kind is None:
        raise TypingError(f"numbers of the types {', '.join(map(str, kinds))} have none in common")
    return kind


def _cast(context, builder, signature, args, kind):
    """Return the arguments as one type, each narrowed before."""
    narrowed = [
        (_narrowed(given), context.cast(builder, value, given, _narrowed(given)))
        for given, value in zip(signature.args, args, strict=True)
    ]
    return [context.cast(builder, value, given, kind) for given, value in narrowed]


def _conversion(kind):
    @intrinsic
    def conversion(typingctx, x):
        def codegen(context, builder, signature, args):
            return context.cast(builder, args[0], signature.args[0], kind)

        return kind(x), codegen

    return conversion


float32 = _conversion(types.float32)
int32 = _conversion(types.int32)
uint32 = _conversion(types.uint32)


def _operation(of_floats, of_signed, of_unsigned=None):
    """Return an operation on two numbers, which does not leave 32 bits."""
    of_unsigned = of_unsigned or of_signed

    @intrinsic
    def operation(typingctx, a, b):
        kind = _common(typingctx, a, b)
        if of_signed is None and not isinstance(kind, types.Float):
            kind = types.float64  # a quotient of whole numbers

        def codegen(context, builder, signature, args):
            a, b = _cast(context, builder, signature, args, kind)
            if isinstance(kind, types.Float):
                name = of_floats
            else:
                name = of_signed if getattr(kind, "signed", False) else of_unsigned
            return context.cast(builder, getattr(builder, name)(a, b), kind, _narrowed(kind))

        return _narrowed(kind)(a, b), codegen

    return operation


add = _operation("fadd", "add")
subtract = _operation("fsub", "sub")
multiply = _operation("fmul", "mul")
divide = _operation("fdiv", None)
left_shift = _operation(None, "shl")
right_shift = _operation(None, "ashr", "lshr")
bitwise_and = _operation(None, "and_")
bitwise_or = _operation(None, "or_")
bitwise_xor = _operation(None, "xor")


@intrinsic
def negative(typingctx, x):
    """Change the sign."""
    kind = _narrowed(x)

    def codegen(context, builder, signature, args):
        (y,) = _cast(context, builder, signature, args, kind)
        return builder.fsub(y.type(-0.0), y) if isinstance(kind, types.Float) else builder.neg(y)

    return kind(x), codegen


@intrinsic
def where(typingctx, condition, a, b):
    """Select; both sides are evaluated."""
    kind = _common(typingctx, a, b)

    def codegen(context, builder, signature, args):
        a, b = _cast(context, builder, kind(*signature.args[1:]), args[1:], kind)
        condition = context.cast(builder, args[0], signature.args[0], types.boolean)
        return builder.select(condition, a, b)

    return kind(condition, a, b), codegen


def _compare(builder, sign, kind, a, b):
    if isinstance(kind, types.Float):
        return builder.fcmp_ordered(sign, a, b)
    compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
    return compare(sign, a, b)


def _choice(sign):
    """Return a function that selects the first of two numbers where the sign holds between both."""

    @intrinsic
    def choice(typingctx, a, b):
        kind = _common(typingctx, a, b)

        def codegen(context, builder, signature, args):
            a, b = _cast(context, builder, signature, args, kind)
            return builder.select(_compare(builder, sign, kind, a, b), a, b)

        return kind(a, b), codegen

    return choice


maximum = _choice(">")
minimum = _choice("<")


@intrinsic
def abs(typingctx, x):
    """Absolute value."""
    kind = _narrowed(x)

    def codegen(context, builder, signature, args):
        (y,) = _cast(context, builder, signature, args, kind)
        turned = builder.fneg(y) if isinstance(kind, types.Float) else builder.neg(y)
        return builder.select(_compare(builder, "<", kind, y, y.type(0)), turned, y)

    return kind(x), codegen


def _function(name):
    """Return a function of LLVM's, of a float32."""

    @intrinsic
    def function(typingctx, x):
        def codegen(context, builder, signature, args):
            called = builder.module.declare_intrinsic(name, (_FLOAT,))
            return builder.call(called, _cast(context, builder, signature, args, types.float32))

        return types.float32(x), codegen

    return function


floor = _function("llvm.floor")
sqrt = _function("llvm.sqrt")


@intrinsic
def div_rn(typingctx, a, b):
    """Correctly rounded float32 division."""

    def codegen(context, builder, signature, args):
        return builder.fdiv(*_cast(context, builder, signature, args, types.float32))

    return types.float32(a, b), codegen


@intrinsic
def magnitude(typingctx, x):
    """Bits of a float32 without its sign, an int32: ordered as magnitudes are, NaN above all."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(32))
        return builder.and_(bits, ir.Constant(bits.type, 0x7FFFFFFF))

    return types.int32(types.float32), codegen


@intrinsic
def _of_magnitude(typingctx, bits):
    """Return the float32 whose ``magnitude`` was given."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], _FLOAT)

    return types.float32(types.int32), codegen


@njit(forceinline=True, error_model="numpy")
def note(suspect, tile, top, gain, scale, calm):
    """Mark a tile for ``dispatch.run_watched`` if a state in it may not fit.

    ``top`` and ``gain`` are those of ``fixed_point.not_calm``, the largest of the tile, as
    ``magnitude`` returns them; the bound has to stay below ``calm``.
    """
    reach = np.float32(np.float32(_of_magnitude(top) * scale) * _of_magnitude(gain))
    if not reach < calm:
        suspect[0] = 1  # threads may do so at once
        suspect[1 + tile] = 1


@intrinsic
def state_at(typingctx, address, N, C):
    """Return the state ``[N, C]`` float32 at an address, which may be 0 if it is not touched."""
    kind = types.Array(types.float32, 2, "C")

    def codegen(context, builder, signature, args):
        address, *sizes = (
            context.cast(builder, a, given, types.intp)
            for a, given in zip(args, signature.args, strict=True)
        )
        array = context.make_array(kind)(context, builder)
        width = ir.Constant(address.type, 4)
        populate_array(
            array, builder.inttoptr(address, array.data.type), sizes,
            [builder.mul(sizes[1], width), width], width, None,
        )  # fmt: skip
        return array._getvalue()

    return kind(address, N, C), codegen


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


_RINT = 12582912.0  # 1.5 * 2**23: adding it leaves no room for a fraction
# fit of 2**f on [-1/2, 1/2], relative error 2e-9; what is left is float32 rounding
_C = (
    1.00000000055,
    0.693147205737,
    0.240226468906,
    0.0555032877697,
    0.0096184889578,
    0.00133999312178,
    0.000153458118185,
)


@intrinsic
def exp2(typingctx, x):
    """2 to the power x < 128, as plain arithmetic so that it vectorises; at least 2**-126."""

    def codegen(context, builder, signature, args):
        (x,) = _cast(context, builder, signature, args, types.float32)
        x = builder.select(builder.fcmp_ordered(">", x, _FLOAT(-126.0)), x, _FLOAT(-126.0))
        whole = builder.fsub(builder.fadd(x, _FLOAT(_RINT)), _FLOAT(_RINT))
        f = builder.fsub(x, whole)
        *others, highest = (_FLOAT(float(np.float32(c))) for c in _C)
        y = highest  # Horner's rule; contraction saves half of the instructions
        for c in reversed(others):
            y = builder.fadd(builder.fmul(y, f, flags=["contract"]), c, flags=["contract"])
        word = ir.IntType(32)
        exponent = builder.shl(builder.add(builder.fptosi(whole, word), word(127)), word(23))
        return builder.fmul(y, builder.bitcast(exponent, _FLOAT))

    return types.float32(x), codegen
