"""Synapses: the weights between layers, as linear maps of every time step.

Weights keep lava-dl's five dimensions (the last is time, of size 1), so that checkpoints can be
exchanged. Inputs and outputs are ``[N, C, H, W, T]`` or, for ``Dense``, ``[N, C, T]``; outputs are
views of time-major rows (kernels/executors/layout.py), which the next layer reads without a copy.

As in lava-dl, the synapses are subclasses of ``torch.nn.Conv3d`` and ``torch.nn.ConvTranspose3d``,
because that is what they compute: each has the weight, the bias and the attributes of a convolution
over (height, width, time) whose kernel is one step long. So whatever looks for convolutions finds
them: functions that draw initial weights, torch's pruning, parametrisations, spectral and weight
norm, the fusion of batch norms. Tools that exchange convolutions for quantised ones go by the exact
class and leave synapses alone. What a convolution has and a synapse has not, such as an
``output_padding``, raises where it is set.

Source: lava-dl synapse/layer.py.
"""

import math

import torch
from lapilli.kernels.executors.layout import check_input, to_rows
from torch import Tensor

from .documentation import documented
from .generic_layer import GenericLayer, as_time_last
from .linear import linear
from .stored_weight import Hook, Pair, as_pair, entries, whole_number
from .stored_weight import SplitWeight as _SplitWeight  # noqa: F401 (older pickles look here)

__all__ = ["Conv", "ConvTranspose", "Dense", "GenericLayer", "Pool", "Unpool"]

_RAISES = "For arguments out of range or of a wrong length."
_HOOK = "Function applied to the weight before use, e.g. a neuron's ``quantize_8bit``; or None."
_POOLED = {
    "stride": "How far the window moves at a time: an integer, or a pair; None: ``kernel_size``.",
    "weight_scale": "Every entry of the weight.",
    "weight_norm": "Store direction and length of the weight apart; it stays constant.",
}


