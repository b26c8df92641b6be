"""Transposition of float32 matrices, in blocks.

torch walks a transposed copy element by element; here blocks of 8 x 8 are turned in registers, of
which a processor with AVX2 has enough, and half cache lines are read and written.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .dispatch import run_loop, runs_loops
from .loops import cpu_loop
from .memory import empty
from .operators import define_op, differentiable

if TYPE_CHECKING:
    from .vector_ops import transpose_rows

SIDE = 16  # of a block
_ROWS = 1024  # of a tile
_FEW = 1 << 12  # elements that torch copies while a loop is called


@cpu_loop
def _transpose_cpu(first, last, x, y, R, C):
    strips = max(R // _ROWS, 1)  # the last one takes the rest
    for tile in range(first, last):
        n, strip = tile // strips, tile % strips
        start = np.int64(n) * R * C
        end = R if strip + 1 == strips else (strip + 1) * _ROWS
        transpose_rows(x, start, R, C, strip * _ROWS, end, y, start)


def is_quick(x: Tensor) -> bool:
    """Whether ``[..., C]`` is a contiguous matrix or several that loops here can transpose."""
    return x.dtype == torch.float32 and x.is_contiguous() and runs_loops(x)


def transpose(x: Tensor) -> Tensor:
    """Return the transposed matrices of ``x``, ``[N, R, C]`` to ``[N, C, R]``, contiguous.

    Parameters
    ----------
    x
        Large float32 matrices on the CPU take the quick way, if both sides are at least 16.

    Returns
    -------
    Tensor
        A copy, without gradient.
    """
    x = x.detach()
    N, R, C = x.shape
    if not is_quick(x) or min(R, C) < SIDE or x.numel() < _FEW:
        return x.transpose(1, 2).clone(memory_format=torch.contiguous_format)
    y = empty((N, C, R), torch.float32, x)
    run_loop(_transpose_cpu, N * max(R // _ROWS, 1), x.numel(), (x.view(-1), y.view(-1), R, C))
    return y


@define_op(samples="x", any_layout="x")
def turned(x: Tensor) -> Tensor:
    """Do as ``transpose``, with a gradient."""
    return transpose(x)


def _save(ctx, inputs, output):
    pass


def _backward(ctx, g):
    return (g.transpose(1, 2),)


differentiable(turned, _backward, _save)
