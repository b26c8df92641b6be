"""Event-driven convolution: an input that is not zero adds its kernel to the output, no other does.

    y[:, h', w'] = sum_{c, i, j} W[:, c, i, j] x[c, h' s - p + i d, w' s - p + j d]

An input at (c, h, w) meets the outputs h' = (h + p - i d) / s that are whole and inside, and w'
alike. A frame of outputs is added up with its channels innermost, where an input and a row of the
kernel touch one piece of memory (strides and horizontal dilation 1), and turned once it is
complete. Codes of quantised weights are added in 16 bits where no sum can overflow. The gradient of
the weight is the same walk with the output's gradient read in place of the output, and the weight
written.

Events: events.py. The order of the terms does not depend on the number of threads.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import run_loop
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.numbers.language import tl
from torch import Tensor

from .codes import codes_of
from .events import Events, column_bits

if TYPE_CHECKING:
    from lapilli.kernels.executors.loop_ops import reciprocal
    from lapilli.kernels.executors.vector_ops import add_row, aligned, transpose_piece

_WORTH_CODES = 1 << 10  # events an input channel
_WIDE = 32  # outputs that are added at once as codes
_PARTS = 8  # sums of the weight's gradient, which frames share; not the number of threads
_LARGEST = 1 << 23  # entries of all parts


@cpu_loop
def _convolve_cpu(
    first, last, columns, starts, values, weights, outputs, parts, M, K, H, W, kh, kw, Ho, Wo,
    O, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, mask, step,
    JOINED: tl.constexpr, SCATTER: tl.constexpr,
):  # fmt: skip
    # outputs [M, O, Ho * Wo] flat; weights [1, C * kh * kw * O], with JOINED the last of kw first,
    # float32, or int16 codes that are multiplied by step at last; with SCATTER outputs are read,
    # and [parts, ...] sums in place of the weights written
    by_W, shift_W = reciprocal(W, K)
    by_H, shift_H = reciprocal(H, K)
    frame = aligned(Ho * Wo * O, weights.dtype)
    for part in range(first, last):
        w = weights[part if SCATTER else 0]
        if SCATTER:
            w[:] = 0
        for m in range(M * part // parts, M * (part + 1) // parts):
            y = np.int64(m) * O * Ho * Wo
            if SCATTER:
                if starts[m] == starts[m + 1]:
                    continue
                transpose_piece(outputs, y, Ho * Wo, O, Ho * Wo, frame, np.int64(0), O)
            else:
                frame[:] = 0
            for e in range(starts[m], starts[m + 1]):
                k = np.int64(columns[e] & mask)
                row = k * by_W >> shift_W
                c = row * by_H >> shift_H
                h, v = row - c * H, k - row * W
                left = v + pad_w - (kw - 1)
                j0, j1 = max(0, -left), min(kw, Wo - left)  # j0 < j1, with stride 1
                for i in range(kh):
                    top = h + pad_h - i * dilation_h
                    if not JOINED:  # with stride 1 there is no division, which takes longest
                        if top % stride_h:
                            continue
                        top //= stride_h
                    if top < 0 or top >= Ho:
                        continue
                    place, kernel = top * Wo, (c * kh + i) * kw
                    if JOINED:
                        here, there = (place + left + j0) * O, (kernel + j0) * O
                        add_row(
                            w if SCATTER else frame, there if SCATTER else here,
                            frame if SCATTER else w, here if SCATTER else there,
                            (j1 - j0) * O, values[e] if values is not None else None,
                        )  # fmt: skip
                    else:
                        for j in range(kw):
                            left = v + pad_w - j * dilation_w
                            if left >= 0 and left % stride_w == 0 and left // stride_w < Wo:
                                here, there = (place + left // stride_w) * O, (kernel + j) * O
                                add_row(
                                    w if SCATTER else frame, there if SCATTER else here,
                                    frame if SCATTER else w, here if SCATTER else there,
                                    O, values[e] if values is not None else None,
                                )  # fmt: skip
            if not SCATTER:
                transpose_piece(
                    frame, np.int64(0), O, Ho * Wo, O, outputs, y, Ho * Wo,
                    step if step is not None else None,
                )  # fmt: skip


class Geometry:
    """Sizes of a convolution without groups, as the loops take them."""

    def __init__(self, frame, weight_shape, stride, padding, dilation):
        self.channels = frame[0]
        self.outputs, _, *self.kernel = weight_shape
        self.out = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(frame[1:], self.kernel, stride, padding, dilation, strict=True)
        ]
        self.joined = (*stride, dilation[1]) == (1, 1, 1)
        shape = math.prod(frame), *frame[1:], *self.kernel, *self.out, self.outputs
        self.sizes = *shape, *stride, *padding, *dilation  # what the loop takes after its tensors

    def flat(self, weight: Tensor) -> Tensor:
        """Return ``[O, C, kh, kw]`` as the loops read it: ``[C * kh * kw * O]``."""
        weight = weight.flip(3) if self.joined else weight
        return weight.permute(1, 2, 3, 0).flatten()

    def unflat(self, sums: Tensor) -> Tensor:
        """Undo ``flat``."""
        weight = sums.view(self.channels, *self.kernel, self.outputs).permute(3, 0, 1, 2)
        return (weight.flip(3) if self.joined else weight).contiguous()


def gather(events: Events, weight: Tensor, geometry: Geometry, step: float = 0.0) -> Tensor:
    """Convolve the frames of ``events`` with ``weight`` ``[O, C, kh, kw]``: ``[M, O, H', W']``.

    ``step`` is that of ``event_products.gather``.
    """
    M = events.shape[0]
    y = empty((M, geometry.outputs, *geometry.out), torch.float32, weight)
    work = len(events.columns) * weight[:, 0].numel() + y.numel()
    codes = None
    many = len(events.columns) >= _WORTH_CODES * geometry.channels
    if step and events.values is None and many and geometry.outputs % _WIDE == 0:
        largest = float(weight.abs().flatten(1).sum(1).max()) / step
        if largest < 1 << 15:  # no sum of codes can overflow 16 bits
            codes = codes_of(weight.contiguous(), step)
    kernel = weight if codes is None else codes.to(torch.int16)
    run_loop(
        _convolve_cpu, M, work,
        (events.columns, events.starts, events.values, geometry.flat(kernel).unsqueeze(0),
         y.view(-1), M, M, *geometry.sizes, column_bits(events), None if codes is None else step),
        (geometry.joined, False),
    )  # fmt: skip
    return y


def scatter(events: Events, g: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient of the weight ``[O, C, kh, kw]`` for that of the output, ``g``."""
    M = events.shape[0]
    entries = geometry.channels * math.prod(geometry.kernel) * geometry.outputs
    parts = max(1, min(_PARTS, M, _LARGEST // entries))
    sums = empty((parts, entries), torch.float32, g)
    work = len(events.columns) * entries // geometry.channels + g.numel()
    run_loop(
        _convolve_cpu, parts, work,
        (events.columns, events.starts, events.values, sums, g.reshape(-1), parts, M,
         *geometry.sizes, column_bits(events), None),
        (geometry.joined, True),
    )  # fmt: skip
    return geometry.unflat(sums.sum(0))
