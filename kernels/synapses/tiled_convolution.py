"""Convolutions of frames on tensor cores that lose nothing, where the weights are bfloat16.

    y[f, o, i, j] = sum_{c, k, l} w[o, c, k, l] x[f, c, i s - p + k d, j s - p + l d]

is a matrix product, of the weight with rows o and columns (c, k, l), and of entries of x with the
positions (f, i, j) as columns. No such matrix is in memory: a program gathers a tile of it from the
frames, where positions are neighbours in memory, and splits each float32 into three bfloat16
(bfloat16.py). Products are exact in float32, and sums are those of float32: of spikes, and of
graded events on the grid of the states, they are those of integers, bit for bit. A tile that one
bfloat16 holds, as it does spikes, is multiplied once.

The transpose reads x at (i + p - k d) / s, where that is whole. It is the gradient of the input of
a convolution. The gradient of a weight is a product over all positions,

    g_w[o, c, k, l] = sum_{f, i, j} g[f, o, i, j] x[f, c, i s - p + k d, j s - p + l d]

of which several programs add up a part each. There both sides are split: by the events, which one
bfloat16 holds, three products are as good as float32, by other numbers six.

blocks/tensor_cores.py decides where these run.
"""

from collections.abc import Sequence

import torch
from lapilli.kernels.executors.dispatch import launch
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.numbers.language import BACKEND, jit, tl
from torch import Tensor

Pair = Sequence[int]  # vertical and horizontal

_POSITIONS = 128  # of a tile of outputs
_ENTRIES = 16  # of a weight that are multiplied at once: the least of a tensor core
_SUMMED = 16  # positions that the gradient of a weight adds up at once
_COLUMNS = 64  # of a tile of that gradient
_PROGRAMS = 1024  # that share the gradient of a weight, and its tiles
_FAR = tl.constexpr(1 << 29)  # a row that no frame has
# the interpreter multiplies bits of bfloat16 as if they were whole numbers
_OPERAND = "float32" if BACKEND == "interpret" else "bfloat16"


@jit
def _multiplied(a, b, total, DOT: tl.constexpr):
    """Add ``a b`` of bfloat16 to a tile of float32."""
    if DOT == "bfloat16":
        return tl.dot(a, b, total)
    else:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")


@jit
def _holds_more(rest):
    """Whether anything is left, or not a number: the same answer for all of a program."""
    return tl.max(tl.where(rest == 0.0, 0, 1)) > 0


@jit
def _add_rest(w, rest, total, DOT: tl.constexpr):
    """Add the product with the second and the third part."""
    part = rest.to(tl.bfloat16)
    total = _multiplied(w, part, total, DOT)
    return _multiplied(w, (rest - part.to(tl.float32)).to(tl.bfloat16), total, DOT)


@jit
def _times(g, x, total, FIRST: tl.constexpr, DOT: tl.constexpr):
    """Add ``g x^T``, or its transpose where the gradient is not the ``FIRST``."""
    if FIRST:
        return _multiplied(g, tl.trans(x), total, DOT)
    else:
        return _multiplied(x, tl.trans(g), total, DOT)


@jit
def _add_split(g, x, total, FIRST: tl.constexpr, DOT: tl.constexpr):
    """Add a product of float32: of nine products of parts the six that float32 has digits for.

    Three, where one bfloat16 holds all of the input ``x``.
    """
    g_first, x_first = g.to(tl.bfloat16), x.to(tl.bfloat16)
    rest, x_rest = g - g_first.to(tl.float32), x - x_first.to(tl.float32)
    g_next = rest.to(tl.bfloat16)
    total = _times(g_first, x_first, total, FIRST, DOT)
    total = _times(g_next, x_first, total, FIRST, DOT)
    total = _times((rest - g_next.to(tl.float32)).to(tl.bfloat16), x_first, total, FIRST, DOT)
    if _holds_more(x_rest):
        x_next = x_rest.to(tl.bfloat16)
        total = _times(g_first, x_next, total, FIRST, DOT)
        total = _times(g_next, x_next, total, FIRST, DOT)
        x_last = (x_rest - x_next.to(tl.float32)).to(tl.bfloat16)
        total = _times(g_first, x_last, total, FIRST, DOT)
    return total


