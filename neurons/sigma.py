"""Sigma: running sum over time, the dendrite of sigma-delta networks.

Equations: kernels/recurrences/sigma.py.

Source: lava-dl dendrite/sigma.py.
"""

from typing import Any

from lapilli.kernels.recurrences import sigma as kernel
from torch import Tensor

from .state import Stateful, state_value

__all__ = ["Sigma"]


class Sigma(Stateful):
    """Add up the input over time.

    Input and output are ``[N, neurons..., T]`` float32 with at least three dimensions; half
    precision and integers are converted.

    Parameters
    ----------
    persistent_state
        Continue the sum from one call to the next (detached), from one batch of training to the
        next too: call ``lapilli.reset_state(net)`` between samples. A change of batch size starts
        anew, and so does ``reset_state()``.

    Attributes
    ----------
    pre_state : Tensor
        Sum after the last call where it persists; not in the state dict.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.dendrite.Sigma()(torch.tensor([[[0.0, 0.5, 0.0, -0.25]]]))
    tensor([[[0.0000, 0.5000, 0.5000, 0.2500]]])
    """

    pre_state: Tensor = state_value("pre_state", "Sum that the last call left.")

    def __init__(self, persistent_state: bool = False):
        super().__init__(persistent_state)
        self._add_states(pre_state=0)

    @property
    def device_params(self) -> dict[str, Any]:
        """Parameters as the chip holds them."""
        return {"type": "SDNN", "sigma_output": True}

    def forward(self, input: Tensor) -> Tensor:
        """Return the running sum of ``input`` over its last dimension."""
        self._check(input)
        state, keeps = self._state(input.shape[0]), self._keeps(input)
        y: Any = kernel.sigma(input, state=state and state[0], return_state=keeps)
        if keeps:
            y, last = y
            self._keep_state(pre_state=last)
        return y
