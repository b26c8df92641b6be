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
from lapilli.kernels.executors.dispatch import run_loop
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.executors.processor import second_level_cache
from lapilli.kernels.executors.transpose import transpose
from torch import Tensor

from .codes import codes_of

if TYPE_CHECKING:
    from lapilli.kernels.executors.vector_ops import (
        collect_bits,
        count_bits,
        list_bits,
        lowest_bit,
        pack_words,
        prefetch,
        sum_frame_of_codes,
        sum_rows,
        transpose_piece,
        unequal_bits,
    )

TYPES = (torch.float32, torch.bool, torch.uint8, torch.int8)  # of an input
_UNSIGNED = (1 << 16) - 1  # reads an int16 without its sign
_WORD = 32  # inputs of a word of bits
# Entries to ask the memory for in advance: processors do so by themselves only within a page.
_AHEAD = 1 << 10
_ROWS = 16  # of a tile of the search
_PIECES, _PIECE = 64, 256  # entries that tell how many events to expect
_SLACK = 1.25  # how many times as many events may be found as were to be expected
_LANES, _FEW = 128, 16  # sums at once
_LINE = 16  # float32 of a cache line
_SIDE = 64  # columns whose sums are turned at once
# Events that pay for sorting them: so many a frame, whose gradient is copied, and a column, whose
# sums are read again for every part of the frames but the first (measured).
_A_FRAME, _A_COLUMN = 9, 24
_IN_FIRST_CACHE = 1 << 15  # sums, which are quick to add to as they come
_CACHED = 3 << 19  # bytes of what is to stay close by, where the second-level cache is large
_SMALL_CACHE = 1 << 20  # bytes; in a smaller one no block is worth reading the events once more


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
                for i in range(0, _WORD, _LINE):
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
                for k in range(0, 8 * _LINE, _LINE):  # of the next 8 inputs
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


@cpu_loop
def _gather_cpu(first, last, columns, starts, values, weight, y, M, K, O, B, mask):
    # weight [blocks, K, B] flat, y [M, O] flat
    for o0 in range(0, O, B):  # outermost: a block of weights stays in the cache
        w, outputs = np.int64(o0) * K, min(B, O - o0)
        for m in range(first * _ROWS, min(last * _ROWS, M)):
            at = np.int64(m) * O + o0
            e, end = starts[m], starts[m + 1]
            factors = values if values is not None else None
            sum_rows(y, at, weight, w, B, columns, mask, factors, e, end, outputs)


@cpu_loop
def _gather_codes_cpu(first, last, columns, starts, codes, y, step, M, K, O, B, mask):
    for o0 in range(0, O, B):
        w, outputs = np.int64(o0) * K, min(B, O - o0)
        for m in range(first * _ROWS, min(last * _ROWS, M)):
            at = np.int64(m) * O + o0
            e, end = starts[m], starts[m + 1]
            sum_frame_of_codes(y, at, codes, w, B, columns, mask, e, end, step, outputs)


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


@cpu_loop
def _sort_cpu(first, last, columns, starts, values, rows, factors, places, chunk, M, mask):
    # places [chunks, K + 2]: where the events of each column begin
    for c in range(first, last):
        m0, m1 = c * chunk, min((c + 1) * chunk, M)
        at = places[c]
        at[:] = 0
        for e in range(starts[m0], starts[m1]):
            at[(columns[e] & mask) + 2] += 1
        at[:2] = starts[m0]
        for k in range(2, len(at)):
            at[k] += at[k - 1]
        for m in range(m0, m1):
            for e in range(starts[m], starts[m + 1]):
                k = (columns[e] & mask) + 1
                rows[at[k]] = m - m0
                if values is not None:
                    factors[at[k]] = values[e]
                at[k] += 1


@cpu_loop
def _sum_sorted_cpu(
    first, last, rows, factors, places, g, blocks, sums, chunk, M, K, O, B, mask,
):  # fmt: skip
    # g [M, O] flat, blocks [parts, chunk, B] flat, sums [O, K] flat
    piece, turned = np.empty(_SIDE * B, np.float32), np.empty(_SIDE * B, np.float32)
    values = factors if factors is not None else None
    for part in range(first, last):
        block = blocks[np.int64(part) * chunk * B : np.int64(part + 1) * chunk * B]
        o0 = np.int64(part) * B
        outputs = min(B, O - o0)
        for c in range(len(places)):
            at = places[c]
            # the block's outputs side by side, to stay in the second-level cache
            for m in range(c * chunk, min((c + 1) * chunk, M)):
                there, here = np.int64(m - c * chunk) * B, m * O + o0
                for o in range(0, outputs, _LINE):
                    prefetch(g, here + 8 * O + o)
                # not one slice to the other, which takes seconds to compile
                row, line = block[there : there + outputs], g[here : here + outputs]
                for o in range(len(line)):
                    row[o] = line[o]
            for k0 in range(0, K, _SIDE):
                inputs = min(_SIDE, K - k0)
                place = o0 * K + k0
                for o in range(outputs):  # will be written when the sums are complete
                    for i in range(0, inputs, _LINE):
                        prefetch(sums, place + o * K + i)
                for i in range(inputs):
                    e, end, p = at[k0 + i], at[k0 + i + 1], i * outputs
                    sum_rows(piece, p, block, 0, B, rows, mask, values, e, end, outputs)
                # one call for both targets: it takes long to compile
                target, there, stride = sums, place, np.int64(K)
                if c > 0:
                    target, there, stride = turned, np.int64(0), np.int64(inputs)
                transpose_piece(piece, np.int64(0), outputs, inputs, outputs, target, there, stride)
                if c > 0:
                    for o in range(outputs):
                        for i in range(inputs):
                            sums[place + o * K + i] += turned[o * inputs + i]


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
    return _UNSIGNED if events.columns.dtype == torch.int16 else (1 << 31) - 1


