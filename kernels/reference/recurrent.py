"""Oracle of recurrent layers: the equations of the specification, one step at a time.

With the gradient "lava-dl" states are detached between steps, as lava-dl's are; with "full" they
are not; with "bounded" neither, and the spikes that come back have a gradient of their own. Always
the surrogate gradient is autograd's own.
"""

import torch

from . import fixed
from .adaptive_threshold import decided
from .resonator import outputs, rotated, spike_of
from .spike import spike


def _rates(decays, x, learning):
    return [fixed.per_neuron(fixed.decay_rate(d, learning), x) for d in decays]


def _leaky_step(state, x, rates, threshold, step, scale, rule):
    """Return the state after the step, current and voltage before the reset, limit, decision."""
    u, v, after = state[:3]
    u = rule.current(fixed.decayed(u, u, rates[0]) + rule.given(x, scale))
    v = rule.state(fixed.decayed(after, v, rates[1]) + fixed.between_stages(u, scale))
    if len(rates) == 2:
        fires = v.detach() > fixed.units(threshold, scale)
        after = torch.where(fires, 0.0, v.detach())
        return (u, v, after), (u, v), threshold + 0.01 / scale, fires
    th, r = _settled(state[3:], rates[2:], threshold, scale)
    limit = fixed.saturated(th + r)
    fires = decided(fixed.between_stages(v.detach(), scale), limit)
    raised = _raised(th, r, fires, step, scale, rule)
    return (u, v, v.detach(), *raised), (u, v), fixed.to_float(limit, scale), fires


def _resonator_step(state, x, rates, threshold, step, scale, rule, phase):
    re, im, after_re, after_im = state[:4]
    before = after_im
    sin, cos = rates[:2]
    x_re, x_im = (rule.given(part, scale) for part in x)
    re, im = rotated(after_re, after_im, re, im, sin, cos, x_re, x_im, rule)
    tested = (re if phase else im).detach()
    may = (before < 0) & (im.detach() >= 0) if phase else True
    after_re, after_im = re.detach(), im.detach()
    if len(rates) == 4:
        th, r = _settled(state[4:], rates[2:], threshold, scale)
        units = fixed.saturated(th + r)
        fires = decided(tested, units, may)
        raised = _raised(th, r, fires, step, scale, rule)
        limit = fixed.to_float(units, scale)
        return (re, im, after_re, after_im, *raised), (re, im), limit, fires
    theta = fixed.units(threshold, scale)
    fires = may & (tested >= theta)
    if not phase:
        after_re = torch.where(fires, 0.0, after_re)
        after_im = torch.where(fires, theta - 1.0, after_im)
    return (re, im, after_re, after_im), (re, im), threshold, fires


def _settled(state, rates, threshold, scale):
    rest, r = fixed.units(threshold, scale), state[1]
    th = fixed.saturated(state[0] - rest)
    th = fixed.saturated(fixed.decayed(th, th, rates[0].detach()) + rest)
    return th, fixed.decayed(r, r, rates[1].detach())


def _raised(th, r, fires, step, scale, rule):
    high, slow = th + fixed.units(step, scale), r + fixed.saturated(2 * th)
    th, r = (
        rule.wide(torch.where(fires > 0, fixed.saturated(y), before) + 0 * fires)
        for y, before in ((high, th), (slow, r))
    )
    return th, r


def _initial(state, shape, threshold, scale, turns, adapts, device):
    """State before the first step: what decays, what the reset left of it, the threshold."""
    if state is None:
        rest = torch.zeros(shape, dtype=torch.float64, device=device)
        state = [rest, rest, rest + fixed.units(threshold, scale), rest]
    else:
        state = [fixed.to_fixed(s.detach(), scale) for s in state]
    a, b = state[:2]
    return (a, b, *((a, b) if turns else (b,)), *(state[2:4] if adapts else ()))


