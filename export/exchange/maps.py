"""Products of linear nodes: a pool together with the synapse before or behind it."""

import math
from dataclasses import dataclass, replace

import numpy as np

Pair = tuple[int, int]


@dataclass
class Window:
    """Convolution of frames ``(C, H, W)``, in real numbers.

    ``weight`` is ``[out, in / groups, kh, kw]``; ``[1, 1, kh, kw]`` for a pool, which treats all
    channels alike.
    """

    weight: np.ndarray
    bias: np.ndarray  # [out]
    before: tuple[int, int, int]  # shape of the input
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pools: bool = False
    flat: bool = False  # a Flatten stands behind it

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, ``(C, H, W)`` or flat."""
        shape = (len(self.bias), *map(len, self._starts()))
        return (math.prod(shape),) if self.flat else shape

    def _starts(self) -> list[range]:
        """Where the windows begin on each axis of the padded input."""
        return [
            range(0, size + 2 * pad - d * (k - 1), stride)
            for size, k, stride, pad, d in zip(
                self.before[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation,
                strict=True,
            )
        ]  # fmt: skip


@dataclass
class Matrix:
    """Dense weights ``[out, in]`` in real numbers, with the weights of a feedback, if any."""

    weight: np.ndarray
    bias: np.ndarray  # [out]
    feedback: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return (len(self.weight),)


def windows_in_one(first: Window, second: Window) -> Window | None:
    """Return the window that does what ``first`` and then ``second`` do; None if there is none.

    One of them is a pool. The second one's padding puts zeros around what the first one gives: the
    first one's windows there must meet nothing but padding.
    """
    for size, k, stride, pad, d, outer in zip(
        first.before[1:], first.weight.shape[2:], first.stride, first.padding, first.dilation,
        second.padding, strict=True,
    ):  # fmt: skip
        reach = d * (k - 1) + 1
        rest = (size + 2 * pad - reach) % stride
        if outer and (first.bias.any() or reach - pad + rest > stride):
            return None
    inner, outer = _undilated(first), _undilated(second)
    (sh, sw), (h, w) = first.stride, inner.shape[2:]
    sides = [s * (k - 1) + n for s, k, n in zip((sh, sw), outer.shape[2:], (h, w), strict=True)]
    channels = second if first.pools else first  # whose weights say which channel leads where
    weight = np.zeros((*channels.weight.shape[:2], *sides))
    for i, j in np.ndindex(outer.shape[2:]):
        # one of the two is a pool, [1, 1]: the product needs no sum over channels
        product = outer[:, :, i, j, None, None] * inner
        weight[:, :, i * sh : i * sh + h, j * sw : j * sw + w] += product
    return replace(
        channels,
        weight=weight,
        bias=second.bias if first.pools else first.bias * second.weight.sum(),
        before=first.before,
        stride=(sh * second.stride[0], sw * second.stride[1]),
        padding=(first.padding[0] + sh * second.padding[0],
                 first.padding[1] + sw * second.padding[1]),
        dilation=(1, 1),
        pools=first.pools and second.pools,
    )  # fmt: skip


def _undilated(window: Window) -> np.ndarray:
    """Return the weights with the zeros that the dilation leaves between them."""
    dh, dw = window.dilation
    kh, kw = window.weight.shape[2:]
    weight = np.zeros((*window.weight.shape[:2], dh * (kh - 1) + 1, dw * (kw - 1) + 1))
    weight[:, :, ::dh, ::dw] = window.weight
    return weight


def one_weight_a_channel(pool: Window) -> Window:
    """Return a pool as a convolution that leads each channel to itself."""
    channels = pool.before[0]
    weight = np.tile(pool.weight, (channels, 1, 1, 1))
    return replace(pool, weight=weight, groups=channels, pools=False)


def pool_in_matrix(pool: Window, weight: np.ndarray) -> np.ndarray:
    """Return the weights ``[out, C * H * W]`` of a pool, Flatten and ``weight [out, in]``."""
    C, H, W = pool.before
    (top, left), (sh, sw) = pool.padding, pool.stride
    rows, columns = pool._starts()
    parts = weight.reshape(len(weight), C, len(rows), len(columns))
    spread = np.zeros((len(weight), C, H + 2 * top, W + 2 * left))
    for i, j in np.ndindex(pool.weight.shape[2:]):
        below = spread[:, :, i * pool.dilation[0] :, j * pool.dilation[1] :]
        below[:, :, : rows.stop : sh, : columns.stop : sw] += pool.weight[0, 0, i, j] * parts
    return spread[:, :, top : top + H, left : left + W].reshape(len(weight), -1)
