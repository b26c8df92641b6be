"""A float32 as the sum of three bfloat16, for products on tensor cores (blocks/tensor_cores.py).

    a = bf16(x),  b = bf16(x - a),  c = bf16(x - a - b),  x = a + b + c

Each rounds to nearest, so that a difference has 16 and then 8 significant bits and no rounding
loses any. Exact for |x| < 2**127.
"""

import torch
from lapilli.kernels.executors.dispatch import executor, launch
from lapilli.kernels.executors.rows import lanes
from lapilli.kernels.numbers.language import jit, tl
from torch import Tensor

_ENTRIES = 1024  # of a program


@jit
def _terms_kernel(x_ptr, y_ptr, C, M, BLOCK: tl.constexpr):
    j, base, at, _ = lanes(3, C, BLOCK)
    live = j < M
    x = tl.load(x_ptr + tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK), mask=live)
    for i in tl.static_range(3):
        part = x.to(tl.bfloat16)
        tl.store(y_ptr + base + (at + i * C), part, mask=live)
        x -= part.to(tl.float32)


def split(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return three bfloat16 tensors whose sum is the float32 ``x``."""
    first = x.to(torch.bfloat16)
    rest = x - first.to(torch.float32)
    second = rest.to(torch.bfloat16)
    return first, second, (rest - second.to(torch.float32)).to(torch.bfloat16)


def terms(x: Tensor) -> Tensor:
    """Return ``[M, 3 K]``, the three parts of ``x`` ``[M, K]`` beside each other."""
    if executor(x.device) not in ("triton", "interpret") or x.numel() == 0:
        return torch.cat(split(x), 1)
    M, K = x.shape
    y = torch.empty(M, 3 * K, dtype=torch.bfloat16, device=x.device)
    launch(_terms_kernel, (-(-M * K // _ENTRIES),), (x.contiguous(), y, K, M * K), (_ENTRIES,))
    return y