@documented(
    "For sizes that are not positive integers, or a tuple of another length.",
    pre_hook_fx=_HOOK,
    example=(">>> y = Kind(3, 2)(torch.rand(4, 3, 10))\n>>> y.shape\ntorch.Size([4, 2, 10])"),
)
class Dense(GenericLayer, torch.nn.Conv3d):
    """Fully connected synapse: every output sums every input.

    ``[N, in, T]`` to ``[N, out, T]``; ``[N, in, H, W, T]`` to ``[N, out, H, W, T]``, each place by
    itself; with a tuple of ``in_neurons``, ``[N, C, H, W, T]`` to ``[N, out, 1, 1, T]``.
    """

    def __init__(
        self,
        in_neurons: int | tuple[int, int] | tuple[int, int, int],
        out_neurons: int,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = None,
    ):
        image = entries(in_neurons)
        if image is None:
            width, height, channels = 1, 1, whole_number("in_neurons", in_neurons)
        elif len(image) in (2, 3):
            width, height, channels = (whole_number("in_neurons", n) for n in (*image, 1)[:3])
        else:
            raise ValueError(
                f"in_neurons must be an integer, (width, height) or (width, height, channels); "
                f"got {in_neurons!r} of length {len(image)}"
            )
        self._takes_image = image is not None
        out_neurons = whole_number("out_neurons", out_neurons)
        arguments = (channels, out_neurons, (height, width, 1), 1, 0, 1, 1, False)
        self._begin(weight_scale, weight_norm, pre_hook_fx, *arguments)

    def _of_space(self, name: str, pair: tuple[int, int]) -> tuple[int, int]:
        usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}.get(name, pair)
        if pair != usual:
            raise ValueError(
                f"{name} of a Dense synapse must be {usual[0]}: each output sums every input; got "
                f"{pair}. Use a Conv."
            )
        return pair

    def _of_groups(self, groups: int) -> int:
        if groups != 1:
            raise ValueError(
                f"groups of a Dense synapse must be 1: each output sums every input; got {groups}. "
                f"Use a Conv."
            )
        return groups

    def map(self, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Apply the linear map with each of the given weights, all of ``shape``."""
        check_input(input, "Dense")
        self._check_shape(input)
        places = math.prod(input.shape[2:-1])
        if not self._takes_image and places != 1:
            self._check_frames(input)
            return self._convolve(input, *weights)
        flat = (w.flatten(1) for w in weights)
        outputs = linear(input, *flat, product=self.product, step=self._step)
        ones = (1,) * (input.ndim - 3)
        return tuple(
            as_time_last(y.view(*y.shape, *ones), input.shape[0], input.shape[-1]) for y in outputs
        )

    def _check_shape(self, x: Tensor) -> None:
        if self._takes_image:
            image = (self.in_channels, *self.kernel_size[:2])
            if x.ndim != 5 or tuple(x.shape[1:-1]) != image:
                raise ValueError(
                    f"Dense of an image expects [batch, {', '.join(map(str, image))}, time]; got "
                    f"shape {tuple(x.shape)}"
                )
        elif x.ndim not in (3, 5):
            raise ValueError(
                f"Dense input must be [batch, channels, time] or [batch, channels, height, width, "
                f"time]; got shape {tuple(x.shape)}"
            )
        self._check_channels(x)


class _Convolving(GenericLayer):
    """What convolution and transposed convolution share: their arguments."""

    _transposes = False  # before torch's ``transposed`` is there

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = None,
    ):
        channels = (
            whole_number("in_features", in_features),
            whole_number("out_features", out_features),
        )
        groups = whole_number("groups", groups)
        if any(c % groups for c in channels):
            raise ValueError(
                f"groups must divide in_features and out_features; got groups={groups}, "
                f"in_features={channels[0]}, out_features={channels[1]}"
            )
        window = (*as_pair("kernel_size", kernel_size), 1)
        steps = (*as_pair("stride", stride), 1)
        margin = (*as_pair("padding", padding, least=0), 0)
        gaps = (*as_pair("dilation", dilation), 1)
        rest = (0, groups, False, gaps) if self._transposes else (gaps, groups, False)
        arguments = (*channels, window, steps, margin, *rest)
        self._begin(weight_scale, weight_norm, pre_hook_fx, *arguments)

    def map(self, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Apply the linear map with each of the given weights, all of ``shape``."""
        self._check_frames(input)
        self._check_channels(input)
        if not self.transposed:
            (height, width), (above, beside) = input.shape[2:-1], self.padding[:2]
            self._check_kernel_fits(input, (height + 2 * above, width + 2 * beside))
        return self._convolve(input, *weights, transposed=self.transposed)


@documented(
    _RAISES,
    pre_hook_fx=_HOOK,
    example=(
        ">>> y = Kind(2, 3, kernel_size=2, stride=2)(torch.rand(1, 2, 4, 4, 10))\n>>> y.shape\n"
        "torch.Size([1, 3, 2, 2, 10])"
    ),
)
class Conv(_Convolving, torch.nn.Conv3d):
    """Convolution of each frame: ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.

    H' = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1.
    """


@documented(
    _RAISES,
    pre_hook_fx=_HOOK,
    example=(
        ">>> y = Kind(2, 3, kernel_size=2, stride=2)(torch.rand(1, 2, 4, 4, 10))\n>>> y.shape\n"
        "torch.Size([1, 3, 8, 8, 10])"
    ),
)
class ConvTranspose(_Convolving, torch.nn.ConvTranspose3d):
    """Transposed convolution of each frame: ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.

    H' = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + 1. The weight is
    ``[in, out / groups, kh, kw, 1]``, so weight norm is over input channels.
    """

    _transposes = True


class _Pooling(GenericLayer):
    """What pooling and unpooling share: one constant weight for every channel."""

    learned = False
    _transposes = False

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = None,
    ):
        kernel = as_pair("kernel_size", kernel_size)
        steps = kernel if stride is None else as_pair("stride", stride)
        margin = (*as_pair("padding", padding, least=0), 0)
        gaps = (*as_pair("dilation", dilation), 1)
        rest = (0, 1, False, gaps) if self._transposes else (gaps, 1, False)
        arguments = (1, 1, (*kernel, 1), (*steps, 1), margin, *rest)
        self._begin(weight_scale, weight_norm, pre_hook_fx, *arguments)

    def _start_from(self, weight: Tensor) -> None:
        # drawn all the same: networks with one seed agree with lava-dl's layer by layer
        weight.fill_(self._weight_scale)

    def _of_groups(self, groups: int) -> int:
        if groups != 1:
            raise ValueError(f"groups of pooling must be 1: a channel sees itself; got {groups}")
        return groups

    def map(self, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Apply the linear map with each of the given weights, all of ``shape``."""
        self._check_frames(input)
        x = input
        if not self.transposed:
            rest = [n % k for n, k in zip(x.shape[2:-1], self.kernel_size[:2], strict=True)]
            if any(rest):  # rows of zeros at the bottom, columns at the right
                frames = to_rows(x).view(-1, *x.shape[1:-1])
                frames = torch.nn.functional.pad(frames, (0, rest[1], 0, rest[0]))
                x = as_time_last(frames, x.shape[0], x.shape[-1])
            self._check_kernel_fits(input, x.shape[2:-1])
        channels = x.shape[1]
        each = (w.expand(channels, *w.shape[1:]) for w in weights)
        return self._convolve(x, *each, groups=channels, transposed=self.transposed)


@documented(
    _RAISES,
    pre_hook_fx=_HOOK,
    example=(
        ">>> y = Kind(kernel_size=2)(torch.rand(1, 2, 4, 4, 10))\n>>> y.shape\n"
        "torch.Size([1, 2, 2, 2, 10])"
    ),
    **_POOLED,
)
class Pool(_Pooling, torch.nn.Conv3d):
    """Sum pooling of each channel: ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.

    H' = floor((H + H mod kernel_size + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1:
    as many rows of zeros as the kernel leaves over are added at the bottom, and columns at the
    right. The weight is constant.
    """


@documented(
    _RAISES,
    pre_hook_fx=_HOOK,
    example=(
        ">>> y = Kind(kernel_size=2)(torch.rand(1, 2, 4, 4, 10))\n>>> y.shape\n"
        "torch.Size([1, 2, 8, 8, 10])"
    ),
    **_POOLED,
)
class Unpool(_Pooling, torch.nn.ConvTranspose3d):
    """Spread each value over a kernel: ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.

    H' = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + 1. The weight is constant.
    """

    _transposes = True
