"""Oracle of the CUBA neuron: the equations of the specification, one step at a time.

The surrogate gradient is autograd's own: a function whose value is the spike and whose derivative
is rho. Decay gradients ignore the initial state, as in lava-dl.
"""

import torch

from . import fixed
from .spike import spike


def _run(x, current_decay, voltage_decay, threshold, scale, state, overflow):
    """Yield current, voltage before and after reset, spike decision and misfits of each step.

    States are in units, float64.
    """
    rest = torch.zeros(x[..., 0].shape, dtype=torch.float64, device=x.device)
    u, w = (rest, rest) if state is None else (fixed.to_fixed(s.detach(), scale) for s in state)
    v = w
    for t in range(x.shape[-1]):
        rates = (
            fixed.per_neuron(fixed.decay_rate(p, learning=t > 0), x)
            for p in (current_decay, voltage_decay)
        )
        rate_u, rate_v = rates
        given = fixed.to_fixed(x[..., t], scale)
        sum_u = fixed.decayed(u, u, rate_u) + given
        u = fixed.current(sum_u, overflow)
        sum_v = fixed.decayed(w, v, rate_v) + fixed.between_stages(u, scale)
        v = fixed.state(sum_v, overflow)
        lost = fixed.misfits(given) | fixed.misfits(sum_u, sum_v, overflow=overflow)
        if threshold is None:
            fires = torch.zeros_like(v, dtype=torch.bool)
        else:
            fires = v.detach() > round(threshold * scale)
        w = torch.where(fires, 0.0, v.detach())
        yield u, v, w, fires, lost


def cuba(
    x, current_decay, voltage_decay, threshold, scale, *, tau_rho=1.0, scale_rho=1.0,
    surrogate="exponential", graded=False, shift=False, state=None, return_state=False,
    overflow="saturate", count=False,
):  # fmt: skip
    """See ``lapilli.kernels.cuba.cuba``."""
    x = x.to(torch.float32)
    u = w = torch.zeros(x[..., 0].shape, dtype=torch.float64)
    spikes, lost = [], torch.zeros(x[..., 0].shape, dtype=torch.int32, device=x.device)
    decays = fixed.signed(current_decay, voltage_decay)
    steps = _run(x, *decays, threshold, scale, state, overflow)
    for u, v, w, fires, misfits in steps:  # noqa: B007 (read after)
        lost = lost + misfits
        voltage = fixed.to_float(v, scale)
        limit = threshold + 0.01 / scale
        spikes.append(spike(voltage, fires, limit, tau_rho, scale_rho, graded, surrogate))
    if shift:
        spikes = [torch.zeros_like(spikes[0]), *spikes[:-1]]
    found = [torch.stack(spikes, -1)]
    if return_state:
        found.append(tuple(fixed.to_float(y.detach(), scale) for y in (u, w)))
    return (*found, *([lost] if count else ())) if return_state or count else found[0]


def cuba_dynamics(
    x, current_decay, voltage_decay, threshold, scale, *, state=None, overflow="saturate",
    count=False,
):  # fmt: skip
    """See ``lapilli.kernels.cuba.cuba_dynamics``."""
    x = x.to(torch.float32)
    decays = fixed.signed(current_decay, voltage_decay)
    steps = list(_run(x, *decays, threshold, scale, state, overflow))
    current, voltage = (
        torch.stack([fixed.to_float(step[k], scale) for step in steps], -1) for k in (0, 1)
    )
    return (current, voltage, sum(step[4] for step in steps)) if count else (current, voltage)
