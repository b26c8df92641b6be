"""Oracle of the leaky integrator: the equations of the specification, one step at a time."""

import torch

from . import fixed
from .spike import spike


def _initial(x, scale, state):
    """Return the state before the first step."""
    if state is None:
        return torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
    return fixed.to_fixed(state.detach(), scale)


def _run(x, decay, scale, threshold, state, rule, is_current=False):
    """Yield the state before the reset, after it, and the spike decision of each step."""
    (decay,) = fixed.signed(decay)
    y = w = _initial(x, scale, state)
    for t in range(x.shape[-1]):
        rate = fixed.per_neuron(fixed.decay_rate(decay, learning=t > 0), x)
        rule.t = t
        y = fixed.decayed(w, y, rate) + rule.given(x[..., t], scale)
        y = rule.current(y) if is_current else rule.state(y)
        if threshold is None:
            fires = torch.zeros_like(y, dtype=torch.bool)
        else:
            fires = y.detach() > round(threshold * scale)
        w = torch.where(fires, 0.0, y.detach())
        yield y, w, fires


def leaky(
    x, decay, scale, *, threshold=None, state=None, is_current=False, overflow="saturate",
    count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.leaky.leaky``."""
    rule, x = fixed.Rule(overflow), x.to(torch.float32)
    steps = _run(x, decay, scale, threshold, state, rule, is_current)
    out = fixed.over_time([fixed.to_float(y, scale) for y, _, _ in steps], x, x, decay)
    return fixed.answer(out, None, rule, count)


def leaky_spike(
    x, decay, threshold, scale, *, tau_rho=1.0, scale_rho=1.0,
    surrogate="exponential", graded=False, shift=False, state=None, return_state=False,
    overflow="saturate", count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.leaky.leaky_spike``."""
    rule, x = fixed.Rule(overflow), x.to(torch.float32)
    steps = list(_run(x, decay, scale, threshold, state, rule))
    limit = threshold + 0.01 / scale
    spikes = [
        spike(fixed.to_float(y, scale), fires, limit, tau_rho, scale_rho, graded, surrogate)
        for y, _, fires in steps
    ]
    if shift:
        spikes = fixed.later(spikes)
    after = steps[-1][1].detach() if steps else _initial(x, scale, state)
    last = fixed.to_float(after, scale) if return_state else None
    return fixed.answer(fixed.over_time(spikes, x, x, decay), last, rule, count)