def _room(weights, rates, turns):
    """Slope that feedback may meet, float32; the norm comes of four vectors, multiplied six times.

    ``rates`` are in units of 1/4096.
    """
    matrix = torch.cat([r.detach() for r in weights if r is not None]).double()
    count = torch.arange(1, matrix.shape[1] + 1, device=matrix.device).double()
    vectors = torch.stack([torch.cos(turn * count) for turn in (0.0, 1.0, 2.4, 3.9)], 1)
    vectors = vectors / torch.linalg.vector_norm(vectors, dim=0)
    square = matrix.mT @ matrix
    fifth, sixth = (
        torch.linalg.vector_norm(torch.linalg.matrix_power(square, k) @ vectors, dim=0)
        for k in (5, 6)
    )
    norm = (sixth / fifth).max().sqrt()
    a, b = (r.detach() / 4096 for r in rates[:2])
    memory = 1 - torch.hypot(a, b) if turns else a * b
    return (memory / (2 * norm)).to(torch.float32)


def _slope(spikes, *states):
    """Size of the slope of ``spikes``, a function of ``states``."""
    probes = [y.detach().clone().requires_grad_() for y in states]
    with torch.enable_grad():
        found = torch.autograd.grad(spikes(*probes).sum(), probes, allow_unused=True)
    return sum(f.abs() for f in found if f is not None)


def recurrent(
    z, feedback, decays, threshold, scale, *, phase=False, threshold_step=0.0, bias=0.0,
    quantum=None, tau_rho=1.0, scale_rho=1.0, surrogate="exponential",
    graded=False, shift=False, state=None, spikes=None,
    return_state=False, gradient="lava-dl", overflow="saturate", count=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.recurrent.recurrent``."""
    turns, adapts = not isinstance(z, torch.Tensor), len(decays) == 4
    parts = [part.to(torch.float32) for part in (z if turns else (z,))]
    weights = feedback if turns else (feedback,)
    biases = (0.0, bias) if turns and not phase else (bias, 0.0)
    shape, device = parts[0].shape[:-1], parts[0].device
    rates = decays if turns else fixed.signed(*decays[:2]) + tuple(decays[2:])
    now = _initial(state, shape, threshold, scale, turns, adapts, device)
    back = s = parts[0].new_zeros(shape) if spikes is None else spikes.detach().to(torch.float32)
    found, rule = [], fixed.Rule(overflow)
    for t in range(parts[0].shape[-1]):
        x = [
            part[..., t] + (0 if r is None else (back.flatten(1) @ r.t()).view(s.shape)) + b
            for part, r, b in zip(parts, weights, biases, strict=False)
        ]
        each = _rates(rates, parts[0], learning=gradient != "lava-dl" and t > 0)
        if gradient == "lava-dl":
            now = tuple(y.detach() for y in now)
        arguments, rule.t = (threshold, threshold_step, scale, rule), t
        if turns:
            now, (a, b), limit, fires = _resonator_step(now, x, each, *arguments, phase)
            options = phase, scale, tau_rho, scale_rho, graded, surrogate

            def spikes_of(a, b, fires=fires, limit=limit, options=options):
                return spike_of(a, b, fires, limit, *options)

        else:
            now, (a, b), limit, fires = _leaky_step(now, x[0], each, *arguments)
            options = tau_rho, scale_rho, graded, surrogate

            def spikes_of(a, b, fires=fires, limit=limit, options=options):
                return spike(fixed.to_float(b, scale), fires, limit, *options)

        back = s = spikes_of(a, b)
        if gradient == "bounded":
            room = _room(weights, each, turns)
            share = (room / (room + scale * _slope(spikes_of, a, b))).to(s.dtype)
            back = s.detach() + share * (s - s.detach())
        found.append(s)
    given = (*parts, *decays, *(r for r in weights if r is not None))
    last = now[2:] if turns else (now[0], *now[2:])
    out = outputs(found, last, given, scale, shift, return_state, rule, count)
    return (*out[:2], s.detach(), *out[2:]) if return_state else out
