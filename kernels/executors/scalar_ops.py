"""What lifted step functions call instead of the Triton language: the same operations on scalars.

Imported by the generated modules only; importing it loads Numba.
"""

import ast
import inspect

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError

from .intrinsics import intrinsic

__all__ = [
    "abs",
    "add",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "div_rn",
    "divide",
    "exp2",
    "expression",
    "float32",
    "floor",
    "int32",
    "left_shift",
    "magnitude",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "right_shift",
    "sqrt",
    "subtract",
    "uint32",
    "where",
]

_FLOAT = ir.FloatType()
_LONG = ir.IntType(64)
_LINE = 64  # bytes of a cache line
_SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}

OPERATIONS = {}  # how each operation is typed and written, by name: what expressions are made of


# Intrinsics, not functions: Numba would compile a function on its own, and then again to inline it.
# The operators of Python would do, if looking them up did not take Numba longer than all the rest.


def _narrowed(kind):
    """Return the type of 32 bits that stands for one of 64."""
    kind = types.unliteral(kind)
    if kind in (types.int64, types.uint64):
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


def _operation(name):
    """Mark what types and writes an operation on scalars."""

    def mark(define):
        OPERATIONS[name] = define
        return intrinsic(define)

    return mark


def _conversion(name, kind):
    @_operation(name)
    def conversion(typingctx, x):
        def codegen(context, builder, signature, args):
            return context.cast(builder, args[0], signature.args[0], kind)

        return kind(x), codegen

    return conversion


float32 = _conversion("float32", types.float32)
int32 = _conversion("int32", types.int32)
uint32 = _conversion("uint32", types.uint32)


def _of_two(name, of_floats, of_signed, of_unsigned=None):
    """Return an operation on two numbers, which does not leave 32 bits."""
    of_unsigned = of_unsigned or of_signed

    @_operation(name)
    def operation(typingctx, a, b):
        kind = _common(typingctx, a, b)
        if of_signed is None and not isinstance(kind, types.Float):
            kind = types.float64  # a quotient of whole numbers

        def codegen(context, builder, signature, args):
            a, b = _cast(context, builder, signature, args, kind)
            if isinstance(kind, types.Float):
                how = of_floats
            else:
                how = of_signed if getattr(kind, "signed", False) else of_unsigned
            return context.cast(builder, getattr(builder, how)(a, b), kind, _narrowed(kind))

        return _narrowed(kind)(a, b), codegen

    return operation


add = _of_two("add", "fadd", "add")
subtract = _of_two("subtract", "fsub", "sub")
multiply = _of_two("multiply", "fmul", "mul")
divide = _of_two("divide", "fdiv", None)
left_shift = _of_two("left_shift", None, "shl")
right_shift = _of_two("right_shift", None, "ashr", "lshr")
bitwise_and = _of_two("bitwise_and", None, "and_")
bitwise_or = _of_two("bitwise_or", None, "or_")
bitwise_xor = _of_two("bitwise_xor", None, "xor")


@_operation("negative")
def negative(typingctx, x):
    """Change the sign."""
    kind = _narrowed(x)

    def codegen(context, builder, signature, args):
        (y,) = _cast(context, builder, signature, args, kind)
        return builder.fsub(y.type(-0.0), y) if isinstance(kind, types.Float) else builder.neg(y)

    return kind(x), codegen


@_operation("where")
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
        compare = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        return compare(sign, a, b)
    compare = builder.icmp_signed if getattr(kind, "signed", False) else builder.icmp_unsigned
    return compare(sign, a, b)


def _choice(name, sign):
    """Return a function that selects the first of two numbers where the sign holds between both."""

    @_operation(name)
    def choice(typingctx, a, b):
        kind = _common(typingctx, a, b)

        def codegen(context, builder, signature, args):
            a, b = _cast(context, builder, signature, args, kind)
            return builder.select(_compare(builder, sign, kind, a, b), a, b)

        return kind(a, b), codegen

    return choice


maximum = _choice("maximum", ">")
minimum = _choice("minimum", "<")


