"""Blocks whose spikes come back to their own neurons: Recurrent, and KWTA, a competition.

Equations: kernels/recurrences/recurrent_steps.py. The loop over time is one kernel. Only what acts
step by step (norm, dropout in training, a hook of the neuron or of the recurrent synapse, a
``forward``, ``dynamics`` or ``spike`` that a subclass or an assignment gave them) calls them for
each step.

Source: lava-dl block/base.py.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lapilli.kernels.executors.layout import check_input, from_rows
from lapilli.kernels.recurrences.delay import step_delay as shift_by_one
from lapilli.kernels.recurrences.recurrent import GRADIENTS
from lapilli.neurons.dropout import Dropout
from lapilli.neurons.errors import finite, flag
from lapilli.neurons.limits import confined
from lapilli.neurons.state import refuse_lost_state, state_value, stepping, to_keep, usable
from torch import Tensor

from .base import NEURON_HOOK, _dimensions, _NeuronBlock
from .complex_synapse import ComplexLayer
from .documentation import documented
from .linear import linear
from .maps import Product
from .synapse import GenericLayer, Hook, whole_number

Gradient = Literal["lava-dl", "full", "bounded"]

_RAISES = "For arguments out of range, an unknown ``gradient``, or input of another shape."


class _FeedbackBlock(_NeuronBlock):
    """Base of the blocks with feedback.

    Attributes
    ----------
    spike_state : Tensor
        Spikes ``[N, neurons...]`` of the last step, where the neuron's state persists. A state dict
        has one zero for it, and may be loaded with anything.
    bias : Tensor or None
        Added to the weighted input, of resonators to the part that the threshold tests; it must
        broadcast against ``[N, neurons..., T]``.
    """

    spike_state: Tensor = state_value("spike_state", "Spikes of the last step of the last call.")

    def _set_feedback(
        self, num_neurons: int, requires_grad: bool, gradient: Gradient | None
    ) -> None:
        if gradient is None:
            turns = self.neuron is not None and self.neuron.complex
            gradient = "bounded" if turns else "lava-dl"
        self.num_neurons = num_neurons
        self.requires_grad = requires_grad
        self.gradient = gradient
        self.bias: Tensor | None = None
        self._add_states(spike_state=0)
        if self.neuron is not None:
            self._acts_by_step()

    def _feedback(self) -> tuple[Any, float, float | None]:
        """Return weight, bias and the step of the weight's grid, None if it is on none."""
        raise NotImplementedError

    def _dendrite(self, x: Tensor) -> Any:
        """Return the weighted input of the neuron, a pair for complex neurons."""
        raise NotImplementedError

    @property
    def persistent_state(self) -> bool:
        """Whether state and last spikes are kept from one call to the next, as the neuron says."""
        return self.neuron.persistent_state

    @persistent_state.setter
    def persistent_state(self, persistent: bool) -> None:
        self.neuron.persistent_state = persistent

    @property
    def gradient(self) -> Gradient:
        """How the gradient goes through the feedback."""
        return self._gradient

    @gradient.setter
    def gradient(self, gradient: Gradient) -> None:
        if gradient not in GRADIENTS:
            raise ValueError(
                f"gradient must be one of {', '.join(map(repr, GRADIENTS))}; got {gradient!r}"
            )
        self._gradient = gradient

    def _learned(self) -> torch.nn.Parameter | torch.nn.Module | None:
        """Return what is learned of the feedback; None before it is there."""
        raise NotImplementedError

    @property
    def requires_grad(self) -> bool:
        """Whether the feedback is learned."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self._requires_grad = flag("requires_grad", requires_grad)
        learned = self._learned()
        if learned is not None:
            learned.requires_grad_(self._requires_grad)

    @property
    def _tested(self) -> int:
        """Index of the part that the threshold tests."""
        return int(self.neuron.complex and not self.neuron.phase)

    def _biased(self, z: Any) -> Any:
        if self.bias is None:
            return z
        if not self.neuron.complex:
            return z + self.bias
        return tuple(part + self.bias if k == self._tested else part for k, part in enumerate(z))

    def _acts_by_step(self) -> bool:
        """Whether something acts on each step by itself; not every gradient can go through it."""
        neuron, drop = self.neuron, self.neuron.drop
        norms = (neuron.real_norm, neuron.imag_norm) if neuron.complex else (neuron.norm,)
        passes = drop is None or (
            isinstance(drop, (Dropout, torch.nn.Dropout)) and not drop.training
        )
        causes = [
            name
            for name, acts in (
                ("a norm", any(norm is not None for norm in norms)),
                ("dropout", not passes),
                ("a forward hook of the neuron", bool(neuron._forward_hooks)),
                ("another hook or a forward that the neuron was given", neuron.is_observed),
                (
                    "dynamics or spike that the neuron was given",
                    neuron._replaces_stages,
                ),
                *self._listeners(),
            )
            if acts
        ]
        if causes and (self.gradient == "full" or (self._links_states and not neuron.complex)):
            raise ValueError(
                f"gradient={self.gradient!r} cannot go through what acts step by step; got "
                f"{causes[0]}. Leave it out or use gradient="
                f"{'bounded' if neuron.complex else 'lava-dl'!r}."
            )
        return bool(causes)

    @property
    def _links_states(self) -> bool:
        """Whether the gradient goes from step to step through the neuron's states."""
        return self.gradient != "lava-dl"

    def _fed_back(self, s: Tensor, weights: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return what the spikes of one step ``[N, neurons...]`` add to each part of the next."""
        x = s.unsqueeze(-1)
        return [
            None if w is None else linear(x, w, product="dense")[0].view(s.shape) for w in weights
        ]

    def _listeners(self) -> list[tuple[str, bool]]:
        """Return what of the feedback has to be called in each step, and whether it is there."""
        return []

    def _spikes(self, z: Any, delay_shift: bool = False) -> Tensor:
        batch, *_, steps = (z[0] if self.neuron.complex else z).shape
        feedback, bias, quantum = self._feedback()
        before = usable(self._kept["spike_state"]) if self.persistent_state else None
        if before is not None and (before.ndim <= 1 or before.shape[0] != batch):
            before = None
        if self._acts_by_step():
            y, last = self._step_by_step(z, feedback, bias, before)
            y = shift_by_one(y) if delay_shift else y
        else:
            y, last = self.neuron.run_with_feedback(
                z, feedback, spikes=before, bias=bias, quantum=quantum, shift=delay_shift,
                gradient=self.gradient,
            )  # fmt: skip
        if self.persistent_state and steps > 0:
            self._kept["spike_state"] = to_keep(last)
        return y

    def _step_by_step(
        self, z: Any, feedback: Any, bias: float, before: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Call the neuron for each step, its state without gradient, as lava-dl does.

        With the gradient "bounded" the state of resonators has one, and the feedback none: how
        steep a norm is, nobody knows, so that no other bound would hold.
        """
        neuron = self.neuron
        if neuron.persistent_state:
            refuse_lost_state(neuron)
        parts, weights = (z, feedback) if neuron.complex else ((z,), (feedback,))
        shape = parts[0].shape[1:-1]
        steps: list[Tensor] = []
        s = torch.zeros_like(parts[0][..., 0]) if before is None else before
        with stepping(neuron, linked=self._links_states):
            # unbound: the gradient of each indexed step would be as large as the whole input
            for frames in zip(*(part.unbind(-1) for part in parts), strict=True):
                if not steps and before is not None and neuron.rests:
                    s = torch.zeros_like(s)
                x = list(frames)
                for k, back in enumerate(self._fed_back(s, weights)):
                    if back is not None:
                        x[k] = x[k] + back
                x[self._tested] = x[self._tested] + bias
                x = [part.unsqueeze(-1) for part in x]
                s = neuron(tuple(x) if neuron.complex else x[0]).squeeze(-1)
                if not steps:
                    began_at_rest = neuron.began_at_rest
                steps.append(s)
                s = s.detach() if self._links_states else s
        if not steps:
            return torch.zeros_like(parts[0]), s
        neuron._last_call["began_at_rest"] = began_at_rest
        return from_rows(torch.stack(steps, 1).flatten(2), shape), s

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Run the block over time.

        Parameters
        ----------
        x
            ``[N, C, T]``, real units.

        Returns
        -------
        Tensor
            Spikes in the same layout; with ``count_log`` also the event rate.
        """
        return self._output(self._biased(self._dendrite(x)))

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "spike_state"] = torch.zeros(
            1, dtype=torch.float32, device=self.device
        )


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
class AbstractRecurrent(_FeedbackBlock):
    """Recurrent layer: a fully connected synapse, and another from the layer's spikes back to it.

    ``[N, in, T]`` to ``[N, out, T]``. A spike comes back one step later. Both weights are always
    quantised: without a ``pre_hook_fx``, as the neuron does. A bias of either synapse is added to
    the weighted input at every step.
    """

    input_synapse: GenericLayer | ComplexLayer
    recurrent_synapse: GenericLayer | ComplexLayer

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
            self.recurrent_params = self.synapse_params | options
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
        on_grid = synapse.pre_hook_fx == neuron.quantize_8bit
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
class AbstractKWTA(_FeedbackBlock):
    """Competition of which about ``num_winners`` neurons spike at once (k winners take all).

    A fully connected synapse; each spike inhibits all other neurons one step later with weight -1
    and excites its own with ``self_excitation``. ``[N, in, T]`` to ``[N, out, T]``; ``[N, in, 1, 1,
    T]`` to ``[N, out, 1, 1, T]``.
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
        self._set_sizes(self.synapse, _dimensions(in_neurons))
        self._set_feedback(self.num_neurons, requires_grad, gradient)

    @property
    def num_winners(self) -> int:
        """How many neurons spike at once, about; from 1 to ``num_neurons``."""
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
