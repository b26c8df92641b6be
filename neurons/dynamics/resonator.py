"""Resonator as a function. Equations: kernels/recurrences/resonator_steps.py.

Source: lava-dl neuron/dynamics/resonator.py.
"""

from lapilli.kernels.recurrences.resonator import resonator
from torch import Tensor

from .series import after_spike, run


def dynamics(
    real_input: Tensor,
    imag_input: Tensor,
    sin_decay: Tensor,
    cos_decay: Tensor,
    real_state: Tensor,
    imag_state: Tensor,
    w_scale: int,
    threshold: float | None = None,
    debug: bool = False,
) -> tuple[Tensor, Tensor]:
    """Turn and shrink a complex state over time.

    Parameters
    ----------
    real_input, imag_input
        ``[..., T]``, real units.
    sin_decay, cos_decay
        Sine and cosine of a step's turn times what is kept of the length, 0..4096; one value, or
        one a channel.
    real_state, imag_state
        State before the first step; one value, or one a neuron. Not differentiated.
    w_scale
        Number of state units in a value of 1.
    threshold
        After a step whose imaginary part reaches it, the state returns to zero and to one unit
        below the threshold; None or a negative one leaves the reset out.
    debug
        Not used.

    Returns
    -------
    tuple of Tensor
        Real and imaginary part before each reset, of the shape of the inputs.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> pulse = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    >>> quarter, none = torch.tensor([4096.0]), torch.tensor([0.0])  # of a turn a step
    >>> rest = torch.zeros(1)
    >>> slayer.neuron.dynamics.resonator.dynamics(
    ...     pulse, 0 * pulse, quarter, none, rest, rest, w_scale=4096
    ... )
    (tensor([[[ 1.,  0., -1.,  0.]]]), tensor([[[ 0.,  1.,  0., -1.]]]))
    """
    if threshold is not None and threshold < 0:
        threshold = None

    def kernel(inputs, decays, states):
        sin, cos = decays
        return resonator(inputs, sin, cos, w_scale, threshold=threshold, state=states)

    real, imag = run(
        kernel, (real_input, imag_input), (sin_decay, cos_decay), (real_state, imag_state)
    )
    return real, imag


def persistent_real_state(real_state: Tensor, spike: Tensor) -> Tensor:
    """Real part from which the next call starts: zero where the last step spiked.

    Parameters
    ----------
    real_state
        Last step of ``dynamics``.
    spike
        Spikes of that step.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.neuron.dynamics.resonator.persistent_real_state(
    ...     torch.tensor([0.75, 2.0]), spike=torch.tensor([0.0, 1.0])
    ... )
    tensor([0.7500, 0.0000])
    """
    return after_spike(real_state, spike, 0.0)


def persistent_imag_state(
    imag_state: Tensor, spike: Tensor, threshold: float, scale: int
) -> Tensor:
    """Imaginary part from which the next call starts: below the threshold after a spike.

    Parameters
    ----------
    imag_state
        Last step of ``dynamics``.
    spike
        Spikes of that step.
    threshold
        Threshold, real units.
    scale
        Number of state units in a value of 1; the state is one unit below the threshold.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.neuron.dynamics.resonator.persistent_imag_state(
    ...     torch.tensor([0.75, 2.0]), torch.tensor([0.0, 1.0]), threshold=1.0, scale=4
    ... )
    tensor([0.7500, 0.7500])
    """
    return after_spike(imag_state, spike, threshold - 1 / scale)
