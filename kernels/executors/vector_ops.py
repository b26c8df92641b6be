"""Vector instructions that loops call by name, where LLVM does not find them by itself.

They are written as generic vectors, which LLVM maps to what the machine has. Arrays are flat or
one-dimensional and contiguous; places and strides count elements. Imported by the generated modules
only; importing it loads Numba.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "add_row",
    "aligned",
    "collect_bits",
    "count_bits",
    "lowest_bit",
    "pack_words",
    "prefetch",
    "reciprocal",
    "sum_codes",
    "sum_rows",
    "transpose_piece",
    "transpose_rows",
    "transpose_to_codes",
    "turn_in",
    "turn_out",
    "unequal_bits",
]

_LONG = ir.IntType(64)
_FLOAT = ir.FloatType()
_SIDE = 16  # lanes of most vectors
_EDGE = 8  # of a block of ``_transpose_block``: no more vectors than an AVX2 processor holds
_QUARTER = 4  # lanes within which AVX2 moves entries by one instruction
_LANES = 128  # sums at once, in registers
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
        upper = [_shuffled(builder, *pairs[:2], places) for places in (low, high)]
        lower = [_shuffled(builder, *pairs[2:], places) for places in (low, high)]
        for both in zip(upper, lower, strict=True):
            columns += [_shuffled(builder, *both, places) for places in (even, odd)]
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
        real = ir.VectorType(_FLOAT, _QUARTER)

        def half(i, k):
            place = builder.add(at, builder.mul(stride, ir.Constant(_LONG, i)))
            place = builder.add(place, ir.Constant(_LONG, k * _QUARTER))
            part = _load(context, builder, signature.args[0], source, place, _QUARTER)
            if signature.args[6] is not types.none:
                part = builder.fmul(builder.sitofp(part, real), _same(builder, factor, _QUARTER))
            return part

        for i, turned in enumerate(_transposed(builder, half)):
            place = builder.add(target_at, builder.mul(target_stride, ir.Constant(_LONG, i)))
            pointer = _vector_at(context, builder, signature.args[3], target, place, _EDGE)
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
        words = ir.VectorType(word, _SIDE)

        def every(value):
            return ir.Constant(words, [value] * _SIDE)

        def shuffle(a, b, places):
            chosen = ir.Constant(ir.VectorType(word, len(places)), places)
            return builder.shuffle_vector(a, b, chosen)

        factor, flip = _same(builder, scale, _SIDE), _same(builder, flip, _SIDE)
        other = ir.Constant(ir.VectorType(ir.IntType(1), _SIDE), [0] * _SIDE)
        seen = every(0)
        fours = []  # a byte of each of four rows in a word
        for i in range(_SIDE):
            place = builder.add(at, builder.mul(stride, ir.Constant(_LONG, i)))
            level = _load(context, builder, signature.args[0], source, place, _SIDE)
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
        pieces = range(0, _SIDE, 4)
        low = [p + q for p in pieces for q in (0, _SIDE, 1, _SIDE + 1)]
        even = [p + q for p in pieces for q in (0, 1, _SIDE, _SIDE + 1)]
        high, odd = ([place + 2 for place in half] for half in (low, even))
        upper = [shuffle(fours[0], fours[1], half) for half in (low, high)]
        lower = [shuffle(fours[2], fours[3], half) for half in (low, high)]
        columns = [
            shuffle(a, b, half) for a, b in zip(upper, lower, strict=True) for half in (even, odd)
        ]
        for c in range(_SIDE):
            column = shuffle(columns[c % 4], columns[c % 4], [c // 4 * 4 + k for k in range(4)])
            place = builder.add(target_at, builder.mul(target_stride, ir.Constant(_LONG, c)))
            pointer = _vector_at(context, builder, signature.args[4], target, place, _SIDE)
            builder.store(column, builder.bitcast(pointer, column.type.as_pointer())).align = 1
        other = builder.or_(other, builder.icmp_unsigned(">", seen, every(255)))
        return builder.zext(builder.bitcast(other, ir.IntType(_SIDE)), word)

    place = types.int64
    signature = types.uint32(source, place, place, scale, target, place, place, types.int32)
    return signature, codegen


@njit(inline="always")
def reciprocal(n, most):
    """Return r and s such that ``k * r >> s`` is ``k // n`` for whole numbers up to ``most``."""
    shift = np.int64(0)
    while np.int64(1) << shift <= np.int64(most) * n:
        shift += 1
    return (np.int64(1) << shift) // n + 1, shift


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


