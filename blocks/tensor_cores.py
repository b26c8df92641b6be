"""Products on tensor cores that lose nothing: float32 as three bfloat16, where one side is one.

A float32 has 24 significant bits and a bfloat16 has 8, so x = a + b + c exactly with three of them.
Quantised weights are integers from -128 to 127 times a power of two: they are bfloat16 already.
Each product of two bfloat16 is exact in float32, and sums are those of float32:

    x W = [a b c] [W; W; W]

Sums of spikes, and of graded events on the grid of the states, are exact as long as they have 24
bits, in any order of the terms: the result is that of integers, bit for bit. A device proves that
once, before it is used.

Only CUDA devices are asked; elsewhere a product is a plain float32 product.
"""

import functools
from typing import Literal

import torch
from lapilli.kernels.synapses.bfloat16 import terms
from torch import Tensor

GradientProducts = Literal["split3", "strict", "tf32"]
GRADIENT_PRODUCTS = ("split3", "strict", "tf32")
_mode: GradientProducts = "split3"

_INPUTS = 4096  # of the proof: every code and the largest sums


def set_gradient_products(mode: GradientProducts) -> None:
    """Choose how gradients of synapses are multiplied on GPUs, for networks run from now on.

    Parameters
    ----------
    mode
        ``"split3"`` (default): the gradient of the input on tensor cores, as three bfloat16, where
        the weights are quantised; else as ``"strict"``. ``"strict"``: float32. ``"tf32"``: all on
        tensor cores with 10 bits, the quickest; gradients are off by up to 1e-3 of the largest.

    Raises
    ------
    ValueError
        For any other mode.

    Examples
    --------
    >>> import lapilli
    >>> lapilli.set_gradient_products("split3")
    """
    global _mode
    if mode not in GRADIENT_PRODUCTS:
        raise ValueError(
            f"mode of gradient products is {mode!r}; expected one of "
            f"{', '.join(map(repr, GRADIENT_PRODUCTS))}"
        )
    _mode = mode


def gradient_products() -> GradientProducts:
    """Return the mode that ``set_gradient_products`` chose.

    Examples
    --------
    >>> import lapilli
    >>> lapilli.gradient_products()
    'split3'
    """
    return _mode


def multiply(x: Tensor, w: Tensor) -> Tensor:
    """Multiply float32 ``x`` ``[M, K]`` by ``w`` ``[K, O]``, whose entries are bfloat16 numbers."""
    rows, columns = w.shape
    thrice = torch.empty((3, rows, columns), dtype=torch.bfloat16, device=w.device)
    thrice.copy_(w)  # rounds and repeats at once: each call is a launch
    return _product(terms(x), thrice.view(3 * rows, columns))


def _product(x: Tensor, w: Tensor) -> Tensor:
    """Multiply bfloat16 matrices into float32."""
    return torch.mm(x, w, out_dtype=torch.float32)


@functools.cache
def usable(device: torch.device) -> bool:
    """Whether tensor cores of ``device`` multiply as this file says: tried once, with integers."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8:
        return False
    codes = torch.arange(_INPUTS) % 256 - 128
    columns = torch.stack((codes, codes.flip(0), torch.full((_INPUTS,), -128), codes.abs() % 128))
    columns = columns.repeat(4, 1)  # 16 outputs
    # spikes, all of them, none, and graded events with 12 bits behind the point
    events = torch.stack(
        (torch.ones(_INPUTS), torch.zeros(_INPUTS), (codes > 0).float(), codes / 4096)
    ).repeat(4, 1)
    want = (events.double() @ columns.double().t()) / 32
    try:
        got = multiply(events.to(device), columns.t().float().to(device) / 32)
    except (RuntimeError, TypeError):  # this torch or this device has no such product
        return False
    return torch.equal(got.cpu().double(), want)
