"""Gradients of decay parameters: their sign and their reduction.

The recurrences give one partial sum a neuron and sample. Here the partials of the neurons that
share a parameter are added, in an order that does not change from run to run.

lava-dl's gradient of ``current_decay`` and ``voltage_decay`` is that of what remains after a step,
1 - decay, so descending along it moves a decay the wrong way (its issue 383). lapilli's default is
the true direction; ``set_decay_gradient("lava-dl")`` restores the other to reproduce an old run.
"""

import numpy as np
from torch import Tensor

from .dispatch import TILE, define_op, differentiable, run_loop, runs_loops
from .lift import cpu_loop

_LANES = 64  # sums at once of a parameter that several neurons share

_SIGNS = {"descent": -1.0, "lava-dl": 1.0}
_mode = "descent"


def set_decay_gradient(mode: str) -> None:
    """Choose the sign of the gradients of leaky-integrator decays, for networks run from now on.

    Parameters
    ----------
    mode
        ``"descent"`` (default): the true direction, a gradient step lowers the loss.
        ``"lava-dl"``: lava-dl's sign, which is the opposite.

    Raises
    ------
    ValueError
        For any other mode.
    """
    global _mode
    if mode not in _SIGNS:
        raise ValueError(
            f"decay gradient mode is {mode!r}; expected one of {', '.join(map(repr, _SIGNS))}"
        )
    _mode = mode


def decay_gradient() -> str:
    """Return the mode that ``set_decay_gradient`` chose."""
    return _mode


def decay_sign() -> float:
    """Return the factor of the decay gradient in the current mode."""
    return _SIGNS[_mode]


def decay_gradients(
    sign: float, *pairs: tuple[Tensor, Tensor], wanted: bool
) -> tuple[Tensor | None, ...]:
    """Reduce ``(parameter, partials [N, C])`` pairs to gradients of the parameters' shapes."""
    if not wanted:
        return (None,) * len(pairs)
    return tuple(sign * reduce_to(parameter, partials) for parameter, partials in pairs)


@cpu_loop
def _sum_columns_cpu(first, last, partials, sums, N, C):
    total = np.empty(TILE, np.float64)
    for tile in range(first, last):
        c0 = tile * TILE
        c1 = min(c0 + TILE, C)
        total[:] = 0
        for n in range(N):
            row = partials[n, c0:c1]
            for i in range(len(row)):
                total[i] += row[i]
        for i in range(c1 - c0):
            sums[c0 + i] = np.float32(total[i])


@cpu_loop
def _sum_shared_cpu(first, last, partials, sums, N, per):
    total = np.empty(_LANES, np.float64)
    whole = per // _LANES * _LANES
    for c in range(first, last):
        total[:] = 0
        for n in range(N):
            row = partials[n, c * per : (c + 1) * per]
            for i in range(0, whole, _LANES):
                part = row[i : i + _LANES]
                for k in range(_LANES):
                    total[k] += part[k]
            for i in range(whole, per):
                total[i - whole] += row[i]
        together = np.float64(0)
        for k in range(_LANES):
            together += total[k]
        sums[c] = np.float32(together)


@define_op
def sum_of_samples(partials: Tensor, parameters: int) -> Tensor:
    """Add ``[N, C]`` over samples and over the neurons that share each of the parameters.

    On a CPU in float64 and in an order that does not depend on the number of threads.
    """
    N, C = partials.shape
    if not runs_loops(partials) or partials.numel() == 0:
        return partials.view(N, parameters, C // parameters).sum((0, 2))
    sums = partials.new_empty(parameters)
    if parameters == C:
        tiles = -(-C // TILE)
        run_loop(_sum_columns_cpu, tiles, partials.numel(), (partials, sums, N, C))
    else:
        per = C // parameters
        run_loop(_sum_shared_cpu, parameters, partials.numel(), (partials, sums, N, per))
    return sums


def _save(ctx, inputs, output):
    partials, _ = inputs
    ctx.shape = partials.shape


def _backward(ctx, g):
    N, C = ctx.shape
    return g.repeat_interleave(C // g.numel()).expand(N, C), None


differentiable(sum_of_samples, _backward, _save)


def reduce_to(parameter: Tensor, partials: Tensor) -> Tensor:
    """Add ``partials`` [N, C] over samples and over the neurons that share each parameter."""
    return sum_of_samples(partials.contiguous(), parameter.numel()).view(parameter.shape)


__all__ = ["decay_gradient", "decay_gradients", "decay_sign", "reduce_to", "set_decay_gradient"]
