"""RF and ADRF: resonate-and-fire neurons that spike by phase. Equations: resonator_steps.py.

The real part must reach the threshold while the imaginary part turns from below zero to zero or
above, once a period. In RF nothing is reset; in ADRF each spike raises the threshold.

Source: lava-dl neuron/rf.py, neuron/adrf.py.
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
def rf(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor, threshold: float, scale: int, *,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: Pair | None = None, return_state: bool = False,
    overflow: str = "saturate", count: bool = False,
) -> Any:  # fmt: skip
    """Run RF neurons over time; their state without spikes is ``resonator``'s.

    Parameters and results are as for ``lapilli.kernels.recurrences.cuba.cuba``, with the real part
    in place of the voltage, but for these.

    Parameters
    ----------
    x
        Weighted input, real and imaginary part, each ``[N, neurons..., T]``, in real units (1 is
        ``scale`` state units).
    sin_decay, cos_decay
        ``[1]``, or one value a channel (dimension 1 of ``x``), 0..4096; rounded when used.
    threshold
        Real part that spikes, a multiple of ``1 / scale``.
    tau_rho, scale_rho
        Width and height of the surrogate gradient, both above 0; the formula, of two parts, is at
        the end of ``lapilli.kernels.numbers.surrogate``.
    state
        Real and imaginary part ``[N, neurons...]`` before the first step; zeros if None. No
        gradient flows into it.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.rf import rf
    >>> sin, cos = torch.tensor([4096.0]), torch.tensor([0.0])  # a quarter turn a step
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> rf((x, 0 * x), sin, cos, threshold=0.5, scale=4096)  # once a turn
    tensor([[[0., 0., 0., 0., 1.]]])
    """
    return resonate(
        x, sin_decay, cos_decay, threshold, scale, phase=True, tau_rho=tau_rho,
        scale_rho=scale_rho, surrogate=surrogate, graded=graded, shift=shift, state=state,
        return_state=return_state, overflow=overflow, count=count,
    )  # fmt: skip


@with_reference
def adrf(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor,
    threshold_decay: Tensor, refractory_decay: Tensor,
    threshold: float, threshold_step: float, scale: int, *,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: Adapted | None = None, return_state: bool = False, count: bool = False,
) -> Any:  # fmt: skip
    """Run ADRF neurons over time.

    Parameters are those of ``rf``, but for these.

    Parameters
    ----------
    threshold_decay, refractory_decay
        Of the size of ``sin_decay``, 0..4096; they get a gradient of zero.
    threshold
        Threshold at rest.
    threshold_step
        What a spike adds to the threshold, a multiple of ``1 / scale``.
    state
        Real and imaginary part, threshold and refractory; rest if None.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.rf import adrf
    >>> sin, cos = torch.tensor([4096.0]), torch.tensor([0.0])  # a quarter turn a step
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> half = torch.tensor([2048.0])
    >>> adrf((x, 0 * x), sin, cos, half, half, 0.5, threshold_step=0.5, scale=4096)
    tensor([[[0., 0., 0., 0., 1.]]])
    """
    return resonate(
        x, sin_decay, cos_decay, threshold, scale, phase=True,
        adaptation=(threshold_decay, refractory_decay, threshold_step), tau_rho=tau_rho,
        scale_rho=scale_rho, surrogate=surrogate, graded=graded, shift=shift, state=state,
        return_state=return_state, count=count,
    )  # fmt: skip


@with_reference
def adrf_dynamics(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor,
    threshold_decay: Tensor, refractory_decay: Tensor,
    threshold: float, threshold_step: float, scale: int, *,
    state: Adapted | None = None, count: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return real and imaginary part, threshold and refractory, the last two before the spike.

    All have the shape of each part of ``x``; the first two are differentiable. The parameters are
    those of ``adrf``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.rf import adrf_dynamics
    >>> sin, cos = torch.tensor([4096.0]), torch.tensor([0.0])  # a quarter turn a step
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> half = torch.tensor([2048.0])
    >>> states = adrf_dynamics((x, 0 * x), sin, cos, half, half, 0.5, 0.5, scale=4096)
    >>> real, imag, threshold, refractory = states
    >>> threshold
    tensor([[[0.5000, 0.5000, 0.5000, 0.5000, 0.5000]]])
    """
    # detached: in lava-dl it is the spike that gives these two their gradients of zero
    adaptation = threshold_decay.detach(), refractory_decay.detach(), threshold_step
    return resonator_states(
        x, sin_decay, cos_decay, threshold, scale, phase=True, adaptation=adaptation, state=state,
        count=count,
    )  # fmt: skip


RF = Recurrence(
    rf, resonator, kept=(8, 8), resets=False, growth=longest_state, usual=USUAL_ROTATION
)
ADRF = Recurrence(
    adrf, adrf_dynamics, kept=(8, 12), resets=False,
    growth=largest_threshold, usual=USUAL_ROTATION | USUAL_THRESHOLD,
)  # fmt: skip
