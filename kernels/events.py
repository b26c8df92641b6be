"""Event-driven products: add the weight rows of the inputs that are not zero, and nothing else.

    y[m] = sum_k x[m, k] W[:, k]               forward
    g_W[:, k] = sum_m x[m, k] g[m]             gradient of the weight

Spikes are rare, so most terms of the matrix product are zero. ``events_of`` finds the others in one
pass over the input, and both sums run over them alone. They are kept for the backward pass in place
of the input: two bytes an event, four where there are more than 2**16 inputs, and as many for its
value unless all are 1.

With quantised weights every sum of spikes is exact, so the order of the terms, which differs from a
matrix product's, changes no bit. The order does not depend on the number of threads.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .codes import codes_of
from .dispatch import run_loop
from .lift import cpu_loop
from .memory import empty
from .transpose import transpose

if TYPE_CHECKING:
    from .vector_ops import collect_bits, count_bits, lowest_bit, unequal_bits

TYPES = (torch.float32, torch.bool, torch.uint8, torch.int8)  # of an input
_WORD = 32  # inputs of a word of bits
_ROWS = 16  # of a tile of the search
_PIECES, _PIECE = 64, 256  # entries that tell how many events to expect
_SLACK = 1.25  # how many times as many of those may be events
_MOST_OF_16_BITS = 256  # codes of 8 bits
_CACHED = 3 << 19  # bytes of a block of weights, to stay in the second-level cache


@dataclass(frozen=True)
class Events:
    """The entries of a matrix ``[M, K]`` that are not zero, row by row.

    Attributes
    ----------
    columns
        ``[E]`` int16 (read as unsigned) or int32: the column of each.
    starts
        ``[M + 1]`` int32: where each row begins in ``columns``.
    values
        ``[E]`` float32, or None where all are 1.
    shape
        ``M, K``.
    """

    columns: Tensor
    starts: Tensor
    values: Tensor | None
    shape: tuple[int, int]


@cpu_loop
def _find_in_rows_cpu(first, last, x, bits, graded, M, K):
    whole = K // _WORD  # words
    for tile in range(first, last):
        other = np.uint32(0)
        for m in range(tile * _ROWS, min((tile + 1) * _ROWS, M)):
            at = np.int64(m) * K
            for w in range(whole):
                word = unequal_bits(x, at, 0)
                other |= word & unequal_bits(x, at, 1)
                bits[m, w] = word
                at += _WORD
            if K % _WORD:
                word = np.uint32(0)
                for i in range(K % _WORD):
                    word |= np.uint32(np.uint32(x[at + i] != 0) << np.uint32(i))
                    other |= np.uint32(x[at + i] != 0 and x[at + i] != 1)
                bits[m, whole] = word
        graded[tile] = other != 0


@cpu_loop
def _find_in_series_cpu(first, last, x, bits, graded, K, T):
    words = (K + _WORD - 1) // _WORD
    line = np.empty(T, np.uint32)
    for tile in range(first, last):
        n, w = tile // words, tile % words
        start = (np.int64(n) * K + w * _WORD) * T
        inputs = min(_WORD, K - w * _WORD)
        blocks = inputs // 8 * 8 if T >= 16 else 0
        other = np.uint32(0)
        line[:] = 0
        for i in range(0, blocks, 8):
            for t in range(0, T, 16):
                t0 = min(t, T - 16)  # the last block overlaps the one before
                other |= collect_bits(x, start + i * T + t0, T, line, t0, i)
        for i in range(blocks, inputs):
            bit = np.uint32(np.uint32(1) << np.uint32(i))
            for t in range(T):
                x_t = x[start + i * T + t]
                line[t] |= bit if x_t != 0 else np.uint32(0)
                other |= np.uint32(x_t != 0) & np.uint32(x_t != 1)
        for t in range(T):
            bits[np.int64(n) * T + t, w] = line[t]
        graded[tile] = other != 0


@cpu_loop
def _count_cpu(first, last, bits, counts, M):
    for m in range(first * _ROWS, min(last * _ROWS, M)):
        count = np.int32(0)
        for w in range(bits.shape[1]):
            count += count_bits(np.uint32(bits[m, w]))
        counts[m] = count


@cpu_loop
def _list_cpu(first, last, bits, starts, x, columns, values, M, K):
    end = min(last * _ROWS, M)
    # two places at once, as long as what follows is not another thread's
    room = starts[end] - 2 if values is None else -1
    top = np.uint32(1 << 31)
    for m in range(first * _ROWS, end):
        e = np.uint32(starts[m])  # unsigned: a place that may be negative costs a comparison
        for w in range(bits.shape[1]):
            word = np.uint32(bits[m, w])
            if np.int64(e) <= room:  # without a branch: most words have no more than two
                for _ in range(2):
                    columns[e] = w * _WORD + lowest_bit(np.uint32(word | top))
                    e = np.uint32(e + np.uint32(word != 0))
                    word = np.uint32(word & np.uint32(word - np.uint32(1)))
            while word != 0:
                k = w * _WORD + lowest_bit(word)
                columns[e] = k
                if values is not None:
                    values[e] = x[np.int64(m) * K + k]
                e = np.uint32(e + np.uint32(1))
                word = np.uint32(word & np.uint32(word - np.uint32(1)))


@cpu_loop
def _gather_cpu(first, last, columns, starts, values, weight, y, M, mask):
    B = weight.shape[2]
    for block in range(weight.shape[0]):  # outermost: a block of weights stays in the cache
        w = weight[block]
        for m in range(first * _ROWS, min(last * _ROWS, M)):
            y_m = y[m, block * B : (block + 1) * B]
            y_m[:] = 0
            e, end = starts[m], starts[m + 1]
            while e + 4 <= end:  # four at once: the sum is read and written a quarter as often
                a, b = w[columns[e] & mask], w[columns[e + 1] & mask]
                c, d = w[columns[e + 2] & mask], w[columns[e + 3] & mask]
                if values is not None:
                    v_a, v_b, v_c, v_d = values[e], values[e + 1], values[e + 2], values[e + 3]
                    for o in range(B):
                        y_m[o] += (v_a * a[o] + v_b * b[o]) + (v_c * c[o] + v_d * d[o])
                else:
                    for o in range(B):
                        y_m[o] += (a[o] + b[o]) + (c[o] + d[o])
                e += 4
            while e < end:
                a = w[columns[e] & mask]
                for o in range(B):
                    y_m[o] += a[o] * values[e] if values is not None else a[o]
                e += 1


@cpu_loop
def _gather_codes_cpu(first, last, columns, starts, codes, y, step, M, mask):
    B = codes.shape[2]
    sums = np.empty(B, np.int16)
    for block in range(codes.shape[0]):
        w = codes[block]
        for m in range(first * _ROWS, min(last * _ROWS, M)):
            y_m = y[m, block * B : (block + 1) * B]
            y_m[:] = 0
            e, end = starts[m], starts[m + 1]
            while e < end:
                stop = min(end, e + _MOST_OF_16_BITS)
                sums[:] = 0
                while e + 4 <= stop:
                    a, b = w[columns[e] & mask], w[columns[e + 1] & mask]
                    c, d = w[columns[e + 2] & mask], w[columns[e + 3] & mask]
                    for o in range(B):
                        sums[o] += np.int16((a[o] + b[o]) + (c[o] + d[o]))
                    e += 4
                while e < stop:
                    a = w[columns[e] & mask]
                    for o in range(B):
                        sums[o] += a[o]
                    e += 1
                for o in range(B):
                    y_m[o] += np.float32(sums[o]) * step


@cpu_loop
def _scatter_cpu(first, last, columns, starts, values, g, sums, M, mask):
    B = sums.shape[2]
    for block in range(first, last):
        s = sums[block]
        s[:] = 0
        for m in range(M):
            g_m = g[m, block * B : (block + 1) * B]
            for e in range(starts[m], starts[m + 1]):
                s_k = s[columns[e] & mask]
                for o in range(B):
                    s_k[o] += g_m[o] * values[e] if values is not None else g_m[o]


def events_of(x: Tensor, most: float = 1.0) -> Events | None:
    """List the entries that are not zero.

    Parameters
    ----------
    x
        ``[N, neurons..., T]`` on the CPU, of ``TYPES``, contiguous, or a view of contiguous rows.
        The matrix is ``[N * T, neurons]``.
    most
        Largest density.

    Returns
    -------
    Events or None
        None where more than the share ``most`` of the entries is not zero.
    """
    x = x.detach()
    N, T = x.shape[0], x.shape[-1]
    rows = x.movedim(-1, 1)
    M, K = N * T, math.prod(x.shape[1:-1])
    is_rows = rows.is_contiguous()
    flat = (rows if is_rows else x).reshape(-1)
    if most < 1:  # a look at a few pieces settles most cases
        step = max(_PIECE, len(flat) // _PIECES)
        few = flat[: len(flat) // step * step].view(-1, step)[:, :_PIECE]
        if int(torch.count_nonzero(few)) > _SLACK * most * few.numel() + _WORD:
            return None
    words = -(-K // _WORD)
    bits = empty((M, words), torch.int32, x)
    if is_rows:
        graded = x.new_empty(-(-M // _ROWS), dtype=torch.bool)
        run_loop(_find_in_rows_cpu, len(graded), x.numel(), (flat, bits, graded, M, K))
    else:
        graded = x.new_empty(N * words, dtype=torch.bool)
        run_loop(_find_in_series_cpu, len(graded), x.numel(), (flat, bits, graded, K, T))
    starts = x.new_zeros(M + 1, dtype=torch.int32)
    tiles = -(-M // _ROWS)
    run_loop(_count_cpu, tiles, bits.numel(), (bits, starts[1:], M))
    starts.cumsum_(0)
    found = int(starts[-1])
    if found > most * M * K:
        return None
    columns = x.new_empty(found, dtype=torch.int16 if K <= 1 << 16 else torch.int32)
    values = flat = None
    if bool(graded.any()):
        values, flat = x.new_empty(found, dtype=torch.float32), rows.reshape(-1)
    run_loop(_list_cpu, tiles, bits.numel(), (bits, starts, flat, columns, values, M, K))
    return Events(columns, starts, values, (M, K))


def column_bits(events: Events) -> int:
    """Return the bits that make a column of an int16, which is read without its sign."""
    return (1 << 16) - 1 if events.columns.dtype == torch.int16 else (1 << 31) - 1


def _width(K: int, O: int, parts: int, size: int = 4) -> int:
    """Width of a block of columns: a divisor of ``O`` in ``parts`` blocks or more, if it can be."""
    most = max(1, min(_CACHED // (size * K), O // parts))
    fits = [b for b in range(16, most + 1, 16) if O % b == 0]
    return fits[-1] if fits else O


def gather(events: Events, weight: Tensor, step: float = 0.0) -> Tensor:
    """Multiply the matrix of ``events`` by the transpose of a weight.

    Parameters
    ----------
    events
        Matrix ``[M, K]``.
    weight
        ``[O, K]`` float32.
    step
        A power of two of which ``weight`` holds multiples, as a rule; then its int8 codes are
        added, which is quicker. 0 if nothing is known.

    Returns
    -------
    Tensor
        ``[M, O]`` float32.
    """
    M, K = events.shape
    O = len(weight)
    y = empty((M, O), torch.float32, weight)
    work = (len(events.columns) + M) * O
    mask = column_bits(events)
    if step and events.values is None:
        width = _width(K, O, 1, size=1)
        codes = codes_of(weight.contiguous().view(-1, width, K), step, turn=True)
        if codes is not None:
            run_loop(
                _gather_codes_cpu, -(-M // _ROWS), work,
                (events.columns, events.starts, codes, y, step, M, mask),
            )  # fmt: skip
            return y
    width = _width(K, O, 1)
    blocks = transpose(weight.contiguous().view(-1, width, K))
    run_loop(
        _gather_cpu, -(-M // _ROWS), work,
        (events.columns, events.starts, events.values, blocks, y, M, mask),
    )  # fmt: skip
    return y


def scatter(events: Events, g: Tensor) -> Tensor:
    """Multiply the transpose of ``g`` ``[M, O]`` by the matrix of ``events``: ``[O, K]``."""
    M, K = events.shape
    O = g.shape[1]
    width = _width(K, O, torch.get_num_threads())
    sums = empty((O // width, K, width), torch.float32, g)
    run_loop(
        _scatter_cpu, len(sums), (len(events.columns) + M + K) * O,
        (events.columns, events.starts, events.values, g, sums, M, column_bits(events)),
    )  # fmt: skip
    return transpose(sums).view(O, K)
