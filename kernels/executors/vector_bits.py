"""Vector instructions that find what is not zero, 32 entries in a word; see vector_ops.py."""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .intrinsics import intrinsic
from .vectors import LONG, SIDE, alignment, load, pointer_to, repeated, unequal

_ROWS = 8  # of a block of ``collect_bits``


@intrinsic(prefer_literal=True)
def unequal_bits(typingctx, array, at, value):
    """Compare 32 elements from ``at`` on with a literal; bit i is set where element i differs."""

    def codegen(context, builder, signature, args):
        vector = load(context, builder, signature.args[0], args[0], args[1], 32)
        return builder.bitcast(unequal(builder, vector, value.literal_value), ir.IntType(32))

    return types.uint32(array, types.int64, value), codegen


@intrinsic
def collect_bits(typingctx, array, at, stride, words, t, first):
    """Set bit ``first + r`` of ``words[t + i]`` where ``array[at + r stride + i]`` is not 0.

    For 8 rows r and 16 entries i. Returns a uint32, not 0 if one of those is neither 0 nor 1.
    """

    def codegen(context, builder, signature, args):
        array, at, stride, words, t, first = args
        bits = ir.VectorType(ir.IntType(32), SIDE)
        pointer = pointer_to(context, builder, signature.args[3], words, t, SIDE)
        word = builder.load(pointer)
        word.align = 4
        one = ir.Constant(ir.IntType(32), 1)
        bit = repeated(builder, builder.shl(one, builder.trunc(first, ir.IntType(32))), SIDE)
        other = ir.Constant(ir.VectorType(ir.IntType(1), SIDE), [0] * SIDE)
        for r in range(_ROWS):
            place = builder.add(at, builder.mul(stride, ir.Constant(LONG, r)))
            row = load(context, builder, signature.args[0], array, place, SIDE)
            differs = unequal(builder, row, 0)
            mark = builder.shl(bit, ir.Constant(bits, [r] * SIDE))
            word = builder.or_(word, builder.select(differs, mark, ir.Constant(bits, [0] * SIDE)))
            other = builder.or_(other, builder.and_(differs, unequal(builder, row, 1)))
        builder.store(word, pointer).align = 4
        return builder.zext(builder.bitcast(other, ir.IntType(SIDE)), ir.IntType(32))

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
        kind = ir.VectorType(ir.IntType(32), SIDE)

        def pointer(k, place, lanes):
            return pointer_to(context, builder, signature.args[k], args[k], place, lanes)

        word = builder.load(pointer(0, at, SIDE))
        word.align = 4
        chosen = builder.icmp_unsigned("!=", word, ir.Constant(kind, [0] * SIDE))
        number = repeated(builder, builder.trunc(first, ir.IntType(32)), SIDE)
        number = builder.add(number, ir.Constant(kind, list(range(SIDE))))
        # the features are private to Numba; stores of AVX-512 that compress are slow on AMD
        if "+avx512f" in (getattr(context.codegen(), "_tm_features", None) or ""):
            compress = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(kind, [kind, kind, chosen.type]),
                "llvm.x86.avx512.mask.compress.v16i32",
            )
            for k, value in ((3, word), (4, number)):
                dense = builder.call(compress, [value, value, chosen])
                builder.store(dense, pointer(k, target_at, SIDE)).align = 4
            count = builder.ctpop(builder.bitcast(chosen, ir.IntType(SIDE)))
            return builder.zext(count, LONG)
        end = target_at
        for lane in range(SIDE):
            lane = ir.Constant(LONG, lane)
            for k, value in ((3, word), (4, number)):
                entry = builder.extract_element(value, lane)
                place = builder.bitcast(pointer(k, end, 1), entry.type.as_pointer())
                builder.store(entry, place).align = 4
            end = builder.add(end, builder.zext(builder.extract_element(chosen, lane), LONG))
        return builder.sub(end, target_at)

    place = types.int64
    return types.int64(words, place, place, packed, places, place), codegen


@intrinsic
def lowest_bit(typingctx, word):
    """Place of the lowest bit that is set in a uint32, which is not 0."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.cttz(args[0], ir.Constant(ir.IntType(1), 1)), LONG)

    return types.int64(types.uint32), codegen


# of each byte, the places of the bits that are set, a byte each, lowest first
_PLACES = [
    sum(place << 8 * k for k, place in enumerate(p for p in range(8) if byte >> p & 1))
    for byte in range(256)
]


@intrinsic
def list_bits(typingctx, word, base, target, at):
    """Write ``base`` plus the place of each bit of a uint32 that is set to ``target[at]`` on.

    ``target`` is int16 or int32, and needs room for 32 from ``at`` on: of what follows the places,
    some is overwritten. Returns how many there are.
    """

    def codegen(context, builder, signature, args):
        word, base, target, at = args
        table = ir.Constant(ir.ArrayType(LONG, 256), _PLACES)
        table = cgutils.global_constant(builder.module, "places_of_bits", table)
        element = context.get_data_type(signature.args[2].dtype)
        each = ir.VectorType(element, 8)
        bytes_of = ir.VectorType(ir.IntType(8), 8)
        whole = builder.zext(word, LONG)
        end = at
        for shift in range(0, 32, 8):
            byte = builder.lshr(whole, ir.Constant(LONG, shift))
            byte = builder.and_(byte, ir.Constant(LONG, 255))
            packed = builder.load(builder.gep(table, [ir.Constant(LONG, 0), byte]))
            places = builder.zext(builder.bitcast(packed, bytes_of), each)
            first = builder.trunc(builder.add(base, ir.Constant(LONG, shift)), element)
            places = builder.add(places, repeated(builder, first, 8))
            pointer = pointer_to(context, builder, signature.args[2], target, end, 8)
            builder.store(places, pointer).align = alignment(element)
            end = builder.add(end, builder.ctpop(byte))
        return builder.sub(end, at)

    return types.int64(types.uint32, types.int64, target, types.int64), codegen


@intrinsic
def count_bits(typingctx, word):
    """How many bits are set in a uint32."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int32(types.uint32), codegen
