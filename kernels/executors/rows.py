"""How Triton kernels walk a ``[N, T, C]`` tensor: one lane a neuron, eight rows at a time.

All loads of a chunk of rows are issued before the first is used: pointers may alias, so the
compiler cannot move a load over a store by itself, and one round trip to memory for every step
would set the pace. Too few neurons cannot keep the memory busy with that: ``STAGES`` chunks are
then in flight, which wait in shared memory. The 64-bit part of an address is scalar and lanes carry
an int32 offset: a 64-bit pointer a lane would be kept for every row and array, in 126 registers
instead of 56.

A kernel gives its pointers as a tuple, None where a tensor is absent. They are used by index:
Triton 3.3 cannot unpack a tuple with None in it.
"""

from lapilli.kernels.numbers.fixed_point import PLAIN, spike_value
from lapilli.kernels.numbers.language import jit, tl

CHUNK = 8  # rows loaded at once
BLOCK = 128  # lanes of a program; equals its threads, or lanes would be duplicated


@jit
def lanes(T, C, BLOCK: tl.constexpr):
    """Return this program's neurons.

    Flat id, 64-bit offset of the first sample, int32 offset from there, place in the sample.
    """
    first = tl.program_id(0) * BLOCK
    j = first + tl.arange(0, BLOCK)
    n0 = first // C
    n = j // C
    c = j - n * C
    return j, n0.to(tl.int64) * T * C, (n - n0) * T * C + c, c


@jit
def walk_forward(
    rows: tl.constexpr, carry, ptrs, fixed, base, at, live, T, C, flags: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Call ``rows`` on chunks of ``U`` rows in order of time, then on 4, 2 and 1 of the rest.

    ``rows(carry, ptrs, fixed, base, at, live, t, C, flags, U)`` advances ``carry`` over the ``U``
    steps from step ``t``, whose row is at ``at``.
    """
    t = 0
    for _ in tl.range(T // U, num_stages=STAGES):
        carry = rows(carry, ptrs, fixed, base, at + t * C, live, t, C, flags, U)
        t += U
    for k in tl.static_range(1, 4):
        if T & (U >> k) > 0:
            carry = rows(carry, ptrs, fixed, base, at + t * C, live, t, C, flags, U >> k)
            t += U >> k
    return carry


@jit
def walk_backward(
    rows: tl.constexpr, carry, ptrs, fixed, base, at, live, T, C, flags: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Call ``rows`` as ``walk_forward`` does, from the last chunk of rows to the first."""
    t = T
    for k in tl.static_range(3):
        if T & (1 << k) > 0:
            t -= 1 << k
            carry = rows(carry, ptrs, fixed, base, at + t * C, live, t, C, flags, 1 << k)
    for _ in tl.range(T // U, num_stages=STAGES):
        t -= U
        carry = rows(carry, ptrs, fixed, base, at + t * C, live, t, C, flags, U)
    return carry


@jit
def with_care(
    walk: tl.constexpr, ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T, C, M,
    flags: tl.constexpr, CARE: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Call ``walk``, and by the rule ``CARE`` where a state may not have fitted (fixed_point.py).

    ``walk(ptrs, ..., M, flags, RULE, CARE, U, STAGES, BLOCK)`` returns 1 in that case, else 0.
    """
    beyond = walk(
        ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T, C, M, flags, PLAIN, CARE, U, STAGES,
        BLOCK)  # fmt: skip
    if beyond != 0:
        # 0, which the compiler cannot know: else it would compute the addresses of both walks
        # ahead of the first, and keep them in registers all along
        nothing = beyond >> 31
        walk(
            ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T + nothing, C + nothing, M + nothing,
            flags, CARE, CARE, 1, 1, BLOCK)  # fmt: skip


@jit
def watch_at_first(top, count_ptr, RULE: tl.constexpr):
    """Return what a walk keeps beside its states: the largest input, or how often none fitted."""
    if RULE and count_ptr is not None:
        return tl.zeros_like(top).to(tl.int32)
    else:
        return top


@jit
def load_rows(ptr, base, at, C, live, U: tl.constexpr):
    """Load rows ``at``, ``at + C``, ... as a tuple of ``U`` vectors, empty without tensor."""
    rows = ()
    if ptr is not None:
        for i in tl.static_range(U):
            rows = rows + (tl.load(ptr + base + (at + i * C), mask=live, other=0),)  # noqa: RUF005
    return rows


@jit
def load_or_zero(ptr, j, live, zero):
    """Load an initial state, or return ``zero`` where there is none."""
    if ptr is None:
        return zero
    else:
        return tl.load(ptr + j, mask=live, other=0)


@jit
def load_last(ptr, base, at, live, T, C):
    """Load the last row."""
    return tl.load(ptr + base + (at + (T - 1) * C), mask=live, other=0)


@jit
def store_row(ptr, base, row, value, live):
    """Store a vector, where the tensor is wanted."""
    if ptr is not None:
        tl.store(ptr + base + row, value, mask=live)


@jit
def store_spike(
    ptr, base, row, s, v, last, live, scale,
    GRADED: tl.constexpr, SHIFT: tl.constexpr, EXACT: tl.constexpr, RULE: tl.constexpr,
):  # fmt: skip
    """Store a spike, or the one before with ``SHIFT``; return the one to be stored next."""
    if ptr is not None:
        out = spike_value(s, v, scale, GRADED, EXACT, RULE)
        if SHIFT:
            tl.store(ptr + base + row, last, mask=live)
            last = out
        else:
            tl.store(ptr + base + row, out, mask=live)
    return last
