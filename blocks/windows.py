"""Blocks of which each neuron sees a window of an image: convolutions and pooling.

Source: lava-dl block/base.py.
"""

from typing import Any

from lapilli.kernels.executors.layout import check_input
from torch import Tensor

from .block import NEURON_HOOK, SynapseBlock
from .documentation import documented
from .maps import Product
from .stored_weight import Hook, Pair

__all__ = ["AbstractConv", "AbstractConvT", "AbstractPool", "AbstractUnpool"]

_SHOWS_CONV = """\
>>> layer = Kind(neuron, 2, 3, kernel_size=2, stride=2)
>>> layer(torch.rand(1, 2, 4, 4, 10)).shape  # [batch, channels, height, width, time]
torch.Size([1, 3, OUT, OUT, 10])"""
_SHOWS_POOL = """\
>>> layer = Kind(neuron, kernel_size=2)
>>> layer(torch.rand(1, 2, 4, 4, 10)).shape  # [batch, channels, height, width, time]
torch.Size([1, 2, OUT, OUT, 10])"""
_CONVOLVED = "For arguments out of range or of a wrong length, or input that is not NCHWT."
_POOLED = {
    "stride": "How far the window moves at a time: an integer, or a pair; None: ``kernel_size``.",
    "weight_scale": "Every entry of the weight.",
    "weight_norm": "Store direction and length of the weight apart; it stays constant.",
    "neuron_params": "Arguments of the neuron, by name; ``norm`` is not used here.",
}


class _Convolving(SynapseBlock):
    """What Conv and ConvT share."""

    kind: str  # name of the synapse

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_features: int,
        out_features: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        delay: bool = False,
        delay_shift: bool = True,
        count_log: bool = False,
        *,
        synapse: Product = "auto",
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(delay, delay_shift, count_log)
        self._set_synapse(
            self.kind,
            pre_hook_fx,
            product=synapse,
            in_features=in_features,
            out_features=out_features,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )
        self._set_sizes(self.synapse, 3)


@documented(_CONVOLVED, example=_SHOWS_CONV.replace("OUT", "2"))
class AbstractConv(_Convolving):
    """Convolution layer: a convolution of each frame and its neurons.

    ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.
    """

    kind = "Conv"


@documented(_CONVOLVED, example=_SHOWS_CONV.replace("OUT", "8"))
class AbstractConvT(_Convolving):
    """Transposed convolution layer: a transposed convolution of each frame and its neurons.

    ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.
    """

    kind = "ConvTranspose"

    def _dendrite(self, x: Tensor) -> Any:
        check_input(x, "ConvT")  # else the error would name the synapse, a ConvTranspose
        return super()._dendrite(x)


class _Pooling(SynapseBlock):
    """What Pool and Unpool share."""

    kind: str  # name of the synapse

    def __init__(
        self,
        neuron_params: dict[str, Any],
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        delay: bool = False,
        delay_shift: bool = True,
        count_log: bool = False,
    ):
        super().__init__()
        self._set_neuron(neuron_params, norm=None)
        self._set_output(delay, delay_shift, count_log)
        self._set_synapse(
            self.kind,
            pre_hook_fx,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )


@documented(_CONVOLVED, example=_SHOWS_POOL.replace("OUT", "2"), **_POOLED)
class AbstractPool(_Pooling):
    """Pooling layer: a weighted sum over each window of a channel, and its neurons.

    ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.
    """

    kind = "Pool"


@documented(_CONVOLVED, example=_SHOWS_POOL.replace("OUT", "8"), **_POOLED)
class AbstractUnpool(_Pooling):
    """Unpooling layer: each value spread over a window of its channel, and its neurons.

    ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.
    """

    kind = "Unpool"
