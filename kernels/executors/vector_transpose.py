"""Vector instructions that turn matrices, block by block of 16 x 16; see vector_ops.py."""

import numpy as np
from llvmlite import ir
from numba import njit, types

from .intrinsics import intrinsic
from .vectors import FLOAT, LONG, SIDE, load, pointer_to, repeated

_STAGES = 4  # logarithm of SIDE


def _transposed(builder, rows):
    """Transpose 16 vectors of 16: interleaving rows i and i + 8 does, four times."""
    places = ir.VectorType(ir.IntType(32), SIDE)
    halves = [
        ir.Constant(places, [h + i // 2 + i % 2 * SIDE for i in range(SIDE)])
        for h in (0, SIDE // 2)
    ]
    for _ in range(_STAGES):
        pairs = zip(rows[: SIDE // 2], rows[SIDE // 2 :], strict=True)
        rows = [builder.shuffle_vector(a, b, half) for a, b in pairs for half in halves]
    return rows


@intrinsic
def _transpose_block(typingctx, source, at, stride, target, target_at, target_stride, factor):
    """Transpose a block of 16 x 16: rows at ``at + i stride`` become columns.

    Both are float32, and ``factor`` None; or ``source`` is int16 and is multiplied by it.
    """

    def codegen(context, builder, signature, args):
        source, at, stride, target, target_at, target_stride, factor = args
        real = ir.VectorType(FLOAT, SIDE)
        rows = []
        for i in range(SIDE):
            place = builder.add(at, builder.mul(stride, ir.Constant(LONG, i)))
            row = load(context, builder, signature.args[0], source, place, SIDE)
            if signature.args[6] is not types.none:
                row = builder.fmul(builder.sitofp(row, real), repeated(builder, factor, SIDE))
            rows.append(row)
        for i, turned in enumerate(_transposed(builder, rows)):
            place = builder.add(target_at, builder.mul(target_stride, ir.Constant(LONG, i)))
            pointer = pointer_to(context, builder, signature.args[3], target, place, SIDE)
            builder.store(turned, pointer).align = 4
        return context.get_dummy_value()

    place = types.int64
    return types.void(source, place, place, target, place, place, factor), codegen


@njit(inline="always")
def transpose_piece(source, at, stride, R, C, target, target_at, target_stride, factor=None):
    """Turn the matrix ``[R, C]`` at ``at``, its rows ``stride`` apart, to ``[C, R]``; both flat.

    ``source`` is float32, or int16 and multiplied by ``factor``.
    """
    if R < SIDE or C < SIDE:
        for c in range(C):
            for r in range(R):
                entry = source[at + r * stride + c]
                if factor is not None:
                    entry = np.float32(entry) * factor
                target[target_at + c * target_stride + r] = entry
        return
    for c0 in range(0, C, SIDE):  # outermost: the target is written line by line
        c = min(c0, C - SIDE)  # the last block overlaps the one before
        for r0 in range(0, R, SIDE):
            r = min(r0, R - SIDE)
            _transpose_block(
                source, at + r * stride + c, stride,
                target, target_at + c * target_stride + r, target_stride, factor,
            )  # fmt: skip


@intrinsic
def transpose_to_codes(
    typingctx, source, at, stride, scale, target, target_at, target_stride, flip
):
    """Transpose a block of 16 x 16 float32, times ``scale``, to bytes: the number plus 128.

    ``flip``, an int32, is what each four bytes are combined with by exclusive or. Returns a uint32,
    not 0 if a product is no whole number from -128 to 127.
    """

    def codegen(context, builder, signature, args):
        source, at, stride, scale, target, target_at, target_stride, flip = args
        word = ir.IntType(32)
        words = ir.VectorType(word, SIDE)

        def every(value):
            return ir.Constant(words, [value] * SIDE)

        def shuffle(a, b, places):
            chosen = ir.Constant(ir.VectorType(word, len(places)), places)
            return builder.shuffle_vector(a, b, chosen)

        factor, flip = repeated(builder, scale, SIDE), repeated(builder, flip, SIDE)
        other = ir.Constant(ir.VectorType(ir.IntType(1), SIDE), [0] * SIDE)
        seen = every(0)
        fours = []  # a byte of each of four rows in a word
        for i in range(SIDE):
            place = builder.add(at, builder.mul(stride, ir.Constant(LONG, i)))
            level = load(context, builder, signature.args[0], source, place, SIDE)
            level = builder.fmul(level, factor)
            whole = builder.fptosi(level, words)
            back = builder.sitofp(whole, level.type)
            other = builder.or_(other, builder.fcmp_unordered("!=", back, level))
            byte = builder.add(whole, every(128))
            seen = builder.or_(seen, byte)  # has more than eight bits if one does
            if i % 4:
                byte = builder.shl(byte, every(i % 4 * 8))
                fours[-1] = builder.or_(fours[-1], byte)
            else:
                fours.append(byte)
        fours = [builder.xor(four, flip) for four in fours]
        # interleaved within pieces of four columns, which takes one instruction each
        pieces = range(0, SIDE, 4)
        low = [p + q for p in pieces for q in (0, SIDE, 1, SIDE + 1)]
        even = [p + q for p in pieces for q in (0, 1, SIDE, SIDE + 1)]
        high, odd = ([place + 2 for place in half] for half in (low, even))
        upper = [shuffle(fours[0], fours[1], half) for half in (low, high)]
        lower = [shuffle(fours[2], fours[3], half) for half in (low, high)]
        columns = [
            shuffle(a, b, half) for a, b in zip(upper, lower, strict=True) for half in (even, odd)
        ]
        for c in range(SIDE):
            column = shuffle(columns[c % 4], columns[c % 4], [c // 4 * 4 + k for k in range(4)])
            place = builder.add(target_at, builder.mul(target_stride, ir.Constant(LONG, c)))
            pointer = pointer_to(context, builder, signature.args[4], target, place, SIDE)
            builder.store(column, builder.bitcast(pointer, column.type.as_pointer())).align = 1
        other = builder.or_(other, builder.icmp_unsigned(">", seen, every(255)))
        return builder.zext(builder.bitcast(other, ir.IntType(SIDE)), word)

    place = types.int64
    signature = types.uint32(source, place, place, scale, target, place, place, types.int32)
    return signature, codegen


@njit(inline="always")
def transpose_rows(source, at, R, C, first, last, target, target_at):
    """Turn rows ``[first, last)`` of the matrix ``[R, C]`` at ``at`` to columns of ``[C, R]``.

    Source and target are flat. ``first`` and ``last`` are 16 rows apart or more, unless R < 16.
    """
    # two blocks side by side: rows that do not begin with a cache line share one between blocks
    wide = min(C, 2 * SIDE)
    for span in range(0, C, 2 * SIDE):
        c = min(span, C - wide)
        transpose_piece(
            source, at + first * C + c, C, last - first, wide,
            target, target_at + c * R + first, R,
        )  # fmt: skip
