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
        prefetch,
        sum_frame_of_codes,
        sum_rows,
        transpose_piece,
    )

_ROWS = 16  # of a tile
_LANES, _FEW = 128, 16  # sums at once
_SIDE = 64  # columns whose sums are turned at once
# Events that pay for sorting them: so many a frame, whose gradient is copied, and a column, whose
# sums are read again for every part of the frames but the first (measured).
_A_FRAME, _A_COLUMN = 9, 24
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
                for o in range(0, outputs, LINE):
                    prefetch(g, here + 8 * O + o)
                # not one slice to the other, which takes seconds to compile
                row, line = block[there : there + outputs], g[here : here + outputs]
                for o in range(len(line)):
                    row[o] = line[o]
            for k0 in range(0, K, _SIDE):
                inputs = min(_SIDE, K - k0)
                place = o0 * K + k0
                for o in range(outputs):  # will be written when the sums are complete
                    for i in range(0, inputs, LINE):
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
         UNSIGNED),
    )  # fmt: skip
    return sums
