"""Vector instructions that loops call by name, where LLVM does not find them by itself.

They are written as generic vectors, which LLVM maps to what the machine has. Arrays are flat or
one-dimensional and contiguous; places and strides count elements. Imported by the generated modules
only; importing it loads Numba.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = [
    "add_row",
    "collect_bits",
    "count_bits",
    "lowest_bit",
    "transpose_piece",
    "transpose_rows",
    "unequal_bits",
]

_LONG = ir.IntType(64)
_FLOAT = ir.FloatType()
_SIDE = 16  # of a block of ``_transpose_block``
_STAGES = 4  # its logarithm
_ROWS = 8  # of a block of ``collect_bits``


def _vector_at(context, builder, array_type, array, at, lanes):
    """Point to ``lanes`` elements of an array from ``at`` on."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(data.type.pointee, lanes)
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _same(builder, value, lanes):
    """Return a vector of ``lanes`` times ``value``."""
    one = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, ir.Constant(_LONG, 0)
    )
    places = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, one, places)


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
def transpose_piece(source, at, stride, R, C, target, target_at, target_stride):
    """Turn the matrix ``[R, C]`` at ``at``, its rows ``stride`` apart, to ``[C, R]``; both flat."""
    if R < _SIDE or C < _SIDE:
        for c in range(C):
            for r in range(R):
                target[target_at + c * target_stride + r] = source[at + r * stride + c]
        return
    for r0 in range(0, R, _SIDE):
        r = min(r0, R - _SIDE)  # the last block overlaps the one before
        for c0 in range(0, C, _SIDE):
            c = min(c0, C - _SIDE)
            _transpose_block(
                source, at + r * stride + c, stride,
                target, target_at + c * target_stride + r, target_stride,
            )  # fmt: skip


@njit(inline="always")
def transpose_rows(source, at, R, C, first, last, target, target_at):
    """Turn rows ``[first, last)`` of the matrix ``[R, C]`` at ``at`` to columns of ``[C, R]``.

    Source and target are flat. ``first`` and ``last`` are 16 rows apart or more, unless R < 16.
    """
    # two blocks side by side: rows that do not begin with a cache line share one between blocks
    wide = min(C, 2 * _SIDE)
    for span in range(0, C, 2 * _SIDE):
        c = min(span, C - wide)
        transpose_piece(
            source, at + first * C + c, C, last - first, wide,
            target, target_at + c * R + first, R,
        )  # fmt: skip


@intrinsic(prefer_literal=True)
def _add_block(typingctx, target, target_at, source, at, factor, lanes):
    """Add ``lanes`` float32 of ``source``, times ``factor``, to ``target``."""

    def codegen(context, builder, signature, args):
        target, target_at, source, at, factor, _ = args
        count = lanes.literal_value
        old = _load(context, builder, signature.args[0], target, target_at, count)
        term = _load(context, builder, signature.args[2], source, at, count)
        if signature.args[4] is not types.none:
            term = builder.fmul(term, _same(builder, factor, count))
        pointer = _vector_at(context, builder, signature.args[0], target, target_at, count)
        builder.store(builder.fadd(old, term), pointer).align = 4
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, factor, lanes), codegen


@njit(inline="always")
def add_row(target, target_at, source, at, n, factor):
    """Add ``n`` entries of ``source`` from ``at`` on, times ``factor`` (None for 1), to ``target``.

    Both are flat and do not overlap: LLVM would ask that at every call.
    """
    whole = n // 32 * 32
    for i in range(0, whole, 32):
        _add_block(target, target_at + i, source, at + i, factor, 32)
    if n - whole >= 16:
        _add_block(target, target_at + whole, source, at + whole, factor, 16)
        whole += 16
    for i in range(whole, n):
        target[target_at + i] += source[at + i] if factor is None else source[at + i] * factor


def _load(context, builder, array_type, array, at, lanes):
    """Load ``lanes`` elements of an array of float32, integers of a byte or bool."""
    loaded = builder.load(_vector_at(context, builder, array_type, array, at, lanes))
    loaded.align = 4 if loaded.type.element == _FLOAT else 1
    return loaded


def _unequal(builder, vector, value):
    """Compare a vector with a constant, lane by lane; what is not a number differs."""
    constant = ir.Constant(vector.type, [value] * vector.type.count)
    if vector.type.element == _FLOAT:
        return builder.fcmp_unordered("!=", vector, constant)
    return builder.icmp_signed("!=", vector, constant)


@intrinsic(prefer_literal=True)
def unequal_bits(typingctx, array, at, value):
    """Compare 32 elements from ``at`` on with a literal; bit i is set where element i differs."""

    def codegen(context, builder, signature, args):
        vector = _load(context, builder, signature.args[0], *args[:2], 32)
        return builder.bitcast(_unequal(builder, vector, value.literal_value), ir.IntType(32))

    return types.uint32(array, types.int64, value), codegen


@intrinsic
def collect_bits(typingctx, array, at, stride, words, t, first):
    """Set bit ``first + r`` of ``words[t + i]`` where ``array[at + r stride + i]`` is not 0.

    For 8 rows r and 16 entries i. Returns a uint32, not 0 if one of those is neither 0 nor 1.
    """

    def codegen(context, builder, signature, args):
        array, at, stride, words, t, first = args
        bits = ir.VectorType(ir.IntType(32), _SIDE)
        pointer = _vector_at(context, builder, signature.args[3], words, t, _SIDE)
        word = builder.load(pointer)
        word.align = 4
        one = ir.Constant(ir.IntType(32), 1)
        bit = _same(builder, builder.shl(one, builder.trunc(first, ir.IntType(32))), _SIDE)
        other = ir.Constant(ir.VectorType(ir.IntType(1), _SIDE), [0] * _SIDE)
        for r in range(_ROWS):
            place = builder.add(at, builder.mul(stride, ir.Constant(_LONG, r)))
            row = _load(context, builder, signature.args[0], array, place, _SIDE)
            differs = _unequal(builder, row, 0)
            mark = builder.shl(bit, ir.Constant(bits, [r] * _SIDE))
            word = builder.or_(word, builder.select(differs, mark, ir.Constant(bits, [0] * _SIDE)))
            other = builder.or_(other, builder.and_(differs, _unequal(builder, row, 1)))
        builder.store(word, pointer).align = 4
        return builder.zext(builder.bitcast(other, ir.IntType(_SIDE)), ir.IntType(32))

    place = types.int64
    return types.uint32(array, place, place, words, place, place), codegen


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
