"""What the loops of a tile call beside operations on numbers: its arrays, states, marks, places.

Imported by the generated modules only; importing it loads Numba.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.np.arrayobj import populate_array

from .intrinsics import intrinsic
from .vectors import FLOAT, LINE, LONG

__all__ = [
    "clear",
    "note",
    "reciprocal",
    "scratch",
    "state_at",
    "widest_vectors",
    "zeroed_scratch",
]

# bytes between arrays on the stack: a load waits for a store before it to an address that differs
# by a multiple of 4096, which the size of a tile is
_APART = 6 * LINE


@intrinsic
def note(typingctx, suspect, tile, top, gain, scale, calm):
    """Mark a tile for ``dispatch.run_watched`` if a state in it may not fit.

    ``top`` and ``gain`` are those of ``fixed_point.not_calm``, the largest of the tile, as
    ``magnitude`` returns them; the bound has to stay below ``calm``.
    """

    def codegen(context, builder, signature, args):
        suspect, tile, top, gain, scale, calm = args
        marks = context.make_array(signature.args[0])(context, builder, suspect).data
        reach = builder.fmul(builder.bitcast(top, FLOAT), scale)
        reach = builder.fmul(reach, builder.bitcast(gain, FLOAT))
        with builder.if_then(builder.fcmp_unordered(">=", reach, calm)):  # or not a number
            for place in (LONG(0), builder.add(tile, LONG(1))):  # threads may do so at once
                builder.store(ir.Constant(ir.IntType(32), 1), builder.gep(marks, [place]))
        return context.get_dummy_value()

    real, whole = types.float32, types.int32
    return types.void(suspect, types.int64, whole, whole, real, real), codegen


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


def _scratch(is_zero):
    @intrinsic(prefer_literal=True)
    def scratch(typingctx, n, dtype):
        kind = types.Array(dtype.dtype, 1, "C")

        def codegen(context, builder, signature, args):
            element = context.get_data_type(kind.dtype)
            width, size = context.get_abi_sizeof(element), n.literal_value
            with builder.goto_entry_block():
                room = builder.alloca(ir.ArrayType(element, size + _APART // width))
            room.align = LINE
            if is_zero:
                cgutils.memset(builder, room, LONG(size * width), 0)
            array = context.make_array(kind)(context, builder)
            populate_array(
                array, builder.bitcast(room, element.as_pointer()), [LONG(size)], [LONG(width)],
                LONG(width), None,
            )  # fmt: skip
            return array._getvalue()

        return kind(n, dtype), codegen

    return scratch


scratch = _scratch(is_zero=False)  # an array of n entries, a literal, on the stack
zeroed_scratch = _scratch(is_zero=True)


@intrinsic
def clear(typingctx, array):
    """Fill a contiguous array with zeros."""
    if array.layout != "C":
        raise TypingError(f"an array to be cleared is contiguous; got {array}")

    def codegen(context, builder, signature, args):
        view = context.make_array(signature.args[0])(context, builder, args[0])
        cgutils.memset(builder, view.data, builder.mul(view.nitems, view.itemsize), 0)
        return context.get_dummy_value()

    return types.void(array), codegen


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


@njit(inline="always")
def reciprocal(n, most):
    """Return r and s such that ``k * r >> s`` is ``k // n`` for whole numbers up to ``most``."""
    shift = np.int64(0)
    while np.int64(1) << shift <= np.int64(most) * n:
        shift += 1
    return (np.int64(1) << shift) // n + 1, shift
