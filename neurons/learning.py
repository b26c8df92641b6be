"""Parameters of a neuron: their ranges, sizes, first values, and what is learned of them.

A size is known at the first call, see lazy.py; a range is kept by what limits.py says.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lapilli.kernels.executors.operators import is_exported
from torch import Tensor
from torch.nn.parameter import is_lazy

from .errors import ArgumentTypeError, number, require
from .lazy import fill, is_to_be_drawn, resize, size_provisionally, unmark
from .limits import UPDATE, confined, own_parameter, require_finite, settle_update
from .state import Stateful

__all__ = ["ANEW", "LearningNeuron", "Range"]

Range = float | tuple[float, float]
ANEW = "make another neuron, with the argument"


class LearningNeuron(Stateful):
    """Parameters of a neuron: their ranges, sizes, first values, and what is learned of them."""

    shared_param: bool
    p_scale: int
    requires_grad: bool
    _ranges: dict[str, tuple[float, float]]

    def _add_decay(self, name: str, value: Range, jitter: float = 0.0, learns: bool = True) -> None:
        """Register a decay parameter, in units of ``1 / p_scale``.

        ``value`` is a number in [0, 1] or, without ``shared_param``, a pair (min, max); a number
        is then widened by the relative ``jitter``. ``learns`` says that it has a gradient.
        """
        self._add_parameter(name, self._range(name, value, (0, 1), jitter)[0], learns)

    def _range(
        self, name: str, value: Range, limits: tuple[float, float], jitter: float
    ) -> tuple[float, float]:
        """Check a constructor argument and return the range of its values, to be drawn later."""
        label = name.replace("_", " ")
        expected = f"expected {label} to be a scalar or a pair (min, max)"
        given: Any = value.tolist() if isinstance(value, (np.ndarray, Tensor)) else value
        if self.shared_param:
            require(
                np.isscalar(given),
                f"expected {label} to be a scalar when shared_param is True; got {name}={given}. "
                f"A range needs shared_param=False.",
            )
            low = high = number(name, given)
        elif np.isscalar(given):
            number(name, given)
            one: Any = given
            low, high = (1 - jitter) * one, (1 + jitter) * one
        else:
            if not isinstance(given, (tuple, list)):
                raise ArgumentTypeError(f"{expected}; got {name}={given!r}")
            require(len(given) == 2, f"{expected}; got {name}={given}")
            low, high = (number(name, v) for v in given)
        require(
            all(limits[0] <= v <= limits[1] for v in np.ravel(given)),
            f"{label} must be in [{limits[0]:g}, {limits[1]:g}]; got {name}={given}",
        )
        if not self.shared_param:
            self._ranges[name] = (low, high)
            setattr(self, f"{name}_min", low)
            setattr(self, f"{name}_max", high)
        return low, high

    def _add_parameter(self, name: str, value: float, learns: bool = True) -> None:
        """Register a parameter; ``value`` is the shared one, without ``p_scale``."""
        if self.shared_param:
            values = torch.tensor([self.p_scale * value], dtype=torch.float32)
            parameter = torch.nn.Parameter(values, requires_grad=self.requires_grad)
            self.register_parameter(name, parameter)
        else:
            self._register_unsized(name, self.requires_grad)
            self.lazy_sizes = (*self.lazy_sizes, name)
        self._learned = (*self._learned, name)
        if learns:
            self._learning = (*self._learning, name)
            if self.requires_grad:
                self._add_update(name)

    def _add_update(self, name: str) -> None:
        """Register what is learned of a decay, see limits.py."""
        parameter = self._parameters.get(name)
        if parameter is None or name + UPDATE in self._parameters:
            return
        if is_lazy(parameter):
            self._register_unsized(name + UPDATE, True)
        else:
            update = torch.nn.Parameter(torch.zeros_like(parameter.detach()))
            self.register_parameter(name + UPDATE, update)

    def _size_updates(self) -> None:
        """Give what is learned of each decay the size of the decay."""
        for name in self._learning:
            parameter, update = (self._parameters.get(n) for n in (name, name + UPDATE))
            if parameter is None or update is None or is_lazy(parameter):
                continue
            if is_lazy(update) or update.shape != parameter.shape:
                zeros = torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
                if is_lazy(update):
                    fill(self, name + UPDATE, zeros)
                else:
                    resize(update, zeros)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for name in self._learning:
            settle_update(self, name)
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self._learning:
            destination.pop(prefix + name + UPDATE, None)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        assigning = local_metadata.get("assign_to_params_buffers", False)
        for name in self._learning:
            update, saved = self._parameters.get(name + UPDATE), state_dict.get(prefix + name)
            if update is None:
                continue
            settle_update(self, name)
            like = saved if assigning and saved is not None else update
            update = update if is_lazy(like) else torch.zeros_like(like.data)
            state_dict[prefix + name + UPDATE] = update
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)
        self._size_updates()

    def _sized(self, name: str) -> None:
        if self._ranges.pop(name, None) is not None:
            delattr(self, f"{name}_min")
            delattr(self, f"{name}_max")

    def _uniform(self, name: str, channels: int) -> Tensor:
        """Draw one value a channel from the range of a parameter, on torch's CPU generator."""
        low, high = self._ranges[name]
        return low + (high - low) * torch.rand(channels, dtype=torch.float32, device="cpu")

    def _draws(self) -> list[tuple[tuple[str, ...], Callable[[int], tuple[Tensor, ...]]]]:
        """Return what is to be drawn, in order: names of parameters, and what draws them."""

        def of(name: str) -> Callable[[int], tuple[Tensor, ...]]:
            return lambda channels: (self.p_scale * self._uniform(name, channels),)

        return [((name,), of(name)) for name in self._ranges]

    def _size(self, channels: int, dimensions: int) -> None:
        """Give every parameter that has no size one value a channel, until the first call.

        ``dimensions`` are the neuron dimensions of a sample.
        """
        for names, draw in self._draws():
            for name, values in zip(names, draw(channels), strict=True):
                size_provisionally(self, name, values)
        self._size_updates()
        self.clamp()
        for name in ("norm", "real_norm", "imag_norm"):
            norm: Any = getattr(self, name, None)
            if hasattr(norm, "_size"):
                norm._size(channels)

    def _settle(self, channels: int) -> None:
        """Draw what waits for the first call, in order of registration; see lazy.py."""
        if torch.compiler.is_compiling():
            self._require_sizes()
            if not is_exported():
                self._ranges.clear()
            return
        for names, draw in self._draws():
            own = [self._parameters.get(name) for name in names]
            if any(p is not None and not isinstance(p, torch.nn.Parameter) for p in own):
                continue  # those of torch.func.functional_call
            if all(p is not None and is_to_be_drawn(p) for p in own):
                for name, values in zip(names, draw(channels), strict=True):
                    fill(self, name, values)
            for parameter in (self._parameters.get(name) for name in names):
                if parameter is None:  # computed from another
                    continue
                if parameter.numel() == 1 != channels:  # from a checkpoint
                    resize(parameter, parameter.detach().expand(channels))
                unmark(parameter)
            self._sized(names[0])
        self._size_updates()
        self.clamp()

    def _decays(self) -> tuple[str, ...]:
        """Names of the decay parameters that stay within [0, p_scale] each by itself."""
        return self._learned

    def clamp(self) -> None:
        """Move the parameters back into their range, in place.

        Raises
        ------
        ValueError
            For a parameter that is not finite; on the CPU only, where looking costs nothing.
        """
        for name in self._decays():
            if own_parameter(self, name) is not None:
                confined(self, name, 0, self.p_scale)

    def _used(self, name: str) -> Tensor:
        """Return a decay as forward uses it: see limits.py. Frozen ones stay as they are."""
        value = self._parameters.get(name)
        if value is None:
            value = getattr(self, name)
        if self.requires_grad or value.requires_grad:
            return confined(self, name, 0, self.p_scale)
        require_finite(self, name, value)
        return value

    def _parameters_used(self) -> tuple[Tensor, ...]:
        """Return what forward uses of the parameters, in the order of the kernels."""
        return tuple([self._used(name) for name in self._learned])

    def _clamped(self, name: str) -> Tensor:
        """Return what ``clamp`` would make of a decay; the parameter is not touched."""
        return getattr(self, name).detach().clamp(0, self.p_scale)

    def _quantized(self, name: str) -> np.int64 | np.ndarray:
        """Value of a decay as the chip holds it; the parameter is not touched."""
        value = self._clamped(name).round().cpu().numpy().astype(np.int64)
        return value.reshape(-1)[0] if value.size == 1 else value
