"""One step of one layer on a CPU, where a call takes longer than what it computes.

    z[o] = sum_k level(w[o, k]) x[k]       a fully connected layer of 8-bit weights
    y[c] = line[t - d[c], c]               its axonal delay, of an input that is kept

The weight is quantised on the way (quantize.py). Sums are of integers, so they are those of the
matrix product, if the input holds integers and no sum leaves the 24 bits of a float32.
"""

import numpy as np
from lapilli.kernels.executors.dispatch import array_of
from lapilli.kernels.executors.loops import cpu_loop
from lapilli.kernels.numbers.language import tl
from lapilli.kernels.recurrences.delay import whole_steps
from torch import Tensor

from .quantize import quantize_step

_MAGNITUDE = tl.constexpr(0x7FFFFFFF)  # of the bits of a float32
_INFINITE = tl.constexpr(0x7F800000)
_EXACT = tl.constexpr(8388608)  # float32 holds the integers below, and sums of two


@cpu_loop
def frame_cpu(first, last, x, w, bits, z, inverse, step, limit, ADD: tl.constexpr):
    """Multiply ``x`` [N, K, 1] by the levels of ``w`` [O, K]; whether the sums are exact.

    ``bits`` is the memory of ``w`` as int32, in which it is quicker to find what is not a number.
    With ``ADD`` they are added to what ``z`` holds, a frame's sums as well.
    """
    K = len(w[0])
    whole = np.empty(K, np.int32)
    for n in range(len(x)):
        other, total = np.uint32(0), np.int64(0)
        for k in range(K):
            whole[k] = np.int32(x[n, k, 0])
            other |= np.uint32(np.float32(whole[k]) != x[n, k, 0])
            total += whole[k] if whole[k] >= 0 else -np.int64(whole[k])
        if other != 0 or total * limit >= _EXACT:
            return False
        for o in range(len(w)):
            row, pattern = w[o], bits[o]
            units, highest = np.int32(0), np.int32(0)
            for k in range(len(row)):
                level, _ = quantize_step(row[k] * inverse, np.float32(1), limit)
                units = np.int32(units + np.int32(level * whole[k]))
                highest = max(highest, np.int32(pattern[k] & _MAGNITUDE))
            if highest > _INFINITE:  # what is not a number
                return False
            z[n, 0, o] = (z[n, 0, o] if ADD else np.float32(0)) + np.float32(units) * step
    return True


@cpu_loop
def line_cpu(first, last, y, line, delay, row, per, sampling_time):
    """Put ``y`` [N, 1, C] into a row of ``line`` [N, rows, C], and what comes out into ``y``."""
    for n in range(len(y)):
        for c in range(len(y[n, 0])):
            line[n, row, c] = y[n, 0, c]
            y[n, 0, c] = line[n, row - whole_steps(delay[c // per], sampling_time), c]


@cpu_loop
def _within_cpu(first, last, x, low, high):
    outside = np.uint32(0)
    for i in range(len(x)):
        outside |= np.uint32(0) if low <= x[i] <= high else np.uint32(1)
    return outside == 0


def is_within(x: Tensor, low: float, high: float) -> bool:
    """Whether all numbers of a contiguous float32 vector on the CPU lie in a range; no NaN does."""
    compiled = _within_cpu.specialise((False,) * 3, ())
    return bool(compiled(0, 1, array_of(x), np.float32(low), np.float32(high)))
