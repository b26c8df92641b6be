"""What the blocks share whose spikes come back to their own neurons.

Equations: kernels/recurrences/recurrent_steps.py. The loop over time is one kernel. Only what acts
step by step (norm, dropout in training, a hook of the neuron or of the recurrent synapse, a
``forward``, ``dynamics`` or ``spike`` that a subclass or an assignment gave them) calls them for
each step.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lapilli.kernels.executors.layout import from_rows
from lapilli.kernels.recurrences.delay import step_delay as shift_by_one
from lapilli.kernels.recurrences.recurrent import GRADIENTS
from lapilli.neurons.dropout import Dropout
from lapilli.neurons.errors import flag
from lapilli.neurons.state import refuse_lost_state, state_value, stepping, to_keep, usable
from torch import Tensor

from .block import NeuronBlock
from .linear import linear

__all__ = ["FeedbackBlock", "Gradient"]

Gradient = Literal["lava-dl", "full", "bounded"]


class FeedbackBlock(NeuronBlock):
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

    _gradient: Gradient
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
