"""Oracle of the leaky integrator: the equations of the specification, one step at a time."""

import torch

from . import fixed
from .spike import spike


def _run(x, decay, scale, threshold, state, rule, is_current=False):
    """Yield the state before the reset, after it, and the spike decision of each step."""
    (decay,) = fixed.signed(decay)
    if state is None:
        w = torch.zeros(x[..., 0].shape, dtype=torch.float64, device=x.device)
    else:
        w = fixed.to_fixed(state.detach(), scale)
    y = w
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
    rule = fixed.Rule(overflow)
    steps = _run(x.to(torch.float32), decay, scale, threshold, state, rule, is_current)
    out = torch.stack([fixed.to_float(y, scale) for y, _, _ in steps], -1)
    return fixed.answer(out, None, rule, count)


def leaky_spike(
    x, decay, threshold, scale, *, tau_rho=1.0, scale_rho=1.0,
    surrogate="exponential", graded=False, shift=False, state=None, return_state=False,
    overflow="saturate", count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.leaky.leaky_spike``."""
    rule = fixed.Rule(overflow)
    steps = list(_run(x.to(torch.float32), decay, scale, threshold, state, rule))
    limit = threshold + 0.01 / scale
    spikes = [
        spike(fixed.to_float(y, scale), fires, limit, tau_rho, scale_rho, graded, surrogate)
        for y, _, fires in steps
    ]
    if shift:
        spikes = [torch.zeros_like(spikes[0]), *spikes[:-1]]
    last = fixed.to_float(steps[-1][1].detach(), scale) if return_state else None
    return fixed.answer(torch.stack(spikes, -1), last, rule, count)
