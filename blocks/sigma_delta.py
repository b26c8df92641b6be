"""Blocks of sigma-delta neurons. Equations: kernels/recurrences/sigma_delta.py; kinds: base.py.

Their spikes are graded: changes of the activation. By default no hop of one step follows.

Source: lava-dl block/sigma_delta.py.
"""

from typing import Any

from lapilli.kernels.executors.layout import check_input
from lapilli.neurons import sigma_delta
from lapilli.neurons.gradients import with_zero_gradients
from torch import Tensor

from . import base
from .block import NEURON_HOOK, SynapseBlock, dimensions_of
from .documentation import documented
from .family import NeuronMixin

__all__ = [
    "AbstractSDRelu", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Output", "Pool",
    "Unpool",
]  # fmt: skip


class AbstractSDRelu(NeuronMixin):
    """Mixin of the blocks of sigma-delta neurons."""

    neurons = sigma_delta
    neuron: sigma_delta.Neuron
    defaults = {"delay_shift": False}  # noqa: RUF012 (a table)


class Average(base.AbstractAverage):
    """Average of groups of neurons."""


class Conv(AbstractSDRelu, base.AbstractConv):
    """Convolution layer of sigma-delta neurons."""


class ConvT(AbstractSDRelu, base.AbstractConvT):
    """Transposed convolution layer of sigma-delta neurons."""


class Dense(AbstractSDRelu, base.AbstractDense):
    """Dense layer of sigma-delta neurons."""


class Flatten(base.AbstractFlatten):
    """Flattening of the neurons."""


class Input(AbstractSDRelu, base.AbstractInput):
    """Input layer of sigma-delta neurons: its spikes are changes, without sum and activation."""

    def _spikes(self, z: Tensor, **options: Any) -> Tensor:
        neuron = self.neuron
        used = neuron.delta.threshold
        y = neuron.delta(neuron._enter(z), **options)
        return with_zero_gradients(y, *[p for p in neuron.parameters() if p is not used])


class Pool(AbstractSDRelu, base.AbstractPool):
    """Pooling layer of sigma-delta neurons."""


class Unpool(AbstractSDRelu, base.AbstractUnpool):
    """Unpooling layer of sigma-delta neurons."""


@documented(
    "For sizes that are not positive integers, or input of another shape.",
    example=(
        ">>> layer = Kind(neuron, 3, 2)\n"
        ">>> layer(torch.rand(4, 3, 10)).shape  # [batch, neurons, time]\n"
        "torch.Size([4, 2, 10])"
    ),
)
class _Output(SynapseBlock):
    """Output layer: a fully connected synapse and the running sum of what it gives.

    ``[N, in, T]`` to ``[N, out, T]``; no activation, no threshold, no delay.
    """

    _is_joined = True

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        weight_scale: float = 1,
        weight_norm: bool = False,
        count_log: bool = False,
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(False, False, count_log)
        self._set_synapse(
            "Dense",
            NEURON_HOOK,
            in_neurons=in_neurons,
            out_neurons=out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )
        self._set_sizes(self.synapse, dimensions_of(in_neurons))

    def _dendrite(self, x: Tensor) -> Any:
        check_input(x, "Output")  # else the error would name the synapse, a Dense
        return super()._dendrite(x)

    def _spikes(self, z: Tensor, **options: Any) -> Tensor:
        neuron = self.neuron
        return with_zero_gradients(neuron.sigma(neuron._enter(z)), *neuron.parameters())


class Output(AbstractSDRelu, _Output):
    """Output layer of sigma-delta neurons."""
