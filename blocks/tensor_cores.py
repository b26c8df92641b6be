"""Products on tensor cores that lose nothing: float32 as three bfloat16, where one side is one.

A float32 has 24 significant bits and a bfloat16 has 8, so x = a + b + c exactly with three of them.
Quantised weights are integers from -128 to 127 times a power of two: they are bfloat16 already.
Each product of two bfloat16 is exact in float32, and sums are those of float32:

    x W = [a b c] [W; W; W]

Sums of spikes, and of graded events on the grid of the states, are exact as long as they have 24
bits, in any order of the terms: the result is that of integers, bit for bit. A device proves that
once, before it is used, of matrices and of convolutions (kernels/synapses/tiled_convolution.py).

Only CUDA devices are asked; elsewhere a product is a plain float32 product.
"""

import functools
from typing import Literal

import torch
from lapilli.kernels.executors.dispatch import has_no_memory
from lapilli.kernels.synapses import tiled_convolution
from lapilli.kernels.synapses.bfloat16 import terms
from lapilli.kernels.synapses.tiled_convolution import Pair
from torch import Tensor
from torch.nn.functional import conv2d

GradientProducts = Literal["split3", "strict", "tf32"]
GRADIENT_PRODUCTS = ("split3", "strict", "tf32")
_mode: GradientProducts = "split3"

_INPUTS = 4096  # of the proof: every code and the largest sums


def set_gradient_products(mode: GradientProducts) -> None:
    """Choose how gradients of synapses are multiplied on GPUs, for networks run from now on.

    Parameters
    ----------
    mode
        ``"split3"`` (default): on tensor cores, as three bfloat16, the gradient of the input where
        the weights are quantised, and of the weights of convolutions; else as ``"strict"``.
        ``"strict"``: float32. ``"tf32"``: all on tensor cores with 10 bits, the quickest; gradients
        are off by up to 1e-3 of the largest.

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


# Convolutions

_LEAST_ROWS = 8  # channels of a group: fewer leave most of a tensor core idle


def convolves(x: Tensor, w: Tensor, place: Pair, transposed: bool, groups: int) -> bool:
    """Whether tensor cores convolve frames with a weight of bfloat16 numbers.

    ``place`` are height and width of the result; ``transposed`` asks for the transpose.
    """
    if has_no_memory(x) or w.dtype != torch.float32 or not convolutions_usable(x.device):
        return False
    rows = w.shape[1] if transposed else w.shape[0] // groups
    channels = x.shape[1], rows * groups
    size = x.shape[2], x.shape[3]
    return rows >= _LEAST_ROWS and tiled_convolution.fits(
        x.shape[0], channels, size, place, groups, w.numel()
    )


def adds_up(a: Tensor, b: Tensor, groups: int) -> bool:
    """Whether tensor cores compute the gradient of a weight from frames on both of its sides."""
    if has_no_memory(a) or not convolutions_usable(a.device):
        return False
    channels, place = (b.shape[1], a.shape[1]), (a.shape[2], a.shape[3])
    return a.shape[1] // groups >= _LEAST_ROWS and tiled_convolution.fits(
        a.shape[0], channels, (b.shape[2], b.shape[3]), place, groups, 0
    )


@functools.cache
def convolutions_usable(device: torch.device) -> bool:
    """Whether ``device`` convolves as tiled_convolution.py says: tried once."""
    return usable(device) and convolutions_are_exact(device)


def convolutions_are_exact(device: torch.device) -> bool:
    """Convolve integers, forward and back, and compare with float64."""
    stride, margin, dilation = (2, 1), (1, 0), (1, 2)
    codes = (torch.arange(16 * 3 * 3 * 3) % 256 - 128).view(16, 3, 3, 3).double() / 32
    events = torch.arange(2 * 3 * 11 * 9).view(2, 3, 11, 9).double()
    place = 6, 5
    gradients = torch.arange(2 * 16 * 30).view(2, 16, *place).double()
    options = stride, margin, dilation

    def on_device(x: Tensor) -> Tensor:
        return x.float().to(device)

    def equal(got: Tensor, want: Tensor) -> bool:
        return torch.equal(got.cpu().double(), want)

    def gradients_in_float64(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ops.aten.convolution_backward(
            g, x, w, None, *options, False, (0, 0), 1, (True, True, False)
        )[:2]

    # 12 bits, spikes, and 24 bits where a sum has one term
    graded = events * 1297 % 4096 - 2048
    single = torch.zeros(16, 3, 3, 3).double()
    single[:3, :, 1, 1] = torch.eye(3) / 4
    whole = events * 14_983_721 % (1 << 24) - (1 << 23)
    shifted = gradients * 14_983_721 % (1 << 24) - (1 << 23)
    forward = ((graded / 4096, codes), ((graded > 0).double(), codes), (whole, single))
    back = ((gradients % 255 - 127, codes), (shifted, single))
    try:
        for x, w in forward:
            got = tiled_convolution.convolve(
                on_device(x), on_device(w), place, *options, 1, False, True
            )
            if not equal(got, conv2d(x, w, None, *options)):
                return False
        for g, w in back:
            got = tiled_convolution.convolve(
                on_device(g), on_device(w), (11, 9), *options, 1, True, False
            )
            if not equal(got, gradients_in_float64(g, events, w)[0]):
                return False
        # spikes and 17 bits, and more than eight bits on both sides
        for x, g in (
            ((graded > 0).double(), gradients * 7919 % (1 << 17)),
            (graded % 512, gradients * 7919 % 512),
        ):
            got = tiled_convolution.gradient_of_weight(
                on_device(g), on_device(x), (3, 3), *options, 1, False
            )
            if not equal(got, gradients_in_float64(g, x, codes)[1]):
                return False
    except Exception:  # whatever a compiler or a device has against it
        return False
    return True
