"""Of recurrent_kernels.py: tiles ``[samples, neurons]`` loaded, multiplied with R and stored."""

from lapilli.kernels.numbers.fixed_point import MAGNITUDE, NAN, larger, to_real, to_state
from lapilli.kernels.numbers.language import jit, tl

OUTSIDE, RESIDENT, SPLIT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


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
def add_from_memory(
    total, from_ptr, rows, here, r_ptr, n, C, DOT: tl.constexpr, TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Add the columns ``n`` of s R, or of s R^T with ``TRANSPOSED``; s are rows in memory.

    Also returns a tile ``[BLOCK_M, BLOCK_K]``, NaN in the rows in which s is not finite somewhere.
    """
    width = tl.cdiv(C, BLOCK_K) * BLOCK_K
    spoilt = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    for k0 in tl.range(0, C, BLOCK_K, num_stages=STAGES):
        k = k0 + tl.arange(0, BLOCK_K)
        s = tl.load(from_ptr + rows + k[None, :], mask=here & (k < C)[None, :], other=0.0)
        if TRANSPOSED:  # contiguous in k, then turned: int8 would be read byte by byte
            r = tl.trans(tl.load(r_ptr + n[:, None] * width + k[None, :]))
        else:
            r = tl.load(r_ptr + k[:, None] * width + n[None, :])
        total = add_product(operand_of(s, DOT), r, total, DOT)
        spoilt += s - s
    return total, spoilt


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
            total = tl.dot(part, b, total)
            a -= part.to(tl.float32)
        return total
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
def first_state(ptr, j, live, rest, scale, RULE: tl.constexpr):
    """Load a state before the first step: as an integer, and real for the watch, if it is real."""
    y = tl.load(ptr + j, mask=live, other=0)
    if ptr.dtype.element_ty == tl.int32:
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
