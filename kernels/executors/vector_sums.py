"""Vector instructions that add up rows, and where these begin; see vector_ops.py."""

import numpy as np
from llvmlite import ir
from numba import njit, types

from .intrinsics import intrinsic
from .loop_ops import scratch
from .vectors import FLOAT, LINE, LONG, SIDE, alignment, load, loop, pointer_to, repeated

_LANES = 128  # sums at once, in registers
_WIDE, _NARROW = 64, 32  # or these
_MOST_OF_16_BITS = 256  # rows of codes of 8 bits


@intrinsic
def _add_blocks(typingctx, target, target_at, source, at, n, factor):
    """Add whole blocks of 64 bytes of ``n`` entries of ``source``, times ``factor``, to ``target``.

    Returns the number of entries.
    """

    def codegen(context, builder, signature, args):
        target, target_at, source, at, n, factor = args
        is_float = signature.args[0].dtype == types.float32
        lanes = LINE * 8 // signature.args[0].dtype.bitwidth
        count = ir.Constant(LONG, lanes)
        if signature.args[5] is not types.none:
            factor = repeated(builder, factor, lanes)

        def add(i, _):
            skip = builder.mul(i, count)
            here, there = builder.add(target_at, skip), builder.add(at, skip)
            old = load(context, builder, signature.args[0], target, here, lanes)
            term = load(context, builder, signature.args[2], source, there, lanes)
            if signature.args[5] is not types.none:
                term = builder.fmul(term, factor)
            total = builder.fadd(old, term) if is_float else builder.add(old, term)
            pointer = pointer_to(context, builder, signature.args[0], target, here, lanes)
            builder.store(total, pointer).align = alignment(total.type.element)
            return []

        blocks = builder.udiv(n, count)
        loop(builder, ir.Constant(LONG, 0), blocks, [], add)
        return builder.mul(blocks, count)

    place = types.int64
    return place(target, place, source, place, place, factor), codegen


@njit(inline="always")
def add_row(target, target_at, source, at, n, factor):
    """Add ``n`` entries of ``source`` from ``at`` on, times ``factor`` (None for 1), to ``target``.

    Both are flat, of one type, float32 or int16, and do not overlap: LLVM would ask that at every
    call.
    """
    for i in range(_add_blocks(target, target_at, source, at, n, factor), n):
        target[target_at + i] += source[at + i] if factor is None else source[at + i] * factor


@njit(inline="always")
def aligned(n, dtype):
    """Return ``n`` entries that begin with a cache line: vectors would straddle two."""
    room = np.empty(n + LINE, dtype)
    start = (-room.ctypes.data & (LINE - 1)) // room.itemsize
    return room[start : start + n]


def _column(context, builder, array_type, columns, e, mask):
    """Load column ``e``, which ``mask`` reads as unsigned."""
    data = context.make_array(array_type)(context, builder, columns).data
    column = builder.load(builder.gep(data, [e]))
    if column.type.width < LONG.width:
        column = builder.sext(column, LONG)
    return builder.and_(column, mask)


