"""Numbers with eight bits as int8: quantised weights, spikes, and their exact product.

    x = c step, c an integer from -128 to 127

Sums of products of such numbers are integers, so that they have the same bits in any order and in
any arithmetic that holds them. Codes take a quarter of the memory, and processors with
instructions for them (VNNI) multiply them four times as fast as float32.
"""

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import run_loop
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.executors.memory import empty
from torch import Tensor

if TYPE_CHECKING:
    from lapilli.kernels.executors.vector_ops import prefetch, transpose_to_codes

_SIDE = 64  # columns that are turned at once: whole cache lines
_BLOCK = 16  # of a block of ``transpose_to_codes``
_SIGNS = -0x7F7F7F80  # the sign bit of each of four bytes
_TILE = 1 << 14  # entries of a tile


@cpu_loop
def _codes_cpu(first, last, x, codes, unequal, scale, E):
    for tile in range(first, last):
        other = np.uint32(0)
        end = min((tile + 1) * _TILE, E)
        levels, whole = x[tile * _TILE : end], codes[tile * _TILE : end]
        for i in range(len(levels)):
            level = levels[i] * scale
            whole[i] = np.int32(level)
            other |= np.uint32(np.float32(whole[i]) != level)
        unequal[tile] = other != 0


@cpu_loop
def _scale_cpu(first, last, sums, y, step, E):
    start, end = first * _TILE, min(last * _TILE, E)
    whole, real = sums[start:end], y[start:end]
    for i in range(len(whole)):
        real[i] = np.float32(whole[i]) * step


@cpu_loop
def _turned_codes_cpu(first, last, x, codes, unequal, scale, bias, R, C):
    # x [N, R, C] flat, codes [N, C, R] flat, bytes
    flip = np.int32(0) if bias else np.int32(_SIGNS)
    strips = (C + _SIDE - 1) // _SIDE
    for tile in range(first, last):
        n, start = np.int64(tile // strips) * R * C, tile % strips * _SIDE
        end = min(start + _SIDE, C)
        other = np.uint32(0)
        if min(R, C) < _BLOCK:
            for c in range(start, end):
                for r in range(R):
                    level = x[n + r * C + c] * scale
                    code = np.int8(np.int32(level))
                    codes[n + c * R + r] = code + bias
                    other |= np.uint32(np.float32(code) != level)
        else:
            for r0 in range(0, R, _BLOCK):
                r = min(r0, R - _BLOCK)  # the last block overlaps the one before
                for c0 in range(start, end, _BLOCK):
                    c = min(c0, C - _BLOCK)
                    for i in range(_BLOCK):
                        prefetch(x, n + (r + i) * C + c + _SIDE)
                    other |= transpose_to_codes(
                        x, n + r * C + c, C, scale, codes, n + c * R + r, R, flip
                    )
        unequal[tile] = other != 0


def codes_of(x: Tensor, step: float, turn: bool = False, biased: bool = False) -> Tensor | None:
    """Return what times ``step`` is ``x``.

    Parameters
    ----------
    x
        Contiguous float32 on the CPU; ``[N, R, C]`` if it is to be turned.
    step
        A power of two.
    turn
        Transpose the matrices: ``[N, C, R]``.
    biased
        Add 128, of matrices that are turned.

    Returns
    -------
    Tensor or None
        int8, biased uint8; None where ``x`` holds anything else than -128 to 127 steps.
    """
    x = x.detach()
    if turn:
        N, R, C = x.shape
        codes = empty((N, C, R), torch.uint8 if biased else torch.int8, x)
        unequal = x.new_empty(N * -(-C // _SIDE), dtype=torch.bool)
        run_loop(
            _turned_codes_cpu, len(unequal), x.numel(),
            (x.view(-1), codes.view(-1), unequal, 1 / step, 128 if biased else 0, R, C),
        )  # fmt: skip
    else:
        codes = empty(x.shape, torch.int8, x)
        unequal = x.new_empty(-(-x.numel() // _TILE), dtype=torch.bool)
        run_loop(
            _codes_cpu, len(unequal), x.numel(),
            (x.view(-1), codes.view(-1), unequal, 1 / step, x.numel()),
        )  # fmt: skip
    return None if bool(unequal.any()) else codes


def rows_of_codes(x: Tensor) -> Tensor | None:
    """Return ``[N, neurons..., T]`` as rows ``[N * T, neurons]`` of int8; None if it is not.

    ``x`` is float32, contiguous or a view of contiguous rows.
    """
    rows = x.movedim(-1, 1)
    if rows.is_contiguous():
        codes = codes_of(rows.flatten(0, 1).flatten(1), 1.0)
    else:
        codes = codes_of(x.flatten(1, -2).contiguous(), 1.0, turn=True)
    return None if codes is None else codes.view(x.shape[0] * x.shape[-1], -1)


def multiply(x: Tensor, w: Tensor, step: float) -> Tensor:
    """Return ``step`` times the product of int8 matrices ``[M, K]`` and ``[K, O]``, float32."""
    shape = len(x), w.shape[1]
    out = empty(shape, torch.int32, x)
    sums = torch._int_mm(x, w, out=out)  # pyright: ignore[reportPrivateImportUsage]
    y = empty(shape, torch.float32, x)
    tiles = -(-y.numel() // _TILE)
    run_loop(_scale_cpu, tiles, y.numel(), (sums.view(-1), y.view(-1), step, y.numel()))
    return y


@functools.cache
def usable() -> bool:
    """Whether ``multiply`` is quick here, which it is with VNNI, and exact: tried once."""
    has_vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)  # private to torch
    if not torch.backends.mkldnn.is_available() or not has_vnni():
        return False
    terms = 1 << 11
    codes = (torch.arange(terms) % 256 - 128).to(torch.int8)
    columns = torch.stack((codes, codes.flip(0), torch.full_like(codes, -128), codes.abs() % 127))
    w = columns.repeat(64, 1).t()  # as weights are: contiguous before they are turned
    x = torch.stack((codes, torch.ones_like(codes), torch.zeros_like(codes), codes & 1))
    x = x.repeat(64, 1)
    try:
        got = multiply(x, w, 1.0)
    except (AttributeError, RuntimeError):  # this torch has no such product
        return False
    return torch.equal(got.double(), x.double() @ w.double())
