"""In which order series lie in memory: as kernels walk them, or time last, as users have them."""

import torch
from torch import Tensor

from . import dispatch


def turns_tiles(x: Tensor) -> bool:
    """Whether the loops that are made from kernels run on the device of ``x``."""
    # looked up at each call, for those that let something else run
    return x.device.type == "cpu" and dispatch.executor(x.device) == "numba"


def is_time_last(rows: Tensor) -> bool:
    """Whether ``[N, T, C]`` lies as ``[N, C, T]``, and loops made from kernels turn it by tiles."""
    return (
        rows.ndim == 3
        and not rows.is_contiguous()
        and rows.dtype == torch.float32
        and turns_tiles(rows)
        and rows.transpose(1, 2).is_contiguous()
    )


def in_either_order(x: Tensor | None) -> Tensor | None:
    """Return ``[N, T, C]`` as it lies if an operator of ``kernel_op`` takes that, else as rows."""
    return x if x is None or is_time_last(x) else x.contiguous()
