"""Matrix instructions, by the published layouts of their fragments.

A thread of a warp is ``4 group + place``. Arrays have a row for each warp.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arithmetic import canonical, from_bfloat16

Array = NDArray[Any]

_LANE = np.arange(32)
_GROUP, _PLACE = _LANE >> 2, _LANE & 3


@functools.cache
def _layout(k: int, each: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Rows and columns ``[lane, entry]`` of the fragments of A ``16 x k`` and B ``k x 8``.

    ``each`` entries lie side by side in a register.
    """
    entry = np.arange(16 * k // 32)
    row = _GROUP[:, None] + 8 * (entry // each % 2)
    column = _PLACE[:, None] * each + entry % each + k // 2 * (entry // (2 * each))
    entry = np.arange(8 * k // 32)
    inner = _PLACE[:, None] * each + entry % each + k // 2 * (entry // each)
    return (row, column), (inner, np.broadcast_to(_GROUP[:, None], inner.shape))


_ENTRY = np.arange(4)
_ROW_C = _GROUP[:, None] + 8 * (_ENTRY // 2)
_COLUMN_C = _PLACE[:, None] * 2 + _ENTRY % 2


def _matrix(registers: list[Array], kind: Any, place: tuple[Array, Array], shape: Any) -> Array:
    """Put the fragments of the warps together; ``registers`` are ``[warps, 32]`` uint32."""
    entries = np.stack(registers, -1).view(kind)
    entries = entries.reshape(len(registers[0]), 32, -1)
    if kind is np.uint16:
        entries = from_bfloat16(entries)
    matrix = np.empty((len(entries), *shape))
    matrix[:, place[0], place[1]] = entries
    return matrix


def _product(a: list[Array], b: list[Array], kind: Any, k: int) -> Array:
    """Return the entries ``[warps, 32, 4]`` of A B in float64."""
    place_a, place_b = _layout(k, 4 // np.dtype(kind).itemsize)
    left, right = _matrix(a, kind, place_a, (16, k)), _matrix(b, kind, place_b, (k, 8))
    return np.matmul(left, right)[:, _ROW_C, _COLUMN_C]


def multiply_int8(a: list[Array], b: list[Array], c: list[Array]) -> list[Array]:
    """Return A B + C in int32, which saturates; exact."""
    total = _product(a, b, np.int8, 32) + np.stack([x.view(np.int32) for x in c], -1)
    found = np.clip(total, -(2**31), 2**31 - 1).astype(np.int32).view(np.uint32)
    return [found[..., i] for i in range(4)]


def multiply_bfloat16(a: list[Array], b: list[Array], c: list[Array]) -> list[Array]:
    """Return A B + C, rounded once; PTX leaves the order and the rounding of the sum open."""
    total = _product(a, b, np.uint16, 16) + np.stack([x.view(np.float32) for x in c], -1)
    found = canonical(total.astype(np.float32)).view(np.uint32)
    return [found[..., i] for i in range(4)]


PRODUCTS = {
    "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32": multiply_int8,
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32": multiply_bfloat16,
}
MULTIPLY_ADDS = {op: 16 * 8 * (32 if "k32" in op else 16) for op in PRODUCTS}


def to_fragments(rows: Array, transposed: bool) -> list[Array]:
    """``ldmatrix``: from 16-byte rows ``[warps, matrix, 8, 8]`` uint16 to registers."""
    if transposed:
        rows = rows.swapaxes(2, 3)
    pairs = np.ascontiguousarray(rows).view(np.uint32).reshape(len(rows), rows.shape[1], 32)
    return [pairs[:, i] for i in range(rows.shape[1])]


def from_fragments(registers: list[Array], transposed: bool) -> Array:
    """``stmatrix``: from registers to rows ``[warps, matrix, 8, 8]`` uint16."""
    pairs = np.stack(registers, 1)
    rows = np.ascontiguousarray(pairs).view(np.uint16).reshape(*pairs.shape[:2], 8, 8)
    return rows.swapaxes(2, 3) if transposed else rows
