"""Linear maps of integer frames ``[B, C, H, W]``, for the interpreter; int64 throughout."""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Pair = tuple[int, int]


def convolve(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, dilation: Pair, groups: int = 1
) -> np.ndarray:
    """Correlate frames with ``weight`` ``[out, in / groups, kh, kw]``."""
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    windows = sliding_window_view(x, reach, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    outputs = [
        np.tensordot(part, kernels, axes=((1, 4, 5), (1, 2, 3)))  # [B, H, W, out / groups]
        for part, kernels in zip(
            np.split(windows, groups, axis=1), np.split(weight, groups), strict=True
        )
    ]
    return np.moveaxis(np.concatenate(outputs, axis=-1), -1, 1)


def spread(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, dilation: Pair, groups: int = 1
) -> np.ndarray:
    """Add ``weight`` ``[in, out / groups, kh, kw]``, scaled by each value, into larger frames."""
    B, C, *sides = x.shape
    inner = np.zeros(
        (B, C, *((n - 1) * s + 1 for n, s in zip(sides, stride, strict=True))), x.dtype
    )
    inner[:, :, :: stride[0], :: stride[1]] = x
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    kernels = grouped.reshape(-1, *grouped.shape[2:])[:, :, ::-1, ::-1]
    reach = tuple(d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True))
    y = convolve(inner, kernels, (1, 1), reach, dilation, groups)
    (top, left), (height, width) = padding, y.shape[2:]
    return y[:, :, top : height - top, left : width - left]


def pool(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Correlate each channel with ``weight`` ``[1, 1, kh, kw]``, as the Pool block pads."""
    missing = [(0, n % k) for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)]
    return _by_channel(convolve, np.pad(x, ((0, 0), (0, 0), *missing)), weight, stride, padding,
                       dilation)  # fmt: skip


def unpool(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Spread each channel with ``weight`` ``[1, 1, kh, kw]``."""
    return _by_channel(spread, x, weight, stride, padding, dilation)


def _by_channel(
    function: Callable[..., np.ndarray], x: np.ndarray, *arguments: np.ndarray | Pair
) -> np.ndarray:
    y = function(x.reshape(-1, 1, *x.shape[2:]), *arguments)
    return y.reshape(*x.shape[:2], *y.shape[2:])