@jit
def _positions(first, M, area, to_w, BLOCK: tl.constexpr):
    """Return the frame of the first of some positions, and of each one its place.

    Frames after that one, place in the frame, row, column, and whether there is such a position.
    """
    m = first + tl.arange(0, BLOCK)
    frame = first // area
    f = m // area
    at = m - f * area
    y = at // to_w
    return frame, f - frame, at, y, at - y * to_w, m < M


@jit
def _reached(place, margin, STRIDE: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Return what an output reads for the first entry of a kernel, still to be divided if so."""
    if TRANSPOSED:
        return place + margin
    else:
        return place * STRIDE - margin


@jit
def _gathered(
    ptr, f, y, x, here, c, k, l, some, channels, from_h, from_w, margin_y, margin_x,
    SY: tl.constexpr, SX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """Load what positions (f, y, x) read of frames for the entries (c, k, l) of a weight.

    Returns ``[entries, positions]``. What depends on one of the two alone is computed apart, and
    one unsigned comparison tells what is outside on either side.
    """
    SIGN: tl.constexpr = -1 if TRANSPOSED else 1  # pyright: ignore[reportAssignmentType]
    DIVIDED: tl.constexpr = TRANSPOSED and SY * SX > 1  # pyright: ignore[reportAssignmentType]
    y = _reached(y, margin_y, SY, TRANSPOSED)
    x = _reached(x, margin_x, SX, TRANSPOSED)
    k, l = k * (SIGN * DY), l * (SIGN * DX)
    row = tl.where(here, y, _FAR)[None, :] + k[:, None]
    column = x[None, :] + l[:, None]
    f = f * (channels * from_h * from_w)
    c = c * (from_h * from_w)
    if DIVIDED:
        down, across = row // SY, column // SX
        inside = (down * SY == row) & (across * SX == column)
        inside &= (down.to(tl.uint32) < from_h) & (across.to(tl.uint32) < from_w)
        at = f[None, :] + c[:, None] + down * from_w + across
    else:
        inside = (row.to(tl.uint32) < from_h) & (column.to(tl.uint32) < from_w)
        at = (f + y * from_w + x)[None, :] + (c + k * from_w + l)[:, None]
    return tl.load(ptr + at, mask=inside & some[:, None], other=0.0)


@jit
def _entries(
    first, from_c, KH: tl.constexpr, KW: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr
):
    """Return entries (c, k, l) of a weight from a step of the loop over them, and which there are.

    With ``TAPS`` a step has one (k, l), the same for all of a tile; else (c, k, l) go on by l.
    """
    j = tl.arange(0, BLOCK)
    if TAPS:
        runs = tl.cdiv(from_c, BLOCK)
        tap = first // runs
        c = (first - tap * runs) * BLOCK + j
        tap += j * 0
    else:
        j += first * BLOCK
        c = j // (KH * KW)
        tap = j - c * (KH * KW)
    k = tap // KW
    return c, k, tap - k * KW, tap, c < from_c


@jit
def _convolve_kernel(
    x_ptr,  # [frames, groups * from_c, from_h, from_w] float32
    w_ptr,  # [groups * to_c, from_c, KH, KW] float32; transposed, [groups * from_c, to_c, KH, KW]
    y_ptr,  # [frames, groups * to_c, to_h, to_w] float32, out
    M, to_c, from_c, from_h, from_w, to_h, to_w, margin_y, margin_x,
    TRANSPOSED: tl.constexpr, LOOKS: tl.constexpr, TAPS: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr,
    SY: tl.constexpr, SX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, DOT: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    group, groups = tl.program_id(2), tl.num_programs(2)
    area = to_h * to_w
    frame, f, at, y, x, here = _positions(tl.program_id(0) * BLOCK_M, M, area, to_w, BLOCK_M)
    r = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    # scalar 64-bit bases; lanes carry int32 offsets
    x_ptr += (frame.to(tl.int64) * groups + group) * from_c * (from_h * from_w)
    y_ptr += (frame.to(tl.int64) * groups + group) * to_c * area
    w_ptr += group.to(tl.int64) * to_c * from_c * (KH * KW)
    # from an entry of the weight to that of the next channel: which is read, and which is made
    across, down = (to_c, 1) if TRANSPOSED else (1, from_c)
    total = tl.zeros([BLOCK_R, BLOCK_M], tl.float32)
    steps = tl.cdiv(from_c, BLOCK_K) * (KH * KW) if TAPS else tl.cdiv(from_c * (KH * KW), BLOCK_K)
    for step in range(steps):
        c, k, l, tap, some = _entries(step, from_c, KH, KW, TAPS, BLOCK_K)
        pair = (c * across)[None, :] + (r * down)[:, None]
        w = tl.load(
            w_ptr + pair * (KH * KW) + tap[None, :],
            mask=(r < to_c)[:, None] & some[None, :], other=0.0,
        ).to(tl.bfloat16)  # fmt: skip
        v = _gathered(
            x_ptr, f, y, x, here, c, k, l, some, groups * from_c, from_h, from_w,
            margin_y, margin_x, SY, SX, DY, DX, TRANSPOSED,
        )  # fmt: skip
        part = v.to(tl.bfloat16)
        rest = v - part.to(tl.float32)
        total = _multiplied(w, part, total, DOT)
        if LOOKS:
            if _holds_more(rest):
                total = _add_rest(w, rest, total, DOT)
        else:
            total = _add_rest(w, rest, total, DOT)
    out = (f * (groups * to_c) * area + at)[None, :] + (r * area)[:, None]
    tl.store(y_ptr + out, total, mask=(r < to_c)[:, None] & here[None, :])


@jit
def _convolve_weight_kernel(
    a_ptr,  # [frames, groups * to_c, to_h, to_w] float32
    b_ptr,  # [frames, groups * from_c, from_h, from_w] float32
    y_ptr,  # [parts, groups * to_c, from_c, KH, KW] float32, out
    M, span, to_c, from_c, from_h, from_w, to_h, to_w, margin_y, margin_x,
    FIRST: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    SY: tl.constexpr, SX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, DOT: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    group, groups = tl.program_id(1), tl.num_programs(1)
    area = to_h * to_w
    columns = from_c * (KH * KW)
    across = tl.cdiv(columns, BLOCK_C)
    tiles = tl.cdiv(to_c, BLOCK_R) * across
    part = tl.program_id(0) // tiles
    tile = tl.program_id(0) - part * tiles
    r = tile // across * BLOCK_R + tl.arange(0, BLOCK_R)
    j = tile % across * BLOCK_C + tl.arange(0, BLOCK_C)
    c = j // (KH * KW)
    k = (j - c * (KH * KW)) // KW
    l = j - c * (KH * KW) - k * KW
    start = part * span
    total = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    for first in range(start, tl.minimum(start + span, M), BLOCK_M):
        frame, f, at, y, x, here = _positions(first, M, area, to_w, BLOCK_M)
        base = frame.to(tl.int64) * groups + group
        a_at = (f * (groups * to_c) * area + at)[None, :] + (r * area)[:, None]
        a = tl.load(
            a_ptr + base * to_c * area + a_at, mask=(r < to_c)[:, None] & here[None, :], other=0.0
        )
        b = _gathered(
            b_ptr + base * from_c * (from_h * from_w), f, y, x, here, c, k, l, j < columns,
            groups * from_c, from_h, from_w, margin_y, margin_x, SY, SX, DY, DX, False,
        )  # fmt: skip
        if FIRST:
            total = _add_split(a, b, total, FIRST, DOT)
        else:
            total = _add_split(b, a, total, FIRST, DOT)
    y_ptr += (part.to(tl.int64) * groups + group) * to_c * columns
    out = r[:, None] * columns + j[None, :]
    tl.store(y_ptr + out, total, mask=(r < to_c)[:, None] & (j < columns)[None, :])


def _rows_of(rows: int) -> int:
    """Return how many rows a program computes: the least of a tensor core, or twice as many."""
    return 16 if rows <= 16 else 32


def fits(frames: int, channels: Pair, size: Pair, place: Pair, groups: int, weights: int) -> bool:
    """Whether offsets within a program fit 32 bits, and the grid what CUDA allows.

    ``channels`` and sizes are those of the frames that are read and of those that are written.
    """
    area = place[0] * place[1]
    together = _POSITIONS // max(area, 1) + 2  # frames that a program can touch
    largest = max(channels[0] * size[0] * size[1], channels[1] * area)
    return (
        frames * area < 2**30
        and together * largest < 2**31
        and weights < 2**31
        and max(groups, -(-channels[1] // 16)) < 2**16
    )


def convolve(
    x: Tensor, w: Tensor, place: Pair, stride: Pair, margin: Pair, dilation: Pair, groups: int,
    transposed: bool, looks: bool,
) -> Tensor:  # fmt: skip
    """Convolve frames with a weight, or apply the transpose of that.

    Parameters
    ----------
    x
        ``[F, C, H, W]`` float32, contiguous.
    w
        ``[O, C / groups, kh, kw]`` float32, contiguous, of bfloat16 numbers; transposed,
        ``[C, O / groups, kh, kw]``.
    place
        Height and width of the result.
    stride, margin, dilation
        Vertical and horizontal; the margin is the padding.
    groups
        Of channels that do not see each other.
    transposed
        Whether to apply the transpose.
    looks
        Whether to look if one bfloat16 holds all of a tile, as it does spikes.

    Returns
    -------
    Tensor
        ``[F, O, *place]`` float32.
    """
    assert x.is_contiguous(), x.stride()
    F, _, height, width = x.shape
    w = w.contiguous()
    first, second, kh, kw = w.shape
    rows, inner = (second, first // groups) if transposed else (first // groups, second)
    y = empty((F, groups * rows, *place), torch.float32, x)
    M = F * place[0] * place[1]
    if M == 0:
        return y
    block = _rows_of(rows)
    taps = 16 * -(-inner // 16) <= 1.5 * inner
    launch(
        _convolve_kernel, (-(-M // _POSITIONS), -(-rows // block), groups),
        (x, w, y, M, rows, inner, height, width, *place, *margin),
        (transposed, looks, taps, kh, kw, *stride, *dilation,
         _OPERAND, block, _ENTRIES, _POSITIONS),
    )  # fmt: skip
    return y


def gradient_of_weight(
    g: Tensor, x: Tensor, kernel: Pair, stride: Pair, margin: Pair, dilation: Pair, groups: int,
    transposed: bool,
) -> Tensor:  # fmt: skip
    """Return the gradient of the weight of ``convolve``, in the weight's shape.

    ``g`` is the gradient of the result and ``x`` the input, both float32 and contiguous.
    """
    a, b = (x, g) if transposed else (g, x)
    assert a.is_contiguous(), a.stride()
    assert b.is_contiguous(), b.stride()
    F, total, tall, wide = a.shape
    rows, inner = total // groups, b.shape[1] // groups
    M = F * tall * wide
    block = _rows_of(rows)
    tiles = -(-rows // block) * -(-inner * kernel[0] * kernel[1] // _COLUMNS)
    runs = -(-M // _SUMMED)
    each = max(1, -(-runs * tiles * groups // _PROGRAMS))  # runs of positions of a program
    parts = -(-runs // each)
    y = empty((parts, total, inner, *kernel), torch.float32, a)
    if parts == 0:
        return y.sum(0)
    launch(
        _convolve_weight_kernel, (tiles * parts, groups),
        (a, b, y, M, each * _SUMMED, rows, inner, *b.shape[2:], tall, wide, *margin),
        (not transposed, *kernel, *stride, *dilation, _OPERAND, block, _COLUMNS, _SUMMED),
    )  # fmt: skip
    return y[0] if parts == 1 else y.sum(0)
