"""Vector instructions that turn matrices, block by block; see vector_ops.py."""

import numpy as np
from llvmlite import ir
from numba import njit, types

from .intrinsics import intrinsic
from .vector_sums import prefetch
from .vectors import FLOAT, LONG, SIDE, load, pointer_to, repeated

_EDGE = 8  # of a block of ``_transpose_block``: no more vectors than an AVX2 processor holds
_QUARTER = 4  # lanes within which AVX2 moves entries by one instruction


def _transposed(builder, half):
    """Transpose a block of 8 x 8; ``half(i, k)`` gives entries ``4 k`` to ``4 k + 3`` of row i.

    Rows i and i + 4 lie side by side, so that all else stays within four lanes: an instruction
    each, on vectors of 256 bits as on narrower ones.
    """
    columns = []
    for k in range(_EDGE // _QUARTER):
        pairs = [_shuffled(builder, half(i, k), half(i + _QUARTER, k), range(_EDGE))
                 for i in range(_QUARTER)]  # fmt: skip
        low, high = ([p + q for p in (0, _QUARTER) for q in (h, _EDGE + h, h + 1, _EDGE + h + 1)]
                     for h in (0, 2))  # fmt: skip
        even, odd = ([p + q for p in (0, _QUARTER) for q in (h, h + 1, _EDGE + h, _EDGE + h + 1)]
                     for h in (0, 2))  # fmt: skip
        upper = [_shuffled(builder, pairs[0], pairs[1], places) for places in (low, high)]
        lower = [_shuffled(builder, pairs[2], pairs[3], places) for places in (low, high)]
        for a, b in zip(upper, lower, strict=True):
            columns += [_shuffled(builder, a, b, places) for places in (even, odd)]
    return columns


def _shuffled(builder, a, b, places):
    kind = ir.VectorType(ir.IntType(32), len(places))
    return builder.shuffle_vector(a, b, ir.Constant(kind, list(places)))


@intrinsic
def _transpose_block(typingctx, source, at, stride, target, target_at, target_stride, factor):
    """Transpose a block of 8 x 8: rows at ``at + i stride`` become columns.

    Both are float32, and ``factor`` None; or ``source`` is int16 and is multiplied by it.
    """

    def codegen(context, builder, signature, args):
        source, at, stride, target, target_at, target_stride, factor = args
        real = ir.VectorType(FLOAT, _QUARTER)

        def half(i, k):
            place = builder.add(at, builder.mul(stride, ir.Constant(LONG, i)))
            place = builder.add(place, ir.Constant(LONG, k * _QUARTER))
            part = load(context, builder, signature.args[0], source, place, _QUARTER)
            if signature.args[6] is not types.none:
                part = builder.fmul(builder.sitofp(part, real), repeated(builder, factor, _QUARTER))
            return part

        for i, turned in enumerate(_transposed(builder, half)):
            place = builder.add(target_at, builder.mul(target_stride, ir.Constant(LONG, i)))
            pointer = pointer_to(context, builder, signature.args[3], target, place, _EDGE)
            builder.store(turned, pointer).align = 4
        return context.get_dummy_value()

    place = types.int64
    return types.void(source, place, place, target, place, place, factor), codegen


@njit(inline="always")
def transpose_piece(source, at, stride, R, C, target, target_at, target_stride, factor=None):
    """Turn the matrix ``[R, C]`` at ``at``, its rows ``stride`` apart, to ``[C, R]``; both flat.

    ``source`` is float32, or int16 and multiplied by ``factor``.
    """
    if R < _EDGE or C < _EDGE:
        for c in range(C):
            for r in range(R):
                entry = source[at + r * stride + c]
                if factor is not None:
                    entry = np.float32(entry) * factor
                target[target_at + c * target_stride + r] = entry
        return
    for c0 in range(0, C, _EDGE):  # outermost: the target is written line by line
        c = min(c0, C - _EDGE)  # the last block overlaps the one before
        for r0 in range(0, R, _EDGE):
            r = min(r0, R - _EDGE)
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


def turn_in(source, at, stride, lanes, steps, target, width, ahead):
    """Turn ``lanes`` rows of ``steps`` entries, from ``at`` on, to rows of a step each.

    Both are flat float32; rows begin ``stride`` and ``width`` apart. ``ahead`` is how far from the
    beginning of a row that lies what is turned next: a processor does not see that coming.
    """
    if min(lanes, steps) < _EDGE:
        for i in range(lanes):
            for t in range(steps):
                target[t * width + i] = source[at + i * stride + t]
    else:
        for t0 in range(0, steps, _EDGE):
            t = min(t0, steps - _EDGE)  # the last block overlaps the one before
            for i0 in range(0, lanes, _EDGE):
                i = min(i0, lanes - _EDGE)
                for k in range(_EDGE):
                    prefetch(source, at + (i + k) * stride + t + ahead)
                _transpose_block(
                    source, at + i * stride + t, stride, target, t * width + i, width, None
                )


def turn_out(source, width, lanes, steps, target, at, stride, ahead):
    """Do the reverse of ``turn_in``."""
    if min(lanes, steps) < _EDGE:
        for i in range(lanes):
            for t in range(steps):
                target[at + i * stride + t] = source[t * width + i]
    else:
        for t0 in range(0, steps, _EDGE):
            t = min(t0, steps - _EDGE)
            for i0 in range(0, lanes, _EDGE):
                i = min(i0, lanes - _EDGE)
                for k in range(_EDGE):
                    prefetch(target, at + (i + k) * stride + t + ahead)
                _transpose_block(
                    source, t * width + i, width, target, at + i * stride + t, stride, None
                )
