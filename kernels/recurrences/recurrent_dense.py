"""Recurrent layers backward with one matrix product a step, and how far feedback is limited.

Equations: recurrent_steps.py.
"""

import functools
from typing import cast

import torch
from lapilli.kernels.executors.dispatch import has_no_memory
from lapilli.kernels.executors.precision import true_float32
from lapilli.kernels.executors.workers import in_one_order
from lapilli.kernels.numbers.fixed_point import DECAY_SCALE
from torch import Tensor

from .cuba import cuba_step_dynamics_bwd
from .recurrent_steps import limited
from .resonator_steps import rotate_bwd

LOOP_GAIN = 0.5  # the most that "bounded" lets go round, see recurrent_steps.py


def _fractions(decays: list[Tensor], neurons: int, turns: bool) -> list[Tensor]:
    """Return what a gradient keeps a step, or sine and cosine, as fractions of 1 a neuron."""
    rounded = [d.detach().round().clamp(0, DECAY_SCALE) / DECAY_SCALE for d in decays]
    each = [d.repeat_interleave(neurons // d.numel()) for d in rounded]
    return each if turns else [1 - d for d in each]


_TINY = 1e-30  # in place of 0 where 0 / 0 threatens
_TURNS = (0.0, 1.0, 2.4, 3.9)  # of the vectors that find the spectral norm
_REPEATS = 6


@functools.lru_cache(maxsize=64)
def _first_vectors(neurons: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the vectors that find a spectral norm, kept: a copy to a device waits for it.

    They have the same bits on every device.
    """
    with torch.inference_mode(False):
        count = torch.arange(1, neurons + 1, dtype=torch.float64, device="cpu")
        turns = torch.tensor(_TURNS, dtype=torch.float64, device="cpu")
        return torch.cos(count[:, None] * turns).to(dtype).to(device)


def _spectral_norm(parts: list[Tensor]) -> Tensor:
    """Return the spectral norm of matrices one below the other, by power iteration.

    Four vectors, 1 and cosines, are multiplied six times. That comes within a few percent from
    below, at the price of a step of the layer.
    """
    first = parts[0]
    find = _first_vectors.__wrapped__ if has_no_memory(first) else _first_vectors
    v = find(first.shape[1], first.dtype, first.device)
    square = v.new_zeros(())
    for _ in range(_REPEATS):
        v = v / v.norm(dim=0).clamp(min=_TINY)
        v = cast(Tensor, sum(torch.mm(r.t(), torch.mm(r, v)) for r in parts))
        square = v.norm(dim=0).max()
    return square.sqrt()


def room_for(feedback: list[Tensor | None], decays: list[Tensor], neurons: int) -> Tensor:
    """Return the slope that feedback may meet, one value a neuron, see recurrent_steps.py."""
    turns = len(feedback) == 2
    a, b = _fractions(decays, neurons, turns)
    memory = 1 - torch.sqrt(a * a + b * b) if turns else (1 - a) * (1 - b)
    with true_float32(a.device, "matmul"), in_one_order(a.device):
        norm = _spectral_norm([r for r in feedback if r is not None])
    return (LOOP_GAIN * memory / norm.clamp(min=_TINY)).clamp(min=_TINY)


def backward(
    g: Tensor, feedback: list[Tensor | None], slope: list[Tensor], series: list[Tensor],
    decays: list[Tensor], gx: list[Tensor], partials: list[Tensor], room: Tensor | None,
    phase: bool, shift: bool, full: bool,
) -> None:  # fmt: skip
    """Go back over the steps with one matrix product each; nothing waits for a device.

    ``feedback`` and ``gx`` have an entry for each part; ``slope`` has one, with ``phase`` two.
    """
    N, T, C = g.shape
    turns = len(gx) == 2
    rows = [y.unbind(1) for y in gx]
    slope_rows = [f.unbind(1) for f in slope]
    series_rows = [y.unbind(1) for y in series]
    g_rows = g.unbind(1)[1:] if shift else g.unbind(1)
    fed = [(r, part) for r, part in zip(feedback, rows, strict=True) if r is not None]
    rates = _fractions(decays, C, turns) if full else []
    g_s, zero = g.new_zeros(N, C), g.new_zeros(())
    carried = g.new_zeros(N, C), g.new_zeros(N, C)
    for unused in (*partials, *gx[: len(gx) - len(slope)]):
        unused.zero_()
    for t in range(T - 1, -1, -1):
        if t < T - 1:
            torch.mm(fed[0][1][t + 1], fed[0][0], out=g_s)
            for r, part in fed[1:]:
                g_s.addmm_(part[t + 1], r)
            if room is not None:
                size = sum(f[t].abs() for f in slope_rows)
                g_s.copy_(limited.fn(g_s, size, room))
        if t < len(g_rows):
            g_s += g_rows[t]
        if not full:
            for f, part in zip(slope_rows, rows[-len(slope) :], strict=True):
                torch.mul(g_s, f[t], out=part[t])
            continue
        if partials:  # carried still belongs to the step after
            (g_a, g_b), (a, b) = carried, (y[t] for y in series_rows)
            terms = _terms(g_a, g_b, a, b, turns)
            for partial, term in zip(partials, terms, strict=True):
                partial += term
        d = [f[t] * g_s for f in slope_rows]
        if turns:
            carried = rotate_bwd.fn(*carried, *rates, *(d if phase else (zero, *d)))
            rows[0][t].copy_(carried[0])
            rows[1][t].copy_(carried[1])
        else:
            carried = cuba_step_dynamics_bwd.fn(*carried, *d, zero, *rates)
            rows[0][t].copy_(carried[1])
    if turns and not phase and not full:  # nothing, but where the gradient is not a number
        torch.sub(gx[1], gx[1], out=gx[0])


def _terms(g_a: Tensor, g_b: Tensor, a: Tensor, b: Tensor, turns: bool) -> tuple[Tensor, Tensor]:
    """Return what one step adds to the gradients of the two decays."""
    if turns:
        return g_b * a - g_a * b, g_a * a + g_b * b
    return g_b * a, g_a * b