@intrinsic(prefer_literal=True)
def _sum_codes(
    typingctx, target, target_at, codes, at, stride, columns, mask, e, end, step, more, lanes
):
    """Write the sum of the rows of codes that ``columns[e:end]`` name, times ``step``.

        target[target_at + i] = step sum_j (codes[at + stride (columns[j] & mask) + i] - 128),
                                i < lanes

    ``target`` is float32, ``codes`` are uint8, ``lanes`` even. The sums are added to what
    ``target`` holds if ``more`` is not 0. They stay in registers, in 16 bits: no more than 256
    rows. Each word of 16 bits is summed as it is, and its upper byte again: that is quicker than to
    widen the bytes, and the lower bytes are the difference.
    """

    def codegen(context, builder, signature, args):
        target, target_at, codes, at, stride, columns, mask, e, end, step, more, _ = args
        count = min(lanes.literal_value, LINE)
        half = ir.IntType(16)
        each = ir.VectorType(half, count // 2)
        places = range(0, lanes.literal_value, count)
        eight = ir.Constant(each, [8] * each.count)

        def add(j, sums):
            column = _column(context, builder, signature.args[5], columns, j, mask)
            row = builder.add(at, builder.mul(stride, column))
            added = []
            for k, place in enumerate(places):
                here = builder.add(row, ir.Constant(LONG, place))
                pointer = pointer_to(context, builder, signature.args[2], codes, here, count)
                pair = builder.load(builder.bitcast(pointer, each.as_pointer()))
                pair.align = 1
                added.append(builder.add(sums[2 * k], pair))
                added.append(builder.add(sums[2 * k + 1], builder.lshr(pair, eight)))
            return added

        zeros = [ir.Constant(each, [0] * each.count)] * (2 * len(places))
        sums = loop(builder, e, end, zeros, add)
        events = builder.trunc(builder.sub(end, e), half)
        bias = repeated(builder, builder.shl(events, ir.Constant(half, 7)), each.count)
        is_begun = builder.icmp_signed("!=", more, ir.Constant(more.type, 0))
        order = [k // 2 + k % 2 * each.count for k in range(count)]
        for k, place in enumerate(places):
            both, upper = sums[2 * k : 2 * k + 2]
            lower = builder.sub(both, builder.shl(upper, eight))
            parts = (builder.sub(part, bias) for part in (lower, upper))
            total = builder.shuffle_vector(
                *parts, ir.Constant(ir.VectorType(ir.IntType(32), count), order)
            )
            real = builder.sitofp(total, ir.VectorType(FLOAT, count))
            real = builder.fmul(real, repeated(builder, step, count))
            here = builder.add(target_at, ir.Constant(LONG, place))
            old = load(context, builder, signature.args[0], target, here, count)
            old = builder.select(is_begun, old, ir.Constant(real.type, [0.0] * count))
            real = builder.fadd(old, real)
            pointer = pointer_to(context, builder, signature.args[0], target, here, count)
            builder.store(real, pointer).align = 4
        return context.get_dummy_value()

    place = types.int64
    signature = types.void(
        target, place, codes, place, place, columns, place, place, place, types.float32,
        types.int32, lanes,
    )  # fmt: skip
    return signature, codegen


@njit(inline="always")
def sum_frame_of_codes(target, target_at, codes, at, stride, columns, mask, begin, last, step, n):
    """Write the sum of the rows of codes that ``columns[begin:last]`` name, times ``step``.

        target[target_at + i] = step sum_j (codes[at + stride (columns[j] & mask) + i] - 128),
                                i < n

    Rows are read up to a multiple of 16.
    """
    whole, wide, lanes = n // _LANES * _LANES, n // _WIDE * _WIDE, n // SIDE * SIDE
    rest = scratch(SIDE, np.float32)
    e, more = begin, np.int32(0)
    while e < last or more == 0:
        end = min(e + _MOST_OF_16_BITS, last)
        for i in range(0, whole, _LANES):
            _sum_codes(
                target, target_at + i, codes, at + i, stride, columns, mask, e, end, step, more,
                _LANES,
            )  # fmt: skip
        for i in range(whole, wide, _WIDE):  # one at most
            _sum_codes(
                target, target_at + i, codes, at + i, stride, columns, mask, e, end, step, more,
                _WIDE,
            )  # fmt: skip
        for i in range(wide, lanes, SIDE):
            _sum_codes(
                target, target_at + i, codes, at + i, stride, columns, mask, e, end, step, more,
                SIDE,
            )  # fmt: skip
        if lanes < n:
            _sum_codes(
                rest, 0, codes, at + lanes, stride, columns, mask, e, end, step, more, SIDE
            )  # fmt: skip
        e, more = end, np.int32(1)
    for i in range(n - lanes):
        target[target_at + lanes + i] = rest[i]


@intrinsic(prefer_literal=True)
def _sum_lanes(
    typingctx, target, target_at, rows, at, stride, columns, mask, values, e, end, first, lanes
):
    """Write the sum of the rows of float32 that ``columns[e:end]`` name, times ``values[e:end]``.

        target[target_at + i] = sum_j values[j] rows[at + stride (columns[j] & mask) + i],
                                i < lanes

    ``values`` is None for 1. The sums stay in registers, and are added to what ``target`` holds if
    ``first`` is 0.
    """

    def codegen(context, builder, signature, args):
        target, target_at, rows, at, stride, columns, mask, values, e, end, *_ = args
        count = min(lanes.literal_value, SIDE)
        each = ir.VectorType(FLOAT, count)
        places = range(0, lanes.literal_value, count)

        def add(j, sums):
            column = _column(context, builder, signature.args[5], columns, j, mask)
            row = builder.add(at, builder.mul(stride, column))
            terms = []
            for place in places:
                here = builder.add(row, ir.Constant(LONG, place))
                terms.append(load(context, builder, signature.args[2], rows, here, count))
            if signature.args[7] is not types.none:
                data = context.make_array(signature.args[7])(context, builder, values).data
                value = repeated(builder, builder.load(builder.gep(data, [j])), count)
                terms = [builder.fmul(value, term) for term in terms]
            return [builder.fadd(total, term) for total, term in zip(sums, terms, strict=True)]

        totals = loop(builder, e, end, [ir.Constant(each, [0.0] * count)] * len(places), add)
        for place, total in zip(places, totals, strict=True):
            here = builder.add(target_at, ir.Constant(LONG, place))
            if not first.literal_value:
                old = load(context, builder, signature.args[0], target, here, count)
                total = builder.fadd(old, total)
            pointer = pointer_to(context, builder, signature.args[0], target, here, count)
            builder.store(total, pointer).align = 4
        return context.get_dummy_value()

    place = types.int64
    signature = types.void(
        target, place, rows, place, place, columns, place, values, place, place, first, lanes
    )
    return signature, codegen


@njit(inline="always")
def sum_rows(target, target_at, rows, at, stride, columns, mask, values, e, end, n):
    """Write the sum of the rows of ``n`` float32 that ``columns[e:end]`` name, times their values.

        target[target_at + i] = sum_j values[j] rows[at + stride (columns[j] & mask) + i],  i < n

    ``values`` is None for 1. Rows are read up to a multiple of 16.
    """
    whole, lanes = n // _LANES * _LANES, n // SIDE * SIDE
    for i in range(0, whole, _LANES):
        _sum_lanes(
            target, target_at + i, rows, at + i, stride, columns, mask, values, e, end, 1, _LANES
        )
    for i in range(whole, lanes, SIDE):
        _sum_lanes(
            target, target_at + i, rows, at + i, stride, columns, mask, values, e, end, 1, SIDE
        )
    if lanes < n:
        rest = scratch(SIDE, np.float32)
        _sum_lanes(rest, 0, rows, at + lanes, stride, columns, mask, values, e, end, 1, SIDE)
        for i in range(n - lanes):
            target[target_at + lanes + i] = rest[i]


@intrinsic
def prefetch(typingctx, array, at):
    """Ask for the cache line of an element of a flat array, which need not exist."""

    def codegen(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), byte)
        options = [ir.Constant(ir.IntType(32), k) for k in (0, 2, 1)]  # to read, to level 2, data
        kind = ir.FunctionType(ir.VoidType(), [byte, *(o.type for o in options)])
        ask = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
        builder.call(ask, [place, *options])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@njit(inline="always")
def add_to_row(target, target_at, rows, stride, columns, mask, values, e, end, n):
    """Add to a row the rows of float32 that ``columns[e:end]`` name, times their values.

        target[target_at + i] += sum_j values[j] rows[stride (columns[j] & mask) + i],  i < n

    ``values`` is None for 1. ``n`` is 64 at most; up to a multiple of 32, what lies behind is added
    too.
    """
    if n > _NARROW:
        _sum_lanes(target, target_at, rows, 0, stride, columns, mask, values, e, end, 0, _WIDE)
    else:
        _sum_lanes(target, target_at, rows, 0, stride, columns, mask, values, e, end, 0, _NARROW)