@njit
def turn_in(source, at, stride, lanes, steps, target, width, ahead):
    """Turn ``lanes`` rows of ``steps`` entries, from ``at`` on, to rows of a step each.

    Both are flat float32; rows begin ``stride`` and ``width`` apart. ``ahead`` is how far from the
    beginning of a row that lies what is turned next: a processor does not see that coming.
    """
    if lanes < _EDGE or steps < _EDGE:
        for i in range(lanes):
            for t in range(steps):
                target[t * width + i] = source[at + i * stride + t]
        return
    for t0 in range(0, steps, _EDGE):
        t = min(t0, steps - _EDGE)  # the last block overlaps the one before
        for i0 in range(0, lanes, _EDGE):
            i = min(i0, lanes - _EDGE)
            for k in range(_EDGE):
                prefetch(source, at + (i + k) * stride + t + ahead)
            _transpose_block(
                source, at + i * stride + t, stride, target, t * width + i, width, None
            )


@njit
def turn_out(source, width, lanes, steps, target, at, stride, ahead):
    """Do the reverse of ``turn_in``."""
    if lanes < _EDGE or steps < _EDGE:
        for i in range(lanes):
            for t in range(steps):
                target[at + i * stride + t] = source[t * width + i]
        return
    for t0 in range(0, steps, _EDGE):
        t = min(t0, steps - _EDGE)
        for i0 in range(0, lanes, _EDGE):
            i = min(i0, lanes - _EDGE)
            for k in range(_EDGE):
                prefetch(target, at + (i + k) * stride + t + ahead)
            _transpose_block(
                source, t * width + i, width, target, at + i * stride + t, stride, None
            )


