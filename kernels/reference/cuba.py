"""Oracle of the CUBA neuron: the equations of the specification, one step at a time.

The surrogate gradient is autograd's own: a function whose value is the spike and whose derivative
is rho. Decay gradients ignore the initial state, as in lava-dl.
"""

import torch

from . import fixed
from .spike import spike


def _initial(x, scale, state):
    """Return current and voltage before the first step."""
    rest = torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
    return (rest, rest) if state is None else [fixed.to_fixed(s.detach(), scale) for s in state]


def _run(x, decays, threshold, scale, state, rule):
    """Yield current, voltage before and after reset, spike decision of each step.

    States are in units, float64.
    """
    u, w = _initial(x, scale, state)
    v = w
    for t in range(x.shape[-1]):
        rate_u, rate_v = (fixed.per_neuron(fixed.decay_rate(p, learning=t > 0), x) for p in decays)
        rule.t = t
        u = rule.current(fixed.decayed(u, u, rate_u) + rule.given(x[..., t], scale))
        v = rule.state(fixed.decayed(w, v, rate_v) + fixed.between_stages(u, scale))
        if threshold is None:
            fires = torch.zeros_like(v, dtype=torch.bool)
        else:
            fires = v.detach() > round(threshold * scale)
        w = torch.where(fires, 0.0, v.detach())
        yield u, v, w, fires


def cuba(
    x, current_decay, voltage_decay, threshold, scale, *, tau_rho=1.0, scale_rho=1.0,
    surrogate="exponential", graded=False, shift=False, state=None, return_state=False,
    overflow="saturate", count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.cuba.cuba``."""
    x = x.to(torch.float32)
    u, w = _initial(x, scale, state)
    spikes, rule = [], fixed.Rule(overflow)
    decays = fixed.signed(current_decay, voltage_decay)
    steps = _run(x, decays, threshold, scale, state, rule)
    for u, v, w, fires in steps:  # noqa: B007 (read after)
        voltage = fixed.to_float(v, scale)
        limit = threshold + 0.01 / scale
        spikes.append(spike(voltage, fires, limit, tau_rho, scale_rho, graded, surrogate))
    if shift:
        spikes = fixed.later(spikes)
    last = tuple(fixed.to_float(y.detach(), scale) for y in (u, w)) if return_state else None
    return fixed.answer(fixed.over_time(spikes, x, x, *decays), last, rule, count)


def cuba_dynamics(
    x, current_decay, voltage_decay, threshold, scale, *, state=None, overflow="saturate",
    count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.cuba.cuba_dynamics``."""
    x = x.to(torch.float32)
    decays = fixed.signed(current_decay, voltage_decay)
    rule = fixed.Rule(overflow)
    steps = list(_run(x, decays, threshold, scale, state, rule))
    current, voltage = (
        fixed.over_time([fixed.to_float(step[k], scale) for step in steps], x, x, *decays)
        for k in (0, 1)
    )
    return (current, voltage, rule.counted(voltage)) if count else (current, voltage)
