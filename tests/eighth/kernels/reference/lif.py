"""Oracle of the LIF neuron: its equations, one step at a time."""

import torch

from . import fixed
from .spike import spike


def _run(x, voltage_decay, threshold, scale, state, rule):
    """Return the voltage before the reset and the spike decision of each step, and the state after.

    In units, float64.
    """
    (decay,) = fixed.signed(voltage_decay)
    w = torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
    v = w = w if state is None else fixed.to_fixed(state.detach(), scale)
    steps = []
    for t in range(x.shape[-1]):
        rate = fixed.per_neuron(fixed.decay_rate(decay, learning=t > 0), x)
        rule.t = t
        v = rule.state(fixed.decayed(w, v, rate) + rule.given(x[..., t], scale))
        fires = v.detach() > (torch.inf if threshold is None else round(threshold * scale))
        w = torch.where(fires, 0.0, v.detach())
        steps.append((v, fires))
    return steps, w


def lif(
    x, voltage_decay, threshold, scale, *, tau_rho=1.0, scale_rho=1.0, surrogate="exponential",
    graded=False, shift=False, state=None, return_state=False, count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.lif.lif``."""
    rule, x = fixed.Rule("saturate"), x.to(torch.float32)
    steps, after = _run(x, voltage_decay, threshold, scale, state, rule)
    limit = threshold + 0.01 / scale
    spikes = [
        spike(fixed.to_float(v, scale), fires, limit, tau_rho, scale_rho, graded, surrogate)
        for v, fires in steps
    ]
    if shift:
        spikes = fixed.later(spikes)
    last = fixed.to_float(after.detach(), scale) if return_state else None
    return fixed.answer(fixed.over_time(spikes, x, x, voltage_decay), last, rule, count)


def lif_dynamics(x, voltage_decay, threshold, scale, *, state=None, count=False):
    """See ``lapilli.kernels.recurrences.lif.lif_dynamics``."""
    rule, x = fixed.Rule("saturate"), x.to(torch.float32)
    steps, _ = _run(x, voltage_decay, threshold, scale, state, rule)
    voltages = fixed.over_time([fixed.to_float(v, scale) for v, _ in steps], x, x, voltage_decay)
    return fixed.answer(voltages, None, rule, count)
