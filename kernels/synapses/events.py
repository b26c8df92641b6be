"""The entries of an input that are not zero: found, listed, and filled with zeros again.

Spikes are rare, so most terms of a matrix product with them are zero. ``events_of`` finds the
others in one pass over the input; what adds them up is in event_products.py and
event_convolution.py. They are kept for the backward pass in place of the input: two bytes an event,
four where there are more than 2**16 inputs, and as many for its value unless all are 1.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import run_loop
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.executors.memory import empty
from torch import Tensor

if TYPE_CHECKING:
    from lapilli.kernels.executors.vector_ops import (
        collect_bits,
        count_bits,
        list_bits,
        lowest_bit,
        pack_words,
        prefetch,
        unequal_bits,
    )

TYPES = (torch.float32, torch.bool, torch.uint8, torch.int8)  # of an input
UNSIGNED = (1 << 16) - 1  # reads an int16 without its sign
LINE = 16  # float32 of a cache line
_WORD = 32  # inputs of a word of bits
# Entries to ask the memory for in advance: processors do so by themselves only within a page.
_AHEAD = 1 << 10
_ROWS = 16  # of a tile
_PIECES, _PIECE = 64, 256  # entries that tell how many events to expect
_SLACK = 1.25  # how many times as many events may be found as were to be expected


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
def _find_in_rows_cpu(first, last, x, bits, counts, graded, M, K):
    whole = K // _WORD  # words
    for tile in range(first, last):
        other = np.uint32(0)
        for m in range(tile * _ROWS, min((tile + 1) * _ROWS, M)):
            at = np.int64(m) * K
            count = np.int32(0)
            for w in range(whole):
                for i in range(0, _WORD, LINE):
                    prefetch(x, at + _AHEAD + i)
                word = unequal_bits(x, at, 0)
                other |= word & unequal_bits(x, at, 1)
                count += count_bits(word)
                bits[m, w] = word
                at += _WORD
            if K % _WORD:
                word = np.uint32(0)
                for i in range(K % _WORD):
                    word |= np.uint32(np.uint32(x[at + i] != 0) << np.uint32(i))
                    other |= np.uint32(x[at + i] != 0 and x[at + i] != 1)
                count += count_bits(word)
                bits[m, whole] = word
            counts[m] = count
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
                for k in range(0, 8 * LINE, LINE):  # of the next 8 inputs
                    prefetch(x, start + (i + 8) * T + 8 * t + k)
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
    # several places at once, as long as what follows is not another thread's
    room = np.int64(starts[end]) - _WORD if values is None else np.int64(-1)
    top = np.uint32(1 << 31)
    words = bits.shape[1]
    flat = bits.reshape(-1)
    packed, places = np.empty(words + 16, np.uint32), np.empty(words + 16, np.int32)
    for m in range(first * _ROWS, end):
        e = np.uint32(starts[m])  # unsigned: a place that may be negative costs a comparison
        some = np.int64(0)
        for w in range(0, words - 15, 16):
            some += pack_words(flat, np.int64(m) * words + w, np.int64(w), packed, places, some)
        for w in range(words // 16 * 16, words):
            packed[some], places[some] = bits[m, w], w
            some += np.int64(bits[m, w] != 0)
        crowded = 2 * (starts[m + 1] - starts[m]) > 3 * some  # else few words have more than two
        for i in range(some):
            word = packed[i]
            w = places[i] * _WORD
            if np.int64(e) <= room and crowded:
                e = np.uint32(e + np.uint32(list_bits(word, np.int64(w), columns, np.int64(e))))
                continue
            if np.int64(e) <= room:
                for _ in range(2):  # without a branch
                    columns[e] = w + lowest_bit(np.uint32(word | top))
                    e = np.uint32(e + np.uint32(word != 0))
                    word = np.uint32(word & np.uint32(word - np.uint32(1)))
            while word != 0:
                k = w + lowest_bit(word)
                columns[e] = k
                if values is not None:
                    values[e] = x[np.int64(m) * K + k]
                e = np.uint32(e + np.uint32(1))
                word = np.uint32(word & np.uint32(word - np.uint32(1)))


@dataclass(frozen=True)
class Found:
    """Where a matrix ``[M, K]`` is not zero, as bits.

    Attributes
    ----------
    bits
        ``[M, ceil(K / 32)]`` int32: bit ``k % 32`` of word ``k / 32`` tells of column ``k``.
    counts
        ``[M]`` int32: how many entries of each row are not zero.
    graded
        Whether some of them are not 1.
    """

    bits: Tensor
    counts: Tensor
    graded: bool


def find(x: Tensor, most: float = 1.0) -> Found | None:
    """Find the entries that are not zero; parameters and None are those of ``events_of``."""
    seen = _search(x, most)
    if seen is None:
        return None
    bits, starts, graded = seen
    counts = starts[1:].clone()
    if most < 1 and int(counts.sum()) > _SLACK * most * x.numel():
        return None
    return Found(bits, counts, bool(graded.any()))


def listed(x: Tensor, found: Found) -> Events:
    """List the entries that ``find`` found in ``x``."""
    starts = x.new_zeros(len(found.counts) + 1, dtype=torch.int32)
    torch.cumsum(found.counts, 0, dtype=torch.int32, out=starts[1:])
    return _list(x.detach(), found.bits, starts, found.graded)


def events_of(x: Tensor, most: float = 1.0) -> Events | None:
    """List the entries that are not zero.

    Parameters
    ----------
    x
        ``[N, neurons..., T]`` on the CPU, of ``TYPES``, contiguous, or a view of contiguous rows.
        The matrix is ``[N * T, neurons]``.
    most
        Highest density, by which a look at a few pieces decides. Where they are no more than that,
        up to 1.25 times as many events are listed: finding them has then been paid for.

    Returns
    -------
    Events or None
        None where there are more.
    """
    seen = _search(x, most)
    if seen is None:
        return None
    bits, starts, graded = seen
    starts.cumsum_(0)
    if int(starts[-1]) > _SLACK * most * x.numel():
        return None
    return _list(x.detach(), bits, starts, bool(graded.any()))


def _search(x: Tensor, most: float) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return bits, a zero with the number of events of each row behind it, what is graded."""
    x = x.detach()
    N, T = x.shape[0], x.shape[-1]
    rows = x.movedim(-1, 1)
    M, K = N * T, math.prod(x.shape[1:-1])
    is_rows = rows.is_contiguous()
    flat = (rows if is_rows else x).reshape(-1).contiguous()  # a view can be of equal steps
    if most < 1:  # a look at a few pieces settles most cases
        step = max(_PIECE, len(flat) // _PIECES)
        few = flat[: len(flat) // step * step].view(-1, step)[:, :_PIECE]
        if int(torch.count_nonzero(few)) > most * few.numel() + _WORD:
            return None
    words = -(-K // _WORD)
    bits = empty((M, words), torch.int32, x)
    starts = x.new_zeros(M + 1, dtype=torch.int32)
    tiles = -(-M // _ROWS)
    if is_rows:
        graded = x.new_empty(tiles, dtype=torch.bool)
        run_loop(_find_in_rows_cpu, tiles, x.numel(), (flat, bits, starts[1:], graded, M, K))
    else:
        graded = x.new_empty(N * words, dtype=torch.bool)
        run_loop(_find_in_series_cpu, len(graded), x.numel(), (flat, bits, graded, K, T))
        run_loop(_count_cpu, tiles, bits.numel(), (bits, starts[1:], M))
    return bits, starts, graded


def _list(x: Tensor, bits: Tensor, starts: Tensor, graded: bool) -> Events:
    M, K = len(bits), math.prod(x.shape[1:-1])
    found = int(starts[-1])
    columns = x.new_empty(found, dtype=torch.int16 if K <= 1 << 16 else torch.int32)
    values = flat = None
    if graded:
        values = x.new_empty(found, dtype=torch.float32)
        flat = x.movedim(-1, 1).reshape(-1).contiguous()
    run_loop(_list_cpu, -(-M // _ROWS), bits.numel(), (bits, starts, flat, columns, values, M, K))
    return Events(columns, starts, values, (M, K))


def filled(events: Events) -> Tensor:
    """Return the matrix ``[M, K]`` of ``events`` with its zeros, float32."""
    M, K = events.shape
    matrix = events.columns.new_zeros(M, K, dtype=torch.float32)
    columns = events.columns.to(torch.int64) & column_bits(events)
    rows = torch.repeat_interleave(torch.arange(M), events.starts.diff())
    matrix[rows, columns] = 1.0 if events.values is None else events.values
    return matrix


def column_bits(events: Events) -> int:
    """Return the bits that make a column of an int16, which is read without its sign."""
    return UNSIGNED if events.columns.dtype == torch.int16 else (1 << 31) - 1
