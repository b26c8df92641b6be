"""Oracle of the ALIF neuron: two leaky integrators and an adaptive threshold, one step at a time.

The surrogate gradient is autograd's own: a function whose value is the spike and whose derivative
is rho. Decay gradients ignore the initial state, as in lava-dl.
"""

import torch

from . import fixed
from .adaptive_threshold import adapt, decided
from .spike import spike


def _integrate(x, current_decay, voltage_decay, scale, state, rule):
    """Return current and voltage of every step, and the last ones; units (float64), differentiable.

    Without steps the last ones are those before the first.
    """
    current_decay, voltage_decay = fixed.signed(current_decay, voltage_decay)
    x = x.to(torch.float32)
    rest = torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
    u, v = (rest, rest) if state is None else (fixed.to_fixed(s.detach(), scale) for s in state[:2])
    steps = []
    for t in range(x.shape[-1]):
        rate_u, rate_v = (
            fixed.per_neuron(fixed.decay_rate(p, learning=t > 0), x)
            for p in (current_decay, voltage_decay)
        )
        rule.t = t
        u = rule.current(fixed.decayed(u, u, rate_u) + rule.given(x[..., t], scale))
        v = rule.state(fixed.decayed(v, v, rate_v) + fixed.between_stages(u, scale))
        steps.append((u, v))
    return steps, (u, v)


def _adapted(steps, x, threshold_decay, refractory_decay, threshold, step, scale, state, rule):
    tested = [fixed.between_stages(v.detach(), scale) for _, v in steps]
    return adapt(
        lambda t, limit: decided(tested[t], limit),
        x, threshold_decay, refractory_decay, threshold, step, scale, state and state[2:], rule,
    )  # fmt: skip


def alif(
    x, current_decay, voltage_decay, threshold_decay, refractory_decay, threshold, threshold_step,
    scale, *, tau_rho=1.0, scale_rho=1.0, surrogate="exponential", graded=False, shift=False,
    state=None, return_state=False, count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.alif.alif``."""
    rule = fixed.Rule("saturate")
    steps, last = _integrate(x, current_decay, voltage_decay, scale, state, rule)
    adaptation = _adapted(
        steps, x, threshold_decay, refractory_decay, threshold, threshold_step, scale, state, rule
    )
    spikes = []
    for _, v in steps:
        th, r, fires = next(adaptation)
        limit = fixed.to_float(fixed.saturated(th + r), scale)
        voltage = fixed.to_float(v, scale)
        spikes.append(spike(voltage, fires, limit, tau_rho, scale_rho, graded, surrogate))
    if shift:
        spikes = fixed.later(spikes)
    decays = current_decay, voltage_decay, threshold_decay, refractory_decay
    out = fixed.over_time(spikes, x, x, *decays)
    try:
        next(adaptation)
    except StopIteration as end:
        last = (*last, *end.value)
    last = tuple(fixed.to_float(y.detach(), scale) for y in last) if return_state else None
    return fixed.answer(out, last, rule, count)


def alif_dynamics(
    x, current_decay, voltage_decay, threshold_decay, refractory_decay, threshold, threshold_step,
    scale, *, state=None, count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.alif.alif_dynamics``."""
    rule = fixed.Rule("saturate")
    steps, _ = _integrate(x, current_decay, voltage_decay, scale, state, rule)
    adapted = fixed.Rule("saturate")
    adaptation = _adapted(
        steps, x, threshold_decay, refractory_decay, threshold, threshold_step, scale, state,
        adapted,
    )  # fmt: skip
    steps = [(u, v, th, r) for (u, v), (th, r, _) in zip(steps, adaptation, strict=True)]
    decays = current_decay, voltage_decay, threshold_decay, refractory_decay
    found = tuple(
        fixed.over_time([fixed.to_float(step[k], scale) for step in steps], x, x, *decays)
        for k in range(4)
    )
    return (*found, rule.counted(found[0])) if count else found
