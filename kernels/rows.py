"""How Triton kernels walk a ``[N, T, C]`` tensor: one lane a neuron, eight rows at a time.

All loads of a chunk of rows are issued before the first is used: pointers may alias, so the
compiler cannot move a load over a store by itself, and one round trip to memory for every step
would set the pace. The 64-bit part of an address is scalar and lanes carry an int32 offset: a
64-bit pointer a lane would be kept for every row and array, in 126 registers instead of 56.
"""

from .language import jit, tl

CHUNK = 8  # rows loaded ahead
BLOCK = 128  # lanes of a program; equals its threads, or lanes would be duplicated


@jit
def lanes(T, C, BLOCK: tl.constexpr):
    """Return this program's neurons: flat id, first sample, sample minus first, place in it."""
    first = tl.program_id(0) * BLOCK
    j = first + tl.arange(0, BLOCK)
    n0 = first // C
    n = j // C
    return j, n0.to(tl.int64) * T * C, n - n0, j - n * C


@jit
def load_rows(ptr, at, C, live, U: tl.constexpr):
    """Load rows ``at``, ``at + C``, ... as a tuple of ``U`` vectors."""
    rows = ()
    for i in tl.static_range(U):
        rows = rows + (tl.load(ptr + (at + i * C), mask=live, other=0),)
    return rows


@jit
def load_or_zero(ptr, j, live, like):
    """Load an initial state, or zeros of the type of ``like`` where there is none."""
    if ptr is None:
        return like
    else:
        return tl.load(ptr + j, mask=live, other=0)