@_operation("abs")
def abs(typingctx, x):
    """Absolute value."""
    kind = _narrowed(x)

    def codegen(context, builder, signature, args):
        (y,) = _cast(context, builder, signature, args, kind)
        turned = builder.fneg(y) if isinstance(kind, types.Float) else builder.neg(y)
        return builder.select(_compare(builder, "<", kind, y, y.type(0)), turned, y)

    return kind(x), codegen


def _function(name, of_llvm):
    """Return a function of LLVM's, of a float32."""

    @_operation(name)
    def function(typingctx, x):
        def codegen(context, builder, signature, args):
            called = builder.module.declare_intrinsic(of_llvm, (_FLOAT,))
            return builder.call(called, _cast(context, builder, signature, args, types.float32))

        return types.float32(x), codegen

    return function


floor = _function("floor", "llvm.floor")
sqrt = _function("sqrt", "llvm.sqrt")


@_operation("div_rn")
def div_rn(typingctx, a, b):
    """Correctly rounded float32 division."""

    def codegen(context, builder, signature, args):
        return builder.fdiv(*_cast(context, builder, signature, args, types.float32))

    return types.float32(a, b), codegen


@_operation("magnitude")
def magnitude(typingctx, x):
    """Bits of a float32 without its sign, an int32: ordered as magnitudes are, NaN above all."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(32))
        return builder.and_(bits, ir.Constant(bits.type, 0x7FFFFFFF))

    return types.int32(types.float32), codegen


def expression(text):
    """Return a function that evaluates an expression of operations.

    ``text`` is a lambda of numbers. It calls operations, compares as Python does, and its constants
    are plain ones.
    """
    function = ast.parse(text, mode="eval").body
    parameters = [a.arg for a in function.args.args]

    def define(typingctx, *given):
        kinds = dict(zip(parameters, given, strict=True))
        kind, write = _typed(typingctx, function.body, kinds)

        def codegen(context, builder, signature, args):
            return write(context, builder, dict(zip(parameters, args, strict=True)))

        return kind(*given), codegen

    # Numba binds arguments to parameters by this, and knows no starred ones
    define.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in ("typingctx", *parameters)
        ]
    )
    return intrinsic(define)


def _typed(typingctx, node, kinds):
    """Return the type of an expression, and what writes it, given the parameters' values."""
    if isinstance(node, ast.Name):
        return kinds[node.id], lambda context, builder, values: values[node.id]
    if isinstance(node, ast.Compare):
        return _compared(typingctx, node, kinds)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in OPERATIONS:
            return _called(typingctx, node, kinds)
        value = float(ast.literal_eval(node.args[0]))
    else:
        value = ast.literal_eval(node)
    kind = types.float64 if isinstance(value, float) else types.int64
    return kind, lambda context, builder, values: context.get_constant(kind, value)


def _called(typingctx, node, kinds):
    parts = [_typed(typingctx, argument, kinds) for argument in node.args]
    signature, codegen = OPERATIONS[node.func.id](typingctx, *(kind for kind, _ in parts))

    def write(context, builder, values):
        args = (
            context.cast(builder, part(context, builder, values), kind, taken)
            for (kind, part), taken in zip(parts, signature.args, strict=True)
        )
        return codegen(context, builder, signature, [*args])

    return signature.return_type, write


def _compared(typingctx, node, kinds):
    parts = [_typed(typingctx, side, kinds) for side in (node.left, *node.comparators)]

    def write(context, builder, values):
        sides = [(kind, part(context, builder, values)) for kind, part in parts]
        return compared(typingctx, context, builder, node.ops[0], *sides)[1]

    return types.boolean, write


def compared(typingctx, context, builder, sign, *sides):
    """Write a comparison of two pairs of type and value, as one type; return such a pair."""
    kind = typingctx.unify_types(*(types.unliteral(k) for k, _ in sides))
    a, b = (context.cast(builder, value, given, kind) for given, value in sides)
    return types.boolean, _compare(builder, _SIGNS[type(sign)], kind, a, b)


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


@_operation("exp2")
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