def _loop(builder, start, end, carried, step):
    """Build a loop that carries values: ``step(i, carried)`` returns the next ones."""
    before = builder.block
    head, body, done = (builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(_LONG)
    held = [builder.phi(value.type) for value in carried]
    for phi, value in zip((i, *held), (start, *carried), strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", i, end), body, done)
    builder.position_at_end(body)
    updated = step(i, held)
    following = builder.add(i, ir.Constant(_LONG, 1))
    for phi, value in zip((i, *held), (following, *updated), strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return held


_LINE = 64  # bytes


@intrinsic
def _add_blocks(typingctx, target, target_at, source, at, n, factor):
    """Add whole blocks of 64 bytes of ``n`` entries of ``source``, times ``factor``, to ``target``.

    Returns the number of entries.
    """

    def codegen(context, builder, signature, args):
        target, target_at, source, at, n, factor = args
        is_float = signature.args[0].dtype == types.float32
        lanes = _LINE * 8 // signature.args[0].dtype.bitwidth
        count = ir.Constant(_LONG, lanes)
        if signature.args[5] is not types.none:
            factor = _same(builder, factor, lanes)

        def add(i, _):
            skip = builder.mul(i, count)
            here, there = builder.add(target_at, skip), builder.add(at, skip)
            old = _load(context, builder, signature.args[0], target, here, lanes)
            term = _load(context, builder, signature.args[2], source, there, lanes)
            if signature.args[5] is not types.none:
                term = builder.fmul(term, factor)
            total = builder.fadd(old, term) if is_float else builder.add(old, term)
            pointer = _vector_at(context, builder, signature.args[0], target, here, lanes)
            builder.store(total, pointer).align = _align(total.type.element)
            return []

        blocks = builder.udiv(n, count)
        _loop(builder, ir.Constant(_LONG, 0), blocks, [], add)
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
    room = np.empty(n + _LINE, dtype)
    start = (-room.ctypes.data & (_LINE - 1)) // room.itemsize
    return room[start : start + n]


def _column(context, builder, array_type, columns, e, mask):
    """Load column ``e``, which ``mask`` reads as unsigned."""
    data = context.make_array(array_type)(context, builder, columns).data
    column = builder.load(builder.gep(data, [e]))
    if column.type.width < _LONG.width:
        column = builder.sext(column, _LONG)
    return builder.and_(column, mask)


@intrinsic(prefer_literal=True)
def sum_codes(
    typingctx, target, target_at, codes, at, stride, columns, mask, e, end, step, first, lanes
):
    """Write the sum of the rows of codes that ``columns[e:end]`` name, times ``step``.

        target[target_at + i] = step sum_j (codes[at + stride (columns[j] & mask) + i] - 128),
                                i < lanes

    ``target`` is float32, ``codes`` are uint8, ``lanes`` even. The sums are added to what
    ``target`` holds if ``first`` is 0. They stay in registers, in 16 bits: no more than 256 rows.
    Each word of 16 bits is summed as it is, and its upper byte again: that is quicker than to widen
    the bytes, and the lower bytes are the difference.
    """

    def codegen(context, builder, signature, args):
        target, target_at, codes, at, stride, columns, mask, e, end, step, *_ = args
        count = min(lanes.literal_value, _LINE)
        half = ir.IntType(16)
        each = ir.VectorType(half, count // 2)
        places = range(0, lanes.literal_value, count)
        eight = ir.Constant(each, [8] * each.count)

        def add(j, sums):
            column = _column(context, builder, signature.args[5], columns, j, mask)
            row = builder.add(at, builder.mul(stride, column))
            added = []
            for k, place in enumerate(places):
                here = builder.add(row, ir.Constant(_LONG, place))
                pointer = _vector_at(context, builder, signature.args[2], codes, here, count)
                pair = builder.load(builder.bitcast(pointer, each.as_pointer()))
                pair.align = 1
                added.append(builder.add(sums[2 * k], pair))
                added.append(builder.add(sums[2 * k + 1], builder.lshr(pair, eight)))
            return added

        zeros = [ir.Constant(each, [0] * each.count)] * (2 * len(places))
        sums = _loop(builder, e, end, zeros, add)
        events = builder.trunc(builder.sub(end, e), half)
        bias = _same(builder, builder.shl(events, ir.Constant(half, 7)), each.count)
        order = [k // 2 + k % 2 * each.count for k in range(count)]
        for k, place in enumerate(places):
            both, upper = sums[2 * k : 2 * k + 2]
            lower = builder.sub(both, builder.shl(upper, eight))
            parts = (builder.sub(part, bias) for part in (lower, upper))
            total = builder.shuffle_vector(
                *parts, ir.Constant(ir.VectorType(ir.IntType(32), count), order)
            )
            real = builder.sitofp(total, ir.VectorType(_FLOAT, count))
            real = builder.fmul(real, _same(builder, step, count))
            here = builder.add(target_at, ir.Constant(_LONG, place))
            if not first.literal_value:
                old = _load(context, builder, signature.args[0], target, here, count)
                real = builder.fadd(old, real)
            pointer = _vector_at(context, builder, signature.args[0], target, here, count)
            builder.store(real, pointer).align = 4
        return context.get_dummy_value()

    place = types.int64
    signature = types.void(
        target, place, codes, place, place, columns, place, place, place, types.float32, first,
        lanes,
    )  # fmt: skip
    return signature, codegen


@intrinsic(prefer_literal=True)
def _sum_lanes(
    typingctx, target, target_at, rows, at, stride, columns, mask, values, e, end, lanes
):
    """Write the sum of the rows of float32 that ``columns[e:end]`` name, times ``values[e:end]``.

        target[target_at + i] = sum_j values[j] rows[at + stride (columns[j] & mask) + i],
                                i < lanes

    ``values`` is None for 1. The sums stay in registers.
    """

    def codegen(context, builder, signature, args):
        target, target_at, rows, at, stride, columns, mask, values, e, end, _ = args
        count = min(lanes.literal_value, _SIDE)
        each = ir.VectorType(_FLOAT, count)
        places = range(0, lanes.literal_value, count)

        def add(j, sums):
            column = _column(context, builder, signature.args[5], columns, j, mask)
            row = builder.add(at, builder.mul(stride, column))
            terms = []
            for place in places:
                here = builder.add(row, ir.Constant(_LONG, place))
                terms.append(_load(context, builder, signature.args[2], rows, here, count))
            if signature.args[7] is not types.none:
                data = context.make_array(signature.args[7])(context, builder, values).data
                value = _same(builder, builder.load(builder.gep(data, [j])), count)
                terms = [builder.fmul(value, term) for term in terms]
            return [builder.fadd(total, term) for total, term in zip(sums, terms, strict=True)]

        totals = _loop(builder, e, end, [ir.Constant(each, [0.0] * count)] * len(places), add)
        for place, total in zip(places, totals, strict=True):
            here = builder.add(target_at, ir.Constant(_LONG, place))
            pointer = _vector_at(context, builder, signature.args[0], target, here, count)
            builder.store(total, pointer).align = 4
        return context.get_dummy_value()

    place = types.int64
    signature = types.void(
        target, place, rows, place, place, columns, place, values, place, place, lanes
    )
    return signature, codegen


@njit(inline="always")
def sum_rows(target, target_at, rows, at, stride, columns, mask, values, e, end, n):
    """Write the sum of the rows of ``n`` float32 that ``columns[e:end]`` name, times their values.

        target[target_at + i] = sum_j values[j] rows[at + stride (columns[j] & mask) + i],  i < n

    ``values`` is None for 1.
    """
    whole, lanes = n // _LANES * _LANES, n // _SIDE * _SIDE
    for i in range(0, whole, _LANES):
        _sum_lanes(
            target, target_at + i, rows, at + i, stride, columns, mask, values, e, end, _LANES
        )
    for i in range(whole, lanes, _SIDE):
        _sum_lanes(
            target, target_at + i, rows, at + i, stride, columns, mask, values, e, end, _SIDE
        )
    for i in range(lanes, n):
        total = np.float32(0)
        for j in range(e, end):
            term = rows[at + i + np.int64(columns[j] & mask) * stride]
            total += term if values is None else term * values[j]
        target[target_at + i] = total


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


def _align(element):
    """Bytes that an element begins at a multiple of."""
    return 4 if element == _FLOAT else max(1, element.width // 8)


def _load(context, builder, array_type, array, at, lanes):
    """Load ``lanes`` elements of an array of float32, integers or bool."""
    loaded = builder.load(_vector_at(context, builder, array_type, array, at, lanes))
    loaded.align = _align(loaded.type.element)
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
def pack_words(typingctx, words, at, first, packed, places, target_at):
    """Copy those of 16 uint32 from ``words[at]`` on that are not 0 to ``packed[target_at]`` on.

    ``places`` gets ``first`` and up, the number of each. Both need room for 16. Returns how many
    there are.
    """

    def codegen(context, builder, signature, args):
        at, first, target_at = args[1], args[2], args[5]
        kind = ir.VectorType(ir.IntType(32), _SIDE)

        def pointer(k, place, lanes):
            return _vector_at(context, builder, signature.args[k], args[k], place, lanes)

        word = builder.load(pointer(0, at, _SIDE))
        word.align = 4
        chosen = builder.icmp_unsigned("!=", word, ir.Constant(kind, [0] * _SIDE))
        number = _same(builder, builder.trunc(first, ir.IntType(32)), _SIDE)
        number = builder.add(number, ir.Constant(kind, list(range(_SIDE))))
        # the features are private to Numba; stores of AVX-512 that compress are slow on AMD
        if "+avx512f" in (getattr(context.codegen(), "_tm_features", None) or ""):
            compress = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(kind, [kind, kind, chosen.type]),
                "llvm.x86.avx512.mask.compress.v16i32",
            )
            for k, value in ((3, word), (4, number)):
                dense = builder.call(compress, [value, value, chosen])
                builder.store(dense, pointer(k, target_at, _SIDE)).align = 4
            count = builder.ctpop(builder.bitcast(chosen, ir.IntType(_SIDE)))
            return builder.zext(count, _LONG)
        end = target_at
        for lane in range(_SIDE):
            lane = ir.Constant(_LONG, lane)
            for k, value in ((3, word), (4, number)):
                entry = builder.extract_element(value, lane)
                place = builder.bitcast(pointer(k, end, 1), entry.type.as_pointer())
                builder.store(entry, place).align = 4
            end = builder.add(end, builder.zext(builder.extract_element(chosen, lane), _LONG))
        return builder.sub(end, target_at)

    place = types.int64
    return types.int64(words, place, place, packed, places, place), codegen


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
