"""What the encoder of a sigma-delta neuron holds: threshold, surrogate gradient, state."""

from typing import Any

import numpy as np
import torch
from lapilli.kernels.numbers.formula import GivenSurrogate

from .errors import flag, require
from .neuron import Neuron


class EncodingNeuron(Neuron):
    """What the encoder of a sigma-delta neuron holds, as attributes of the neuron."""

    delta: Any  # the encoder, a Delta

    @property
    def threshold(self) -> torch.nn.Parameter:
        """Threshold in real units, which is the parameter ``delta.threshold``.

        A number that is set is quantised and written into the parameter, for all channels.
        """
        return self.delta.threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        self._threshold = self.quantize_threshold(threshold)
        self.delta.threshold.data.fill_(self._threshold)
        self.delta.min_threshold = min(self.delta.min_threshold, self._threshold / 2)
        self.clamp()

    @property
    def tau_grad(self) -> float:
        """Width of the surrogate gradient of the threshold, see ``delta.tau_grad``."""
        return self.delta.tau_grad

    @tau_grad.setter
    def tau_grad(self, tau_grad: float) -> None:
        if "delta" in self._modules:
            self.delta.tau_grad = tau_grad

    @property
    def scale_grad(self) -> float:
        """Scale of the surrogate gradient of the threshold, see ``delta.scale_grad``."""
        return self.delta.scale_grad

    @scale_grad.setter
    def scale_grad(self, scale_grad: float) -> None:
        if "delta" in self._modules:
            self.delta.scale_grad = scale_grad

    @property
    def tau_rho(self) -> float:
        """Width of the surrogate gradient times the threshold."""
        return self.tau_grad * self._threshold

    @property
    def scale_rho(self) -> float:
        """Scale of the surrogate gradient."""
        return self.scale_grad

    @property
    def overflow(self) -> None:
        """None, since there are no states that could follow a rule; see ``FixedPointNeuron``."""
        return None

    @overflow.setter
    def overflow(self, overflow: None) -> None:
        require(
            overflow is None,
            f"overflow of a sigma-delta neuron must be None; got {overflow!r}. Its sums are "
            f"float32, and Lava's model of it has no rule for 24 bits. Leave it out.",
        )

    @property
    def surrogate(self) -> str:
        """Name of the shape of the surrogate gradient, see ``delta.surrogate``."""
        return self.delta.surrogate

    @surrogate.setter
    def surrogate(self, surrogate: GivenSurrogate) -> None:
        if "delta" in self._modules:
            self.delta.surrogate = surrogate

    @Neuron.requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        """Whether threshold and bias are learned."""
        set_own: Any = Neuron.requires_grad.fset
        set_own(self, requires_grad)
        if "delta" in self._modules:
            self.delta.requires_grad = requires_grad

    @property
    def persistent_state(self) -> bool:
        """Whether the state is kept from one call to the next; the same for sigma and delta."""
        return self._persistent_state

    @persistent_state.setter
    def persistent_state(self, persistent_state: bool) -> None:
        self._persistent_state = flag("persistent_state", persistent_state)
        for name in ("sigma", "delta"):
            if name in self._modules:
                part: Any = self._modules[name]
                part.persistent_state = self._persistent_state

    @property
    def cum_error(self) -> bool:
        """Whether changes are added up until they are sent, see ``delta.cum_error``."""
        return self.delta.cum_error

    @cum_error.setter
    def cum_error(self, cum_error: bool) -> None:
        self.delta.cum_error = flag("cum_error", cum_error)

    @property
    def v_th_mant(self) -> int | np.ndarray:
        """Threshold in weight units as the chip holds it, an int or int64 ``[channels]``."""
        real = self.threshold.detach().reshape(-1).clamp(min=1 / self.s_scale)
        values = (real * self.w_scale).round().cpu().numpy().astype(np.int64)
        return int(values[0]) if values.size == 1 else values