def _width(K: int, O: int, parts: int, size: int = 4, room: int = _CACHED) -> int:
    """Width of a block of columns: a divisor of ``O`` in ``parts`` blocks or more, if it can be.

    Such a block of ``K`` rows, of entries of ``size`` bytes, takes no more than ``room``.
    """
    most = max(1, min(room // (size * K), O // parts))
    fits = [b for b in range(16, most + 1, 16) if O % b == 0]
    return fits[-1] if fits else O


def _kept_close() -> int:
    """Bytes of a block that stays in the second-level cache, beside what passes through it."""
    return second_level_cache() * 3 // 4


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
    whole = -(-O // _FEW) * _FEW  # rows of the weight that lanes are full of
    if whole > O:
        weight = torch.nn.functional.pad(weight.detach(), (0, 0, 0, whole - O))
    if step and events.values is None:
        width = _width(K, whole, 1, size=1, room=_kept_close())
        codes = codes_of(weight.contiguous().view(-1, width, K), step, turn=True, biased=True)
        if codes is not None:
            run_loop(
                _gather_codes_cpu, -(-M // _ROWS), work,
                (events.columns, events.starts, codes.view(-1), y.view(-1), step, M, K, O, width,
                 mask),
            )  # fmt: skip
            return y
    width = _width(K, whole, 1)
    blocks = transpose(weight.contiguous().view(-1, width, K))
    run_loop(
        _gather_cpu, -(-M // _ROWS), work,
        (events.columns, events.starts, events.values, blocks.view(-1), y.view(-1), M, K, O, width,
         mask),
    )  # fmt: skip
    return y


def scatter(events: Events, g: Tensor) -> Tensor:
    """Multiply the transpose of ``g`` ``[M, O]`` by the matrix of ``events``: ``[O, K]``."""
    M, K = events.shape
    O = g.shape[1]
    chunks = _chunks(M)
    worth_sorting = len(events.columns) > _A_FRAME * M + _A_COLUMN * (chunks - 1) * K
    if worth_sorting and K * O >= _IN_FIRST_CACHE:
        return _scatter_sorted(events, g, chunks)
    small = second_level_cache() < _SMALL_CACHE
    width = _width(K, O, torch.get_num_threads(), room=4 * K * O if small else _CACHED)
    sums = empty((O // width, K, width), torch.float32, g)
    run_loop(
        _scatter_cpu, len(sums), (len(events.columns) + M + K) * O,
        (events.columns, events.starts, events.values, g, sums, M, column_bits(events)),
    )  # fmt: skip
    return transpose(sums).view(O, K)


def _chunks(M: int) -> int:
    """Return how many parts of the frames stay in the cache, whatever the number of threads."""
    return max(1, -(-M // (_CACHED // (4 * _LANES))))


def _scatter_sorted(events: Events, g: Tensor, chunks: int) -> Tensor:
    """Do what ``scatter`` does, with the events of each column side by side: sums in registers."""
    M, K = events.shape
    O = g.shape[1]
    chunk = -(-M // chunks)
    fits = max(_FEW, _kept_close() // (4 * chunk) // _FEW * _FEW)  # to be read once an event
    width = min(_LANES, fits, _FEW * -(-O // (_FEW * torch.get_num_threads())))
    parts = -(-O // width)
    places = torch.empty(chunks, K + 2, dtype=torch.int32)
    rows = torch.empty(len(events.columns), dtype=torch.int16)
    factors = None if events.values is None else torch.empty_like(events.values)
    run_loop(
        _sort_cpu, chunks, len(rows),
        (events.columns, events.starts, events.values, rows, factors, places, chunk, M,
         column_bits(events)),
    )  # fmt: skip
    sums = empty((O, K), torch.float32, g)
    blocks = empty((parts * chunk * width,), torch.float32, g)
    run_loop(
        _sum_sorted_cpu, parts, (len(rows) + M + K) * O,
        (rows, factors, places, g.view(-1), blocks, sums.view(-1), chunk, M, K, O, width,
         _UNSIGNED),
    )  # fmt: skip
    return sums
