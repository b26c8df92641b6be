"""Blocks whose spikes come back to their own neurons: Recurrent, and KWTA, a competition.

Equations: kernels/recurrences/recurrent_steps.py. The loop over time is one kernel. Only what acts
step by step (norm, dropout in training, a hook of the neuron or of the recurrent synapse, a
``forward``, ``dynamics`` or ``spike`` that a subclass or an assignment gave them) calls them for
each step.

Source: lava-dl block/base.py.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lapilli.kernels.executors.layout import check_input
from lapilli.neurons.errors import finite, flag
from lapilli.neurons.limits import confined
from torch import Tensor

from .block import NEURON_HOOK, dimensions_of
from .complex_synapse import ComplexLayer
from .documentation import documented
from .feedback import FeedbackBlock, Gradient
from .generic_layer import GenericLayer
from .maps import Product
from .stored_weight import Hook, whole_number

__all__ = ["AbstractKWTA", "AbstractRecurrent"]

_RAISES = "For arguments out of range, an unknown ``gradient``, or input of another shape."


@documented(
    _RAISES,
    in_neurons="Number of inputs.",
    pre_hook_fx="Function applied to both weights; None: the neuron's ``quantize_8bit``.",
    synapse=(
        "How inputs are multiplied on a CPU, not the feedback: ``auto`` by their density,\n"
        "``dense``, or ``events``. Can be changed as ``block.input_synapse.product``."
    ),
    example=(
        ">>> layer = Kind(neuron, 3, 2)\n"
        ">>> layer(torch.rand(4, 3, 10)).shape  # [batch, neurons, time]\n"
        "torch.Size([4, 2, 10])"
    ),
)
class AbstractRecurrent(FeedbackBlock):
    """Recurrent layer: a fully connected synapse, and another from the layer's spikes back to it.

    The block maps ``[N, in, T]`` to ``[N, out, T]``. A spike comes back one step later. Both
    weights are always quantised: by ``pre_hook_fx``, or without one by the neuron's
    ``quantize_8bit``. If a synapse has a bias, it is added to the weighted input at every step.
    """

    input_synapse: GenericLayer | ComplexLayer
    recurrent_synapse: Any  # as the other one; None before a class of a user has made it
    recurrent_params: dict[str, Any]  # until then

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_neurons: int,
        out_neurons: int,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = None,
        requires_grad: bool = True,
        delay: bool = False,
        delay_shift: bool = True,
        count_log: bool = False,
        gradient: Gradient | None = None,
        *,
        synapse: Product = "auto",
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(delay, delay_shift, count_log)
        in_neurons = whole_number("in_neurons", in_neurons)
        out_neurons = whole_number("out_neurons", out_neurons)
        options = {
            "in_neurons": in_neurons,
            "out_neurons": out_neurons,
            "weight_scale": weight_scale,
            "weight_norm": weight_norm,
        }
        hook = pre_hook_fx
        if hook is None and self.neuron is not None:
            hook = self.neuron.quantize_8bit
        self.input_synapse = self._new_synapse("Dense", hook, product=synapse, **options)
        options["in_neurons"] = out_neurons
        if self.input_synapse is None:
            self.recurrent_synapse = None
            self.recurrent_params = dict(self.synapse_params or {}) | options
        else:
            self.recurrent_synapse = self._new_synapse("Dense", hook, **options)
        self._set_sizes(self.input_synapse)
        self._set_feedback(out_neurons, requires_grad, gradient)

    def _learned(self) -> torch.nn.Module | None:
        return self.recurrent_synapse

    def _synapses(self) -> tuple[Any, ...]:
        return self.input_synapse, self.recurrent_synapse

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # noqa: D102 (the base's)
        return self._streamed(x, super().forward)

    def _dendrite(self, x: Tensor) -> Any:
        check_input(x, "Recurrent")
        if x.ndim != 3:
            raise ValueError(
                f"Recurrent takes [batch, channels, time]; got shape {tuple(x.shape)}. Put a "
                f"Flatten before it."
            )
        if self.input_synapse is None or self.recurrent_synapse is None:
            raise self._missing("synapse")
        z = self.input_synapse(x)
        return z if self.recurrent_synapse.is_observed else self.recurrent_synapse.biased(z)

    def _listeners(self) -> list[tuple[str, bool]]:
        observed = getattr(self.recurrent_synapse, "is_observed", False)
        return [("a hook or a forward that the recurrent synapse was given", observed)]

    def _fed_back(self, s: Tensor, weights: Sequence[Tensor | None]) -> list[Tensor | None]:
        if not self.recurrent_synapse.is_observed:
            return super()._fed_back(s, weights)
        back = self.recurrent_synapse(s.unsqueeze(-1))
        return [part.squeeze(-1) for part in (back if self.neuron.complex else (back,))]

    def _feedback(self) -> tuple[Any, float, float | None]:
        neuron, synapse = self.neuron, self.recurrent_synapse
        weight = synapse.effective_weight()
        if neuron.complex:
            feedback: Any = tuple(part.flatten(1) for part in weight)
        else:
            feedback = weight.flatten(1)
        hook, own = synapse.pre_hook_fx, neuron.quantize_8bit
        # what == of methods is, which the compiler of torch 2.7 does not know
        on_grid = all(getattr(hook, n, n) is getattr(own, n, n) for n in ("__self__", "__func__"))
        return feedback, 0.0, 2 / neuron.w_scale if on_grid else None


@documented(
    _RAISES,
    requires_grad="Learn ``self_excitation``.",
    example=(
        ">>> layer = Kind(neuron, 3, 5, num_winners=1)\n"
        ">>> layer(torch.rand(4, 3, 10)).shape  # [batch, neurons, time]\n"
        "torch.Size([4, 5, 10])"
    ),
)
class AbstractKWTA(FeedbackBlock):
    """Layer of competing neurons: about ``num_winners`` spike at once (k winners take all).

    The inputs come through a fully connected synapse. One step later, each spike inhibits all other
    neurons with weight -1, and excites its own neuron with ``self_excitation``. The block maps
    ``[N, in, T]`` to ``[N, out, T]``, and ``[N, in, 1, 1, T]`` to ``[N, out, 1, 1, T]``.
    """

    shown = ("num_winners",)
    synapse: GenericLayer | ComplexLayer

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        num_winners: int,
        self_excitation: float = 0.5,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        delay_shift: bool = True,
        requires_grad: bool = True,
        count_log: bool = False,
        gradient: Gradient | None = None,
        *,
        synapse: Product = "auto",
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(False, delay_shift, count_log)
        self.synapse = self._new_synapse(
            "Dense",
            pre_hook_fx,
            product=synapse,
            in_neurons=in_neurons,
            out_neurons=out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )
        self.num_neurons = whole_number("out_neurons", out_neurons)
        self.num_winners = num_winners
        self.self_excitation = torch.nn.Parameter(
            torch.tensor([float(finite("self_excitation", self_excitation))], dtype=torch.float32),
            requires_grad=flag("requires_grad", requires_grad),
        )
        self._inhibition: tuple[Any, float] = (None, 0.0)
        self._set_sizes(self.synapse, dimensions_of(in_neurons))
        self._set_feedback(self.num_neurons, requires_grad, gradient)

    @property
    def num_winners(self) -> int:
        """Approximate number of neurons that spike at once, from 1 to ``num_neurons``."""
        return self._num_winners

    @num_winners.setter
    def num_winners(self, num_winners: int) -> None:
        winners = whole_number("num_winners", num_winners)
        if winners > self.num_neurons:
            raise ValueError(
                f"num_winners must be between 1 and out_neurons = {self.num_neurons}; got "
                f"{num_winners}"
            )
        self._num_winners = winners

    def _learned(self) -> torch.nn.Parameter:
        return self.self_excitation

    def clamp(self) -> None:
        """Move the self-excitation back into [0, 1], in place."""
        self._own_weight()

    def _own_weight(self) -> Tensor:
        return confined(self, "self_excitation", 0, 1)

    def _dendrite(self, x: Tensor) -> Any:
        check_input(x, "KWTA")
        if self.synapse is None:
            raise self._missing("synapse")
        z = self.synapse(x)
        shape = (z[0] if self.neuron.complex else z).shape
        if math.prod(shape[2:-1]) != 1:
            raise ValueError(
                f"KWTA has one competition of {self.num_neurons} neurons; got input of shape "
                f"{tuple(x.shape)}. Put a Flatten before it."
            )
        return z

    def _feedback(self) -> tuple[Any, float, float | None]:
        neuron, n = self.neuron, self.num_neurons
        excitation = self._own_weight()
        own = torch.eye(n, dtype=torch.float32, device=excitation.device) * (1 + excitation)
        weight = neuron.quantize_8bit(own - 1)
        parts = (None, weight) if self._tested else (weight, None)
        return parts if neuron.complex else weight, self._bias(), 2 / neuron.w_scale

    def _bias(self) -> float:
        """Return what shifts the threshold to where ``num_winners`` inhibit the others."""
        neuron, n = self.neuron, self.num_neurons
        given = neuron.threshold, neuron.w_scale, self.num_winners
        if self._inhibition[0] != given:  # once: a graph cannot take a number from a tensor
            excess = neuron.threshold * (n - 2 * self.num_winners) / (n * neuron.w_scale)
            value = torch.tensor(excess, dtype=torch.float32, device="cpu")
            self._inhibition = given, neuron.quantize_8bit(value).item()
        return self._inhibition[1]
