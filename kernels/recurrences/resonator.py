"""Resonators: what RF, RF-Izhikevich, ADRF and ADRF-Izhikevich neurons call.

Equations and step functions: resonator_steps.py. Kernels and operators: resonator_kernels.py. The
functions of the neurons: rf.py and rf_iz.py; ``resonator`` here gives the state without spikes.
"""

from typing import Any

from torch import Tensor

from lapilli.kernels.toolkit import (  # isort: skip
    DEFAULT, NEVER, complex_surrogate_constants, from_rows, from_state_rows, is_learned, results,
    rule_of, state_rows, surrogate_constants, to_rows, units_of, with_reference,
)  # fmt: skip

from .adaptive_threshold import NO_CHIP_RULE
from .resonator_kernels import resonator_fwd

Pair = tuple[Tensor, Tensor]  # real and imaginary part
Adapted = tuple[Tensor, Tensor, Tensor, Tensor]  # both parts, threshold and refractory
Adaptation = tuple[Tensor, Tensor, float]  # threshold decay, refractory decay, threshold step


USUAL_ROTATION = {"sin_decay": 400, "cos_decay": 4000, "threshold": 1.0, "scale": 4096}


def longest_state(steps: int) -> float:
    """How large a state can grow in so many steps of inputs up to 1."""
    return 8 * (steps + 1)


def _run(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor, adaptation: Adaptation | None, theta: int,
    scale: int, phase: bool, state: tuple[Tensor, ...] | None, spiking: bool = False,
    final: bool = False, graded: bool = False, shift: bool = False,
    surrogate: tuple[Any, ...] = (0.0, 0.0, 0.0, 0.0, DEFAULT),
    overflow: str = "saturate", count: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Call the operator; ``surrogate`` is threshold, height, excess, rate and name."""
    if adaptation is not None and overflow == "loihi":
        raise ValueError(NO_CHIP_RULE)
    threshold_decay, refractory_decay, step = adaptation or (None, None, 0)
    initial = tuple(map(state_rows, state or ()))
    learning = is_learned(sin_decay, cos_decay)
    save = spiking and is_learned(*x, sin_decay, cos_decay)
    return resonator_fwd(
        *map(to_rows, x), sin_decay, cos_decay, threshold_decay, refractory_decay,
        *initial, *(None,) * (4 - len(initial)), scale, theta, units_of(step, scale), phase,
        spiking, save, learning, final, graded, shift, *surrogate, rule_of(overflow), count,
    )  # fmt: skip


def resonate(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor, threshold: float, scale: int, *,
    phase: bool, adaptation: Adaptation | None = None,
    tau_rho: float = 1.0, scale_rho: float = 1.0, surrogate: str = DEFAULT,
    graded: bool = False, shift: bool = False,
    state: tuple[Tensor, ...] | None = None, return_state: bool = False,
    overflow: str = "saturate", count: bool = False,
) -> Any:  # fmt: skip
    """Run one of the four neurons; see rf.py and rf_iz.py."""
    if phase:
        height, excess, rate = complex_surrogate_constants(tau_rho, scale_rho, graded, surrogate)
    else:
        height, rate = surrogate_constants(tau_rho, scale_rho, graded, surrogate)
        excess = 0.0
    spikes, _, _, _, _, _, *last, misfits = _run(
        x, sin_decay, cos_decay, adaptation, units_of(threshold, scale), scale, phase, state,
        True, return_state, graded, shift, (threshold, height, excess, rate, surrogate),
        overflow, count,
    )  # fmt: skip
    spikes = from_rows(spikes, x[0].shape[1:-1])
    states = None
    if return_state:
        used = last[: 2 if adaptation is None else 4]
        states = tuple([from_state_rows(s, x[0]) for s in used])
    return results(spikes, states, from_state_rows(misfits, x[0]) if count else None)


def resonator_states(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor, threshold: float | None, scale: int, *,
    phase: bool, adaptation: Adaptation | None = None, state: tuple[Tensor, ...] | None = None,
    overflow: str = "saturate", count: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the states of one of the four neurons, before any reset, each of the shape of ``x``.

    They are real and imaginary part and, with ``adaptation``, threshold and refractory; with
    ``count`` also how many steps of each neuron did not fit.
    """
    theta = NEVER if threshold is None else units_of(threshold, scale)
    _, real, imag, _, *thresholds, misfits = _run(
        x, sin_decay, cos_decay, adaptation, theta, scale, phase, state, overflow=overflow,
        count=count,
    )  # fmt: skip
    rows = (real, imag, *(() if adaptation is None else thresholds[:2]))
    states = tuple(from_rows(s, x[0].shape[1:-1]) for s in rows)
    return (*states, from_state_rows(misfits, x[0])) if count else states


@with_reference
def resonator(
    x: Pair, sin_decay: Tensor, cos_decay: Tensor, scale: int, *,
    threshold: float | None = None, state: Pair | None = None,
    overflow: str = "saturate", count: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Turn the state over time and return it before each reset, real and imaginary part.

    Parameters
    ----------
    x
        Real and imaginary input, each ``[N, neurons..., T]``, in real units (1 is ``scale`` state
        units).
    sin_decay, cos_decay
        ``[1]``, or one value a channel (dimension 1 of ``x``), 0..4096; rounded when used.
    scale
        Number of state units in a value of 1.
    threshold
        After a step whose imaginary part reaches it, the state returns to zero and to one unit
        below the threshold; None leaves the reset out.
    state
        Real and imaginary part ``[N, neurons...]`` before the first step; zeros if None. Not
        differentiated.
    overflow, count
        See ``lapilli.kernels.recurrences.cuba.cuba``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.resonator import resonator
    >>> sin, cos = torch.tensor([4096.0]), torch.tensor([0.0])  # a quarter turn a step
    >>> x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    >>> real, imag = resonator((x, 0 * x), sin, cos, scale=4096)
    >>> real
    tensor([[[ 1.,  0., -1.,  0.,  1.]]])
    """
    return resonator_states(
        x, sin_decay, cos_decay, threshold, scale, phase=False, state=state, overflow=overflow,
        count=count,
    )  # fmt: skip
