"""Long sums whose bits depend neither on the number of threads nor on the processor.

On a CPU numbers are added in float64, in one order, and the sum is rounded once.
"""

from typing import overload

import numpy as np
from torch import Tensor

from .dispatch import TILE, run_loop, runs_loops
from .loops import cpu_loop
from .operators import define_op, differentiable

_LANES = 64  # sums at once, whatever the processor's vectors hold


@cpu_loop
def _sum_columns_cpu(first, last, partials, sums, N, C):
    total = np.empty(TILE, np.float64)
    for tile in range(first, last):
        c0 = tile * TILE
        c1 = min(c0 + TILE, C)
        total[:] = 0
        for n in range(N):
            row = partials[n, c0:c1]
            for i in range(len(row)):
                total[i] += row[i]
        for i in range(c1 - c0):
            sums[c0 + i] = np.float32(total[i])


@cpu_loop
def _sum_shared_cpu(first, last, partials, sums, N, per):
    total = np.empty(_LANES, np.float64)
    whole = per // _LANES * _LANES
    for c in range(first, last):
        total[:] = 0
        for n in range(N):
            row = partials[n, c * per : (c + 1) * per]
            for i in range(0, whole, _LANES):
                part = row[i : i + _LANES]
                for k in range(_LANES):
                    total[k] += part[k]
            for i in range(whole, per):
                total[i - whole] += row[i]
        together = np.float64(0)
        for k in range(_LANES):
            together += total[k]
        sums[c] = np.float32(together)


@define_op
def sum_of_samples(partials: Tensor, parameters: int) -> Tensor:
    """Add ``[N, C]`` over samples and over the neurons that share each of the parameters."""
    N, C = partials.shape
    if not runs_loops(partials) or partials.numel() == 0:
        return partials.view(N, parameters, C // parameters).sum((0, 2))
    sums = partials.new_empty(parameters)
    if parameters == C:
        tiles = -(-C // TILE)
        run_loop(_sum_columns_cpu, tiles, partials.numel(), (partials, sums, N, C))
    else:
        per = C // parameters
        run_loop(_sum_shared_cpu, parameters, partials.numel(), (partials, sums, N, per))
    return sums


def _save(ctx, inputs, output):
    partials, _ = inputs
    ctx.shape = partials.shape


def _backward(ctx, g):
    N, C = ctx.shape
    return g.repeat_interleave(C // g.numel()).expand(N, C), None


differentiable(sum_of_samples, _backward, _save)


@overload
def reduce_to(parameter: Tensor, partials: Tensor) -> Tensor: ...


@overload
def reduce_to(parameter: Tensor, partials: None) -> None: ...


def reduce_to(parameter: Tensor, partials: Tensor | None) -> Tensor | None:
    """Add ``partials`` [N, C] over samples and over the neurons that share each parameter."""
    if partials is None:
        return None
    return sum_of_samples(partials.contiguous(), parameter.numel()).view(parameter.shape)
