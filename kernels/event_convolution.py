"""Event-driven convolution: an input that is not zero adds its kernel to the output, no other does.

    y[:, h', w'] = sum_{c, i, j} W[:, c, i, j] x[c, h' s - p + i d, w' s - p + j d]

An input at (c, h, w) meets the outputs h' = (h + p - i d) / s that are whole and inside, and w'
alike. A frame of outputs is added up with its channels innermost, where an input and a row of the
kernel touch one piece of memory (strides and horizontal dilation 1), and turned once it is
complete. The gradient of the weight is the same walk with the output's gradient read in place of
the output, and the weight written.

Events: events.py. The order of the terms does not depend on the number of threads.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .dispatch import run_loop
from .events import Events, column_bits
from .language import tl
from .lift import cpu_loop
from .memory import empty

if TYPE_CHECKING:
    from .vector_ops import add_row, transpose_rows

_PARTS = 8  # sums of the weight's gradient, which frames share; not the number of threads
_LARGEST = 1 << 23  # entries of all parts


@cpu_loop
def _convolve_cpu(
    first, last, columns, starts, values, weights, outputs, parts, M, H, W, kh, kw, Ho, Wo,
    O, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, mask,
    JOINED: tl.constexpr, SCATTER: tl.constexpr,
):  # fmt: skip
    # outputs [M, O, Ho * Wo] flat; weights [1, C * kh * kw * O], with JOINED the last of kw first;
    # with SCATTER outputs are read, and [parts, ...] sums in place of the weights written
    frame = np.empty(Ho * Wo * O, np.float32)
    for part in range(first, last):
        w = weights[part if SCATTER else 0]
        if SCATTER:
            w[:] = 0
        for m in range(M * part // parts, M * (part + 1) // parts):
            y = np.int64(m) * O * Ho * Wo
            if SCATTER:
                if starts[m] == starts[m + 1]:
                    continue
                transpose_rows(outputs, y, O, Ho * Wo, 0, O, frame, np.int64(0))
            else:
                frame[:] = 0
            for e in range(starts[m], starts[m + 1]):
                k = np.uint32(np.uint32(columns[e]) & np.uint32(mask))
                line = np.uint32(k // np.uint32(W))  # 32 bits: divisions take a third of the time
                c = np.int64(np.uint32(line // np.uint32(H)))
                h, v = np.int64(line) - c * H, np.int64(k) - np.int64(line) * W
                for i in range(kh):
                    top = h + pad_h - i * dilation_h
                    if not JOINED:  # with stride 1 there is no division, which takes longest
                        if top % stride_h:
                            continue
                        top //= stride_h
                    if top < 0 or top >= Ho:
                        continue
                    place = top * Wo
                    kernel = (c * kh + i) * kw
                    if JOINED:
                        left = v + pad_w - (kw - 1)
                        j0, j1 = max(0, -left), min(kw, Wo - left)
                        if j0 < j1:
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
                transpose_rows(frame, np.int64(0), Ho * Wo, O, 0, Ho * Wo, outputs, y)


class Geometry:
    """Sizes of a convolution without groups, as the loops take them."""

    def __init__(self, frame, weight_shape, stride, padding, dilation):
        self.channels, self.height, self.width = frame
        self.outputs, _, *self.kernel = weight_shape
        self.out = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(frame[1:], self.kernel, stride, padding, dilation, strict=True)
        ]
        self.steps = (*stride, *padding, *dilation)
        self.joined = (*stride, dilation[1]) == (1, 1, 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """What both loops take after their tensors."""
        return (self.height, self.width, *self.kernel, *self.out, self.outputs, *self.steps)

    def flat(self, weight: Tensor) -> Tensor:
        """Return ``[O, C, kh, kw]`` as the loops read it: ``[C * kh * kw * O]``."""
        weight = weight.flip(3) if self.joined else weight
        return weight.permute(1, 2, 3, 0).flatten()

    def unflat(self, sums: Tensor) -> Tensor:
        """Undo ``flat``."""
        weight = sums.view(self.channels, *self.kernel, self.outputs).permute(3, 0, 1, 2)
        return (weight.flip(3) if self.joined else weight).contiguous()


def gather(events: Events, weight: Tensor, geometry: Geometry) -> Tensor:
    """Convolve the frames of ``events`` with ``weight`` ``[O, C, kh, kw]``: ``[M, O, H', W']``."""
    M = events.shape[0]
    y = empty((M, geometry.outputs, *geometry.out), torch.float32, weight)
    work = len(events.columns) * weight[:, 0].numel() + y.numel()
    run_loop(
        _convolve_cpu, M, work,
        (events.columns, events.starts, events.values, geometry.flat(weight).unsqueeze(0),
         y.view(-1), M, M, *geometry.sizes, column_bits(events)),
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
         *geometry.sizes, column_bits(events)),
        (geometry.joined, True),
    )  # fmt: skip
    return geometry.unflat(sums.sum(0))
