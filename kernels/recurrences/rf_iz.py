"""RF-Izhikevich and ADRF-Izhikevich: resonate-and-fire neurons that spike by their imaginary part.

Equations: resonator_steps.py. A spike of RF-Izhikevich sets the real part to zero and the imaginary
part to one unit below the threshold; in ADRF-Izhikevich it raises the threshold and resets nothing.

Source: lava-dl neuron/rf_iz.py, neuron/adrf_iz.py, neuron/dynamics/adaptive_resonator.py.
"""

from typing import Any

from lapilli.kernels.executors.dispatch import with_reference
from lapilli.kernels.numbers.surrogate import DEFAULT
from torch import Tensor

from .adaptive_threshold import USUAL_THRESHOLD, largest_threshold
from .declared import Recurrence
from .resonator import (
    USUAL_ROTATION,
    Adapted,
    Pair,
    longest_state,
    resonate,
    resonator,
    resonator_states,
)


@with_reference
def rf_iz(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor, threshold: float, scale: int, *,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: Pair | None = None, return_state: bool = False,
    overflow: str = "saturate", count: bool = False,
) -> Any:  # fmt: skip
    """Run RF-Izhikevich neurons over time; their state without spikes is ``resonator``'s.

    Parameters and results are those of ``rf`` in rf.py, with the imaginary part in place of the
    real one in ``threshold`` and ``graded``. The formula of the surrogate gradient is that of
    ``lapilli.kernels.recurrences.cuba.cuba``, with the imaginary part in place of the voltage.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.rf_iz import rf_iz
    >>> sin, cos = torch.tensor([4096.0]), torch.tensor([0.0])  # a quarter turn a step
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> rf_iz((x, 0 * x), sin, cos, threshold=0.5, scale=4096)
    tensor([[[0., 1., 0., 0., 0.]]])
    """
    return resonate(
        x, sin_decay, cos_decay, threshold, scale, phase=False, tau_rho=tau_rho,
        scale_rho=scale_rho, surrogate=surrogate, graded=graded, shift=shift, state=state,
        return_state=return_state, overflow=overflow, count=count,
    )  # fmt: skip


@with_reference
def adrf_iz(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor,
    threshold_decay: Tensor, refractory_decay: Tensor,
    threshold: float, threshold_step: float, scale: int, *,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: Adapted | None = None, return_state: bool = False, count: bool = False,
) -> Any:  # fmt: skip
    """Run ADRF-Izhikevich neurons over time.

    Parameters and results are those of ``adrf`` in rf.py, with the imaginary part in place of the
    real one in ``threshold`` and ``graded``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.rf_iz import adrf_iz
    >>> sin, cos = torch.tensor([4096.0]), torch.tensor([0.0])  # a quarter turn a step
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> half = torch.tensor([2048.0])
    >>> adrf_iz((x, 0 * x), sin, cos, half, half, 0.5, threshold_step=0.5, scale=4096)
    tensor([[[0., 1., 0., 0., 0.]]])
    """
    return resonate(
        x, sin_decay, cos_decay, threshold, scale, phase=False,
        adaptation=(threshold_decay, refractory_decay, threshold_step), tau_rho=tau_rho,
        scale_rho=scale_rho, surrogate=surrogate, graded=graded, shift=shift, state=state,
        return_state=return_state, count=count,
    )  # fmt: skip


@with_reference
def adrf_iz_dynamics(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor,
    threshold_decay: Tensor, refractory_decay: Tensor,
    threshold: float, threshold_step: float, scale: int, *,
    state: Adapted | None = None, count: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return real and imaginary part, threshold and refractory, the last two before the spike.

    All have the shape of each part of ``x``; the first two are differentiable. The parameters are
    those of ``lapilli.kernels.recurrences.rf.adrf``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.rf_iz import adrf_iz_dynamics
    >>> sin, cos = torch.tensor([4096.0]), torch.tensor([0.0])  # a quarter turn a step
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> half = torch.tensor([2048.0])
    >>> states = adrf_iz_dynamics((x, 0 * x), sin, cos, half, half, 0.5, 0.5, scale=4096)
    >>> real, imag, threshold, refractory = states
    >>> threshold
    tensor([[[0.5000, 0.5000, 0.7500, 0.6250, 0.5625]]])
    """
    return resonator_states(
        x, sin_decay, cos_decay, threshold, scale, phase=False,
        adaptation=(threshold_decay, refractory_decay, threshold_step), state=state, count=count,
    )  # fmt: skip


RF_IZ = Recurrence(rf_iz, resonator, kept=(4, 8), growth=longest_state, usual=USUAL_ROTATION)
ADRF_IZ = Recurrence(
    adrf_iz, adrf_iz_dynamics, kept=(4, 12), resets=False,
    growth=largest_threshold, usual=USUAL_ROTATION | USUAL_THRESHOLD,
)  # fmt: skip
