"""Blocks of sigma-delta neurons. Equations: kernels/sigma_delta.py; kinds: base.py.

Their spikes are graded: changes of the activation. By default no hop of one step follows.

Source: lava-dl block/sigma_delta.py.
"""

from typing import Any

from lapilli.neurons import sigma_delta
from torch import Tensor

from . import base
from .documentation import documented
from .family import NeuronMixin, blocks

__all__ = [
    "AbstractSDRelu", "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Output", "Pool",
    "Unpool",
]  # fmt: skip


class AbstractSDRelu(NeuronMixin):
    """Mixin of the blocks of sigma-delta neurons."""

    neurons = sigma_delta
    defaults = NeuronMixin.defaults | {"delay_shift": False}


Average, Conv, ConvT, Dense, Flatten, _Input, Pool, Unpool = blocks(
    AbstractSDRelu, "Average", "Conv", "ConvT", "Dense", "Flatten", "Input", "Pool", "Unpool"
)


class Input(_Input):  # noqa: D101 (from the kind)
    __doc__ = _Input.__doc__.replace(
        "encode it in spikes.", "send its changes: no sum, no activation."
    )

    def _spikes(self, z: Tensor, **options: Any) -> Tensor:
        return self.neuron.delta(self.neuron._enter(z), **options)


@documented("For sizes that are not positive integers, or input of another shape.")
class _Output(base._SynapseBlock):
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
            base.NEURON_HOOK,
            in_neurons=in_neurons,
            out_neurons=out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )

    def _spikes(self, z: Tensor, **options: Any) -> Tensor:
        return self.neuron.sigma(self.neuron._enter(z))


class Output(AbstractSDRelu, _Output):  # noqa: D101 (from the kind)
    __doc__ = _Output.__doc__
