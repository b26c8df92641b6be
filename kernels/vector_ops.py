"""Vector instructions that loops call by name, where LLVM does not find them by itself.

They are written as generic vectors, which LLVM maps to what the machine has. Arrays are flat or
one-dimensional and contiguous; places and strides count elements. Imported by the generated modules
only; importing it loads Numba.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["add_row", "count_bits", "lowest_bit", "transpose_rows", "unequal_bits"]

_LONG = ir.IntType(64)
_FLOAT = ir.FloatType()
_SIDE = 16  # of a block of ``_transpose_block``
_STAGES = 4  # its logarithm


def _vector_at(context, builder, array_type, array, at, lanes):
    """Point to ``lanes`` elements of an array from ``at`` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), ir.VectorType(_FLOAT, lanes).as_pointer())


@intrinsic
def _transpose_block(typingctx, source, at, stride, target, target_at, target_stride):
    """Transpose a block of 16 x 16 float32: rows at ``at + i stride`` become columns."""

    def codegen(context, builder, signature, args):
        places = ir.VectorType(ir.IntType(32), _SIDE)

        def row(k, i):
            at = builder.add(args[k + 1], builder.mul(args[k + 2], ir.Constant(_LONG, i)))
            return _vector_at(context, builder, signature.args[k], args[k], at, _SIDE)

        rows = []
        for i in range(_SIDE):
            rows.append(builder.load(row(0, i)))
            rows[-1].align = 4
        # interleaving rows i and i + 8 four times is a transposition
        halves = [
            ir.Constant(places, [h + i // 2 + i % 2 * _SIDE for i in range(_SIDE)])
            for h in (0, _SIDE // 2)
        ]
        for _ in range(_STAGES):
            pairs = zip(rows[: _SIDE // 2], rows[_SIDE // 2 :], strict=True)
            rows = [builder.shuffle_vector(a, b, half) for a, b in pairs for half in halves]
        for i in range(_SIDE):
            builder.store(rows[i], row(3, i)).align = 4
        return context.get_dummy_value()

    place = types.int64
    return types.void(source, place, place, target, place, place), codegen


@njit(inline="always")
def transpose_rows(source, at, R, C, first, last, target, target_at):
    """Turn rows ``[first, last)`` of the matrix ``[R, C]`` at ``at`` to columns of ``[C, R]``.

    Source and target are flat. ``first`` and ``last`` are 16 rows apart or more, unless R < 16.
    """
    if R < _SIDE or C < _SIDE:
        for c in range(C):
            for r in range(first, last):
                target[target_at + c * R + r] = source[at + r * C + c]
        return
    # two blocks side by side: rows that do not begin with a cache line share one between blocks
    for span in range(0, C, 2 * _SIDE):
        for r0 in range(first, last, _SIDE):
            r = min(r0, last - _SIDE)
            for c0 in range(span, min(span + 2 * _SIDE, C), _SIDE):
                c = min(c0, C - _SIDE)  # the last block overlaps the one before
                _transpose_block(source, at + r * C + c, C, target, target_at + c * R + r, R)


@intrinsic
def _add_block(typingctx, target, target_at, source, at, factor):
    """Add 16 float32 of ``source``, times ``factor``, to ``target``."""

    def codegen(context, builder, signature, args):
        to, other = (
            _vector_at(context, builder, signature.args[k], *args[k : k + 2], _SIDE) for k in (0, 2)
        )
        vectors = []
        for pointer in (to, other):
            vectors.append(builder.load(pointer))
            vectors[-1].align = 4
        term = vectors[1]
        if signature.args[4] is not types.none:
            vector = ir.VectorType(_FLOAT, _SIDE)
            one = builder.insert_element(
                ir.Constant(vector, ir.Undefined), args[4], ir.Constant(_LONG, 0)
            )
            same = ir.Constant(ir.VectorType(ir.IntType(32), _SIDE), [0] * _SIDE)
            term = builder.fmul(term, builder.shuffle_vector(one, one, same))
        builder.store(builder.fadd(vectors[0], term), to).align = 4
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, factor), codegen


@njit(inline="always")
def add_row(target, target_at, source, at, n, factor):
    """Add ``n`` entries of ``source`` from ``at`` on, times ``factor`` (None for 1), to ``target``.

    Both are flat and do not overlap: LLVM would ask that at every call.
    """
    whole = n // _SIDE * _SIDE
    for i in range(0, whole, _SIDE):
        _add_block(target, target_at + i, source, at + i, factor)
    for i in range(whole, n):
        target[target_at + i] += source[at + i] if factor is None else source[at + i] * factor


@intrinsic
def unequal_bits(typingctx, array, at, value):
    """Compare 32 float32 from ``at`` on with ``value``; bit i is set where element i differs."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(_FLOAT, 32)
        source = builder.load(_vector_at(context, builder, signature.args[0], *args[:2], 32))
        source.align = 4
        one = builder.insert_element(
            ir.Constant(vector, ir.Undefined), args[2], ir.Constant(_LONG, 0)
        )
        same = ir.Constant(ir.VectorType(ir.IntType(32), 32), [0] * 32)
        differs = builder.fcmp_unordered("!=", source, builder.shuffle_vector(one, one, same))
        return builder.bitcast(differs, ir.IntType(32))

    return types.uint32(array, types.int64, types.float32), codegen


@intrinsic
def lowest_bit(typingctx, word):
    """Place of the lowest bit that is set in a uint32, which is not 0."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.cttz(args[0], ir.Constant(ir.IntType(1), 1)), _LONG)

    return types.int64(types.uint32), codegen


@intrinsic
def count_bits(typingctx, word):
    """How many bits are set in a uint32."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int32(types.uint32), codegen
