"""Blocks of which each neuron sees all inputs: Dense, and Affine, which does not spike.

Source: lava-dl block/base.py.
"""

from typing import Any

import numpy as np
import torch
from lapilli.kernels.executors.layout import check_input
from lapilli.neurons.errors import flag
from lapilli.neurons.gradients import with_zero_gradients
from torch import Tensor

from .block import NEURON_HOOK, SynapseBlock, dimensions_of
from .documentation import documented
from .maps import Product
from .passing import checked_tensor
from .stored_weight import Hook

__all__ = ["AbstractAffine", "AbstractDense"]

_SIZES = "For arguments out of range or of a wrong length, or input of another shape."
_SHOWS_DENSE = """\
>>> layer = Kind(neuron, 3, 2)
>>> x = torch.rand(4, 3, 10)  # spikes or any real numbers, [batch, neurons, time]
>>> layer(x).shape
torch.Size([4, 2, 10])"""


class _MaskedBlock(SynapseBlock):
    """Base of the blocks with a fully connected synapse, of which a mask cuts some."""

    mask: Tensor | None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "mask" and value is not None:
            value = self._five_dimensional(value)
        super().__setattr__(name, value)

    def _set_mask(self, mask: Tensor | np.ndarray | None) -> None:
        """Register a mask ``[out, in]``, or None where nothing is cut. It can be set later."""
        self.register_buffer("mask", None if mask is None else self._five_dimensional(mask))

    def _five_dimensional(self, mask: Tensor | np.ndarray) -> Tensor:
        """Return a copy of a mask ``[out, in]`` in the weight's five dimensions."""
        if self.synapse is not None:
            shape = (self.synapse.out_channels, self.synapse.in_channels)
        else:
            params: Any = self.synapse_params  # there, until the synapse is
            shape = (params["out_neurons"], params["in_neurons"])
        mask = checked_tensor("mask", mask, "0 and 1, [out, in]")
        if tuple(mask.shape) not in (shape, (*shape, 1, 1, 1)):
            raise ValueError(f"mask must be [out, in] = {shape}; got shape {tuple(mask.shape)}")
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("mask must hold 0 and 1 only, or be bool; it holds other values")
        return mask.view(*shape, 1, 1, 1)

    def _dendrite(self, x: Tensor) -> Any:
        """Return the weighted input of the neuron; a pair for complex neurons."""
        if self.mask is None:
            return super()._dendrite(x)
        synapse = self.synapse
        if synapse is None:
            raise self._missing("synapse")
        synapse.apply_mask(self.mask)
        return synapse(x, self.mask)


@documented(
    _SIZES,
    dynamics="Return the neuron's state, without spike and reset; otherwise the weighted input.",
    count_log="Also return None.",
    example=_SHOWS_DENSE,
)
class AbstractAffine(_MaskedBlock):
    """Affine layer, for readout: a fully connected synapse and the neuron's dynamics.

    The output is the voltage, or for resonators the imaginary part of the state. It is never
    delayed.
    """

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        dynamics: bool = True,
        mask: Tensor | np.ndarray | None = None,
        count_log: bool = False,
        *,
        synapse: Product = "auto",
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(False, False, count_log)
        self._set_synapse(
            "Dense",
            pre_hook_fx,
            product=synapse,
            in_neurons=in_neurons,
            out_neurons=out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )
        self._set_mask(mask)
        self._set_sizes(self.synapse)
        if None not in (self.neuron, self.synapse):
            self.neuron.no_reset = True
            self.neuron.shape = torch.Size((self.synapse.out_channels,))
        self.dynamics = flag("dynamics", dynamics)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        """Run the block over time.

        Parameters
        ----------
        x
            ``[N, C, T]`` in real units; without ``dynamics`` whatever the synapse takes.

        Returns
        -------
        Tensor
            State or weighted input; with ``count_log`` also None.
        """
        check_input(x, "Affine")
        if self.dynamics and x.ndim != 3:
            raise ValueError(
                f"Affine with dynamics takes [batch, channels, time]; got shape {tuple(x.shape)}. "
                f"Put a Flatten before it."
            )
        z = self._dendrite(x)
        if self.dynamics:
            if not getattr(self.neuron, "no_reset", True):  # made by a user's class
                self.neuron.no_reset = True
            z = self.neuron.dynamics(z)
        # voltage of (current, voltage), imaginary part of (real, imaginary)
        y = z if isinstance(z, Tensor) else z[-1]
        if not self.dynamics:
            y = with_zero_gradients(y, *self.neuron.parameters())
        return (y, None) if self.count_log else y


@documented(_SIZES, example=_SHOWS_DENSE)
class AbstractDense(_MaskedBlock):
    """Dense layer: a fully connected synapse and its neurons.

    The input may be spikes or any other real numbers, which the weights multiply. The block maps
    ``[N, in, T]`` to ``[N, out, T]``. If ``in_neurons`` is a tuple, it maps ``[N, C, H, W, T]`` to
    ``[N, out, 1, 1, T]``.
    """

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        delay: bool = False,
        delay_shift: bool = True,
        mask: Tensor | np.ndarray | None = None,
        count_log: bool = False,
        *,
        synapse: Product = "auto",
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(delay, delay_shift, count_log)
        self._set_synapse(
            "Dense",
            pre_hook_fx,
            product=synapse,
            in_neurons=in_neurons,
            out_neurons=out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )
        self._set_mask(mask)
        self._set_sizes(self.synapse, dimensions_of(in_neurons))

    def _synapses(self) -> tuple[Any, ...]:
        return (self.synapse,)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # noqa: D102 (the base's)
        return self._streamed(x, super().forward)
