"""Fixed-point pieces of the oracles, in float64: int32 and 12-bit products are exact there.

Straight-through functions give their argument's gradient whatever they do to its value. What is not
a number passes through all of them; what does not fit saturates at MOST.
"""

from typing import Any

import torch
from lapilli.kernels.recurrences.decays import decay_gradient
from torch import Tensor

MOST = 2**31 - 128  # the largest float32 that an int32 holds


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, gradient_of):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None, gradient


def straight_through(value: Tensor, gradient_of: Tensor) -> Tensor:
    """Return ``value``, of the shape of ``gradient_of``, with its gradient."""
    return _StraightThrough.apply(value.detach(), gradient_of)


class _Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        ctx.save_for_backward(y)
        return torch.zeros((), dtype=torch.float64, device=y.device)

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(ctx.saved_tensors[0])


def nothing_of(y: Tensor) -> Tensor:
    """Return a zero, float64, that gives ``y`` a gradient of zero, whatever its values are."""
    return _Nothing.apply(y)


def over_time(frames: list[Tensor], like: Tensor, *given: Tensor) -> Tensor:
    """Stack the frames ``[N, neurons...]`` of all steps, float32; without steps ``like`` has none.

    What is ``given`` has a gradient, also where it cannot matter: zero.
    """
    out = torch.stack(frames, -1) if frames else like.detach().to(torch.float32)
    for y in given:
        out = out + nothing_of(y).to(torch.float32)
    return out


def later(frames: list[Tensor]) -> list[Tensor]:
    """Move frames to later times by one step, with zeros in front."""
    return [torch.zeros_like(frames[0]), *frames[:-1]] if frames else []


def saturated(units: Tensor) -> Tensor:
    """Keep a state within its range; its gradient knows nothing of that."""
    return straight_through(units.clamp(-MOST, MOST), units)


class Rule:
    """What becomes of sums that do not fit a state, and how many steps of a neuron had one.

    ``t`` is the step that the sums belong to; whoever computes one sets it.
    """

    def __init__(self, overflow: str):
        self.overflow, self.t = overflow, 0
        self._lost: dict[int, Tensor] = {}

    def _noted(self, units: Tensor, first_misfit: int) -> Tensor:
        lost = units.detach().abs() >= first_misfit
        self._lost[self.t] = self._lost[self.t] | lost if self.t in self._lost else lost
        return units

    def given(self, x: Tensor, scale: float) -> Tensor:
        """Make an input a state."""
        return self._noted(to_fixed(x, scale), MOST)

    def wide(self, units: Tensor) -> Tensor:
        """Make a sum what 32 bits hold, whatever the rule."""
        return saturated(self._noted(units, MOST))

    def current(self, units: Tensor) -> Tensor:
        """Make a sum a current: on the chip it comes round from the other end, once."""
        if self.overflow == "saturate":
            return self.wide(units)
        y = self._noted(units, 2**23).detach().clamp(-MOST, MOST)
        y = torch.where(y > 2**23, y - 2**24, torch.where(y <= -(2**23), y + 2**24, y))
        return straight_through(y, units)

    def state(self, units: Tensor) -> Tensor:
        """Make a sum another state: on the chip it stays at the limit of 24 bits."""
        if self.overflow == "saturate":
            return self.wide(units)
        most = 2**23 - 1
        return straight_through(self._noted(units, most + 1).clamp(-most, most), units)

    def counted(self, series: Tensor) -> Tensor:
        """Return how many steps of each neuron of ``[N, neurons..., T]`` did not fit, int32."""
        count = torch.zeros(series.shape[:-1], dtype=torch.int32, device=series.device)
        return sum(self._lost.values(), start=count)


def units(value: float, scale: float) -> int:
    """Nearest state to a real number."""
    return max(-MOST, min(round(value * scale), MOST))


def to_fixed(x: Tensor, scale: float) -> Tensor:
    """Float input to integer state: one float32 product, then truncation."""
    product = x.to(torch.float32) * torch.tensor(scale, dtype=torch.float32)
    units = x.to(torch.float64) * scale
    return straight_through(product.detach().to(torch.float64).trunc().clamp(-MOST, MOST), units)


def to_float(y: Tensor, scale: float) -> Tensor:
    """Integer state to float32: rounded to float32, then one float32 division."""
    rounded = y.detach().to(torch.float32) / torch.tensor(scale, dtype=torch.float32)
    return straight_through(rounded.to(torch.float64), y / scale).to(torch.float32)


def between_stages(y: Tensor, scale: float) -> Tensor:
    """Hand a state to the next stage: as float32 unless the scale is a power of two."""
    if scale == 2 ** round(torch.tensor(scale).log2().item()):
        return y
    return straight_through(to_fixed(to_float(y, scale), scale), y)


def decay_rate(parameter: Tensor, learning: bool) -> Tensor:
    """Round a decay to [0, 4096]; its gradient is taken per unit of decay / 4096.

    One that is not finite is not a number.
    """
    given = parameter.detach().to(torch.float64)
    rounded = torch.where(given.isfinite(), given.round().clamp(0, 4096), torch.nan)
    if not learning:
        return rounded
    real = parameter.to(torch.float64) * 4096
    return straight_through(rounded, real)


def decayed(after: Tensor, before: Tensor, rate: Tensor) -> Tensor:
    """``trunc(after * (4096 - rate) / 4096)``, with the gradient of ``before`` decaying.

    ``before`` is the state before its reset: the reset is not differentiated.
    """
    kept = (after.detach() * (4096 - rate.detach()) / 4096).trunc()
    return straight_through(kept, before * (4096 - rate) / 4096)


def per_neuron(parameter: Tensor, x: Tensor) -> Tensor:
    """Shape a ``[1]`` or ``[channels]`` parameter to broadcast against ``[N, channels, ...]``."""
    return parameter.view(1, -1, *(1,) * (x.ndim - 3))


def signed(*decays: Tensor) -> tuple[Tensor, ...]:
    """Turn the gradient of the decays round where lava-dl's sign is asked for."""
    if decay_gradient() == "descent":
        return decays
    return tuple(2 * d.detach() - d for d in decays)


def answer(out: Tensor, last: Tensor | tuple[Tensor, ...] | None, rule: Rule, count: bool) -> Any:
    """Return an output, with the states after the last step and the count where they are wanted."""
    found = [out, *([] if last is None else [last]), *([rule.counted(out)] if count else [])]
    return tuple(found) if len(found) > 1 else out
