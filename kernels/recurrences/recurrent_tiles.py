"""Of recurrent_kernels.py: tiles ``[samples, neurons]`` loaded, multiplied with R, stored, sent."""

from lapilli.kernels.numbers.fixed_point import MAGNITUDE, NAN, larger, to_real, to_state
from lapilli.kernels.numbers.language import jit, tl

OUTSIDE, RESIDENT, SPLIT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
WIDTH = tl.constexpr(128)  # to a multiple of which programs fill up what they send each other


@jit
def store_tile(ptr, offset, value, live):
    """Store a tile, where the tensor is wanted."""
    if ptr is not None:
        tl.store(ptr + offset, value, mask=live)


@jit
def load_feedback(r_ptr, BLOCK_N: tl.constexpr):
    """Load R ``[to, from]``, which is filled up with zeros."""
    n = tl.arange(0, BLOCK_N)
    return tl.load(r_ptr + n[:, None] * BLOCK_N + n[None, :])


@jit
def sent_width(C):
    """Return the width of what programs send each other, and of R: neurons, filled up."""
    return tl.cdiv(C, WIDTH) * WIDTH


@jit
def send(sent_ptr, plane, at, x, live, DOT: tl.constexpr):
    """Store a tile as operands of a product: of bfloat16 three terms, ``plane`` apart.

    Of int8 a number below 0 stands for what is none.
    """
    if DOT == "bfloat16":
        for _ in tl.static_range(3):
            part = x.to(tl.bfloat16)
            tl.store(sent_ptr + at, part, mask=live)
            sent_ptr += plane
            x -= part.to(tl.float32)
    elif DOT == "int8":
        tl.store(sent_ptr + at, tl.where(x == x, x, -1.0).to(tl.int8), mask=live)
    else:
        tl.store(sent_ptr + at, x, mask=live)


@jit
def lost_below(least, LOST: tl.constexpr):
    """Return NaN for each sample whose least spike is below 0, see ``send``; 0 unless ``LOST``."""
    if LOST:
        return tl.where(least < 0, float("nan"), 0.0)[:, None]
    else:
        return 0.0


@jit
def add_sent(
    total, sent_ptr, plane, r_ptr, n, C, DOT: tl.constexpr, TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Add the columns ``n`` of s R, or of s R^T with ``TRANSPOSED``; s is what was sent.

    Also returns the least entry of each row of s, of int8, and at most 0.
    """
    TERMS: tl.constexpr = 3 if DOT == "bfloat16" else 1  # pyright: ignore[reportAssignmentType]
    width = sent_width(C)
    m = tl.arange(0, BLOCK_M)[:, None] * width
    least = tl.zeros([BLOCK_M], tl.int32)
    for k0 in tl.range(0, C, BLOCK_K, num_stages=STAGES):
        k = k0 + tl.arange(0, BLOCK_K)
        if TRANSPOSED:  # contiguous in k, then turned: int8 would be read byte by byte
            r = tl.trans(tl.load(r_ptr + n[:, None] * width + k[None, :]))
        else:
            r = tl.load(r_ptr + k[:, None] * width + n[None, :])
        term_ptr = sent_ptr
        for _ in tl.static_range(TERMS):
            s = tl.load(term_ptr + m + k[None, :])
            term_ptr += plane
            total = add_term(s, r, total, DOT)
            if DOT == "int8":
                least = tl.minimum(least, tl.min(s.to(tl.int32), 1))
    # the sum of one number: or the compiler brings all that was loaded before, tile by tile, to
    # where tensor cores leave this one
    return tl.sum(total[:, :, None], 2), least


@jit
def operand_of(x, DOT: tl.constexpr):
    """Convert a float32 tile to what ``add_product`` multiplies; bfloat16 splits it there."""
    if DOT == "int8":
        return x.to(tl.int8)
    else:
        return x


@jit
def add_product(a, b, total, DOT: tl.constexpr):
    """Add ``a b`` to a tile, exact in the type ``DOT`` of ``b``; int8 adds up in int32."""
    if DOT == "bfloat16":  # a float32 is the sum of three
        for _ in tl.static_range(3):
            part = a.to(tl.bfloat16)
            total = add_term(part, b, total, DOT)
            a -= part.to(tl.float32)
        return total
    else:
        return add_term(a, b, total, DOT)


@jit
def add_term(a, b, total, DOT: tl.constexpr):
    """Add ``a b``, both of the type ``DOT``."""
    if DOT == "bfloat16":
        return tl.dot(a, b, total)
    elif DOT == "int8":
        return tl.dot(a, b, total, out_dtype=tl.int32)
    else:
        return tl.dot(a, b, total, input_precision="ieee")


@jit
def tile_of_zeros(BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DOT: tl.constexpr):
    """Tile of zeros that products of the type ``DOT`` add to."""
    if DOT == "int8":
        return tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
    else:
        return tl.zeros([BLOCK_M, BLOCK_N], tl.float32)


@jit
def largest_of_pairs(x):
    """Return the largest magnitude of every two neurons: half as many registers."""
    bits = x.to(tl.int32, bitcast=True) & MAGNITUDE
    bits = tl.reshape(bits, [x.shape[0], x.shape[1] // 2, 2])
    return tl.max(bits, 2).to(tl.float32, bitcast=True)


@jit
def bound_of_inputs(
    top, z_ptr, at, live, bias, r_ptr, quantum, T, C,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Bound the inputs: the largest in memory, and all feedback that there can be."""
    for t in range(T):
        top = larger(top, tl.load(z_ptr + (at + t * C), mask=live, other=0.0))
    n = tl.arange(0, BLOCK_N)
    fed = tl.zeros([BLOCK_N], tl.int32)
    if r_ptr is not None:
        for k0 in range(0, C, BLOCK_K):
            k = k0 + tl.arange(0, BLOCK_K)
            fed += tl.sum(
                tl.abs(tl.load(r_ptr + n[:, None] * BLOCK_N + k[None, :]).to(tl.int32)), 1
            )
    return top + (fed.to(tl.float32) * quantum + tl.abs(bias))[None, :]


@jit
def first_state(y, rest, scale, RULE: tl.constexpr):
    """Return a state before the first step as an integer, and real for the watch, if it is real."""
    if y.dtype == tl.int32:
        return tl.where(rest == rest, y, NAN), rest
    else:
        y += rest
        return to_state(y, scale, RULE), y


@jit
def store_state(ptr, j, y, live, scale, EXACT: tl.constexpr, RULE: tl.constexpr):
    """Store a state after the last step: real, or as an integer for the next launch."""
    if ptr is not None:
        if ptr.dtype.element_ty == tl.int32:
            tl.store(ptr + j, y, mask=live)
        else:
            tl.store(ptr + j, to_real(y, scale, EXACT, RULE), mask=live)


@jit
def lost_samples(spikes, LOST: tl.constexpr):
    """Return NaN for each sample in which a spike is not a number, else 0; 0 unless ``LOST``."""
    if LOST:
        return tl.sum(spikes - spikes, 1)[:, None]
    else:
        return 0.0
