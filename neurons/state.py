"""Modules that walk over time: the shape they learn and the state they keep between calls.

Source: lava-dl neuron/base.py, dendrite/sigma.py, axon/delta.py.
"""

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from .errors import require
from .lazy import LazySize
from .precision import KeepsFloat32


class Stateful(KeepsFloat32, LazySize, torch.nn.Module):
    """Base of the modules with input ``[N, neurons..., T]`` and state ``[N, neurons...]``.

    Parameters
    ----------
    persistent_state
        Keep the state from one call to the next instead of starting from rest.

    Attributes
    ----------
    shape : torch.Size or None
        Shape of the neurons, without batch and time; known after the first call.
    num_neurons : int or None
        Their number.
    """

    _fixed: ClassVar[dict[str, str]] = {}  # what only the constructor sets, and what to do instead
    _derived: ClassVar[dict[str, str]] = {}  # what is only read, and what to set instead

    def __init__(self, persistent_state: bool):
        super().__init__()
        self.shape: torch.Size | None = None
        self.num_neurons: int | None = None
        self.persistent_state = bool(persistent_state)
        self._rest: dict[str, float] = {}  # state buffers and their value at rest

    def __setattr__(self, name: str, value: Any) -> None:
        advice = self._fixed.get(name)
        if advice is not None and value is not self.__dict__.get(name, value):
            if value != self.__dict__[name]:
                raise AttributeError(
                    f"{name} of a {type(self).__module__}.{type(self).__name__} cannot be set to "
                    f"{value!r}: {advice}"
                )
        elif name in self._derived:
            raise AttributeError(
                f"{name} of a {type(self).__module__}.{type(self).__name__} follows from other "
                f"values; {self._derived[name]}"
            )
        super().__setattr__(name, value)

    def _add_states(self, **rest: float) -> None:
        """Register state buffers by name, with their values at rest; not part of the state dict."""
        self._rest.update(rest)
        for name, value in rest.items():
            self.register_buffer(name, torch.full((1,), float(value)), persistent=False)

    def reset_state(self) -> None:
        """Return to rest: the next call starts as the first one did."""
        for name, value in self._rest.items():
            setattr(self, name, torch.full((1,), float(value), device=self.device))

    def _state(self, batch: int) -> tuple[Tensor, ...] | None:
        """State before this call, each ``[batch, neurons...]``; None at rest."""
        states = [self._buffers[name] for name in self._rest]
        sizes = {s.shape[0] for s in states if s.ndim > 1}  # as registered it has one dimension
        if not sizes:
            return None
        if sizes != {batch}:
            self.reset_state()
            return None
        return tuple([s if s.ndim > 1 else s.expand(batch, *self.shape) for s in states])

    def _keep_state(self, **states: Tensor) -> None:
        """Replace the buffers, detached: what a call keeps for its backward is never written."""
        if self.persistent_state:
            for name, state in states.items():
                self._buffers[name] = (state.detach() if state.requires_grad else state).clone()

    def _check(self, x: Tensor) -> None:
        """Check an input ``[N, neurons..., T]`` and learn the shape of the neurons."""
        usual = (
            isinstance(x, Tensor)
            and x.shape[1:-1] == self.shape
            and x.device == self.device
            and not x.is_complex()
        )
        if not usual:  # messages take longer than a step
            self._learn(x)

    def _learn(self, x: Tensor) -> None:
        require(
            isinstance(x, Tensor),
            f"neuron input must be a torch.Tensor; got {type(x).__name__}",
        )
        require(
            x.ndim >= 3,
            f"expected input to have at least 3 dimensions [batch, neuron dims..., time]; got "
            f"shape {tuple(x.shape)}. For a single sample use x.unsqueeze(0).",
        )
        require(
            not x.is_complex(),
            f"neuron input must be real; got {x.dtype}. Complex neurons take a pair (real, imag).",
        )
        if x.device != self.device:
            raise ValueError(
                f"neuron input is on {x.device} but the neuron is on {self.device}; move one of "
                f"them with .to(device)"
            )
        shape = x.shape[1:-1]
        if self.shape is None:
            self.shape = shape
        require(
            tuple(shape) == tuple(self.shape),
            f"expected input of neuron shape {tuple(self.shape)}, as in the first call; got "
            f"{tuple(shape)} (input shape {tuple(x.shape)})",
        )
        self.num_neurons = math.prod(shape)

    @property
    def device(self) -> torch.device:
        """Device of the parameters, or of the state where there are none."""
        for own in (*self._parameters.values(), *self._buffers.values()):
            if own is not None:
                return own.device
        return next(itertools.chain(self.parameters(), self.buffers())).device
