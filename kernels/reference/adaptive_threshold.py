"""Oracle of the adaptive threshold: the equations of the specification, one step at a time."""

import torch

from . import fixed


def decided(tested, limit, may: torch.Tensor | bool = True):
    """Decision to spike, float64: 1 from the limit on, NaN where either is NaN."""
    fires = ((tested >= limit) & may).to(torch.float64)
    return torch.where((tested - limit).isnan(), torch.nan, fires)


def adapt(fires, shape_of, threshold_decay, refractory_decay, threshold, step, scale, state, rule):
    """Yield threshold, refractory and spike decision of each step (units, float64), not learned.

    ``fires(t, limit)`` is ``decided``. ``shape_of`` is a ``[N, channels, ..., T]`` tensor. The
    generator returns the state after the last step.
    """
    rest = fixed.units(threshold, scale)
    rate_th, rate_r = (
        fixed.per_neuron(fixed.decay_rate(p, learning=False), shape_of)
        for p in (threshold_decay, refractory_decay)
    )
    if state is None:
        r = torch.zeros(shape_of.shape[:-1], dtype=torch.float64, device=shape_of.device)
        th = r + rest
    else:
        th, r = (fixed.to_fixed(s.detach(), scale) for s in state)
    for t in range(shape_of.shape[-1]):
        r = fixed.decayed(r, r, rate_r).detach()
        above_rest = fixed.saturated(th - rest).detach()
        th = fixed.saturated(fixed.decayed(above_rest, above_rest, rate_th).detach() + rest)
        spikes = fires(t, fixed.saturated(th + r))
        yield th, r, spikes
        high, slow = th + fixed.units(step, scale), r + fixed.saturated(2 * th)
        rule.t = t
        r = rule.wide(torch.where(spikes > 0, fixed.saturated(slow), r) + 0 * spikes)
        th = rule.wide(torch.where(spikes > 0, fixed.saturated(high), th) + 0 * spikes)
    return th, r


def _series(steps, like, scale):
    steps = list(steps)
    return tuple(
        fixed.over_time([fixed.to_float(step[k], scale) for step in steps], like) for k in (0, 1)
    )


def adaptive_threshold(
    x, threshold_decay, refractory_decay, threshold, threshold_step, scale, *, state=None
):
    """See ``lapilli.kernels.recurrences.adaptive_threshold.adaptive_threshold``."""
    units = fixed.to_fixed(x.detach(), scale)
    steps = adapt(
        lambda t, limit: decided(units[..., t], limit),
        units, threshold_decay, refractory_decay, threshold, threshold_step, scale, state,
        fixed.Rule("saturate"),
    )  # fmt: skip
    return _series(steps, units, scale)


def adaptive_phase_threshold(
    real, imag, threshold_decay, refractory_decay, threshold, threshold_step, scale, *,
    imag_before=None, state=None,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.adaptive_threshold.adaptive_phase_threshold``."""
    re, im = (fixed.to_fixed(x.detach(), scale) for x in (real, imag))
    before = im.new_zeros(im.shape[:-1])
    if imag_before is not None:
        before = fixed.to_fixed(imag_before.detach(), scale)

    def fires(t, limit):
        previous = before if t == 0 else im[..., t - 1]
        return decided(re[..., t] + 0 * im[..., t], limit, (previous < 0) & (im[..., t] >= 0))

    steps = adapt(
        fires, re, threshold_decay, refractory_decay, threshold, threshold_step, scale, state,
        fixed.Rule("saturate"),
    )  # fmt: skip
    return _series(steps, re, scale)
