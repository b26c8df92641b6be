"""Event-driven products: add the weight rows of the inputs that are not zero, and nothing else.

    y[m] = sum_k x[m, k] W[:, k]               forward
    g_W[:, k] = sum_m x[m, k] g[m]             gradient of the weight

Both sums run over events (events.py) alone. With quantised weights every sum of spikes is exact, so
the order of the terms, which differs from a matrix product's, changes no bit. The order does not
depend on the number of threads.
"""

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
from .events import LINE, UNSIGNED, Events, column_bits

if TYPE_CHECKING:
    from lapilli.kernels.executors.vector_ops import (
        add_to_row,
        aligned,
        prefetch,
        sum_frame_of_codes,
        sum_rows,
        transpose_piece,
    )

_ROWS = 16  # of a tile
_FEW = 16  # sums at once, of a tile's rows
_WIDE = 64  # outputs whose sums are taken at once
_SIDE = 64  # columns whose sums are turned at once
# Events that pay for sorting them: so many a frame, whose gradient is copied, beside one a column
# and chunk, whose sums are read again (measured).
_A_FRAME = 9
_CHUNK = 384  # frames of a chunk
_A_SUM = 10  # events of a column in half a chunk that pay for reading its sum twice as often
_IN_FIRST_CACHE = 1 << 15  # sums, which are quick to add to as they come
_CACHED = 3 << 19  # bytes of what is to stay close by, where the second-level cache is large
_SMALL_CACHE = 1 << 20  # bytes; in a smaller one no block is worth reading the events once more


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
def _sum_sorted_cpu(first, last, rows, factors, places, g, sums, chunk, M, K, O, pieces, mask):
    # g [M, O] flat, sums [O, K] flat; a tile is 64 outputs and a piece of the columns
    length = (K + pieces - 1) // pieces
    block, total = aligned(chunk * _WIDE, np.float32), aligned(length * _WIDE, np.float32)
    values = factors if factors is not None else None
    block[:] = 0
    for tile in range(first, last):
        o0, begin = np.int64(tile // pieces) * _WIDE, tile % pieces * length
        outputs, until = min(_WIDE, O - o0), min(begin + length, K)
        total[:] = 0
        for c in range(len(places)):
            # the block's outputs side by side, to stay in the first-level cache
            for m in range(c * chunk, min((c + 1) * chunk, M)):
                there, here = np.int64(m - c * chunk) * _WIDE, m * O + o0
                for o in range(0, outputs, LINE):
                    prefetch(g, here + 8 * O + o)
                # not one slice to the other, which takes seconds to compile
                row, line = block[there : there + outputs], g[here : here + outputs]
                for o in range(len(line)):
                    row[o] = line[o]
            at = places[c]
            for k in range(begin, until):
                e, end, there = at[k], at[k + 1], np.int64(k - begin) * _WIDE
                if e < end:
                    add_to_row(
                        total, there, block, _WIDE, rows, mask, values, e, end, outputs,
                    )  # fmt: skip
        for k0 in range(begin, until, _SIDE):
            transpose_piece(
                total, np.int64(k0 - begin) * _WIDE, np.int64(_WIDE), min(_SIDE, until - k0),
                outputs, sums, o0 * K + k0, np.int64(K),
            )  # fmt: skip


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
    worth_sorting = len(events.columns) > _A_FRAME * M + -(-M // _CHUNK) * K
    if worth_sorting and K * O >= _IN_FIRST_CACHE:
        return _scatter_sorted(events, g)
    small = second_level_cache() < _SMALL_CACHE
    width = _width(K, O, torch.get_num_threads(), room=4 * K * O if small else _CACHED)
    sums = empty((O // width, K, width), torch.float32, g)
    run_loop(
        _scatter_cpu, len(sums), (len(events.columns) + M + K) * O,
        (events.columns, events.starts, events.values, g, sums, M, column_bits(events)),
    )  # fmt: skip
    return transpose(sums).view(O, K)


def _scatter_sorted(events: Events, g: Tensor) -> Tensor:
    """Do what ``scatter`` does, with the events of each column side by side: sums in registers.

    They are summed by chunks of frames, whatever the number of threads.
    """
    M, K = events.shape
    O = g.shape[1]
    many = len(events.columns) * (_CHUNK // 2) >= _A_SUM * M * K
    chunk = min(M, _CHUNK // 2 if many else _CHUNK)
    chunks = -(-M // chunk)
    parts = -(-O // _WIDE)
    pieces = -(-torch.get_num_threads() // parts)
    places = torch.empty(chunks, K + 2, dtype=torch.int32)
    rows = torch.empty(len(events.columns), dtype=torch.int16)
    factors = None if events.values is None else torch.empty_like(events.values)
    run_loop(
        _sort_cpu, chunks, len(rows),
        (events.columns, events.starts, events.values, rows, factors, places, chunk, M,
         column_bits(events)),
    )  # fmt: skip
    sums = empty((O, K), torch.float32, g)
    run_loop(
        _sum_sorted_cpu, parts * pieces, (len(rows) + M + K) * O,
        (rows, factors, places, g.view(-1), sums.view(-1), chunk, M, K, O, pieces, UNSIGNED),
    )  # fmt: skip
    return sums
