"""Oracle of the resonators: the equations of the specification, one step at a time.

RF, RF-Izhikevich, ADRF and ADRF-Izhikevich are in rf.py and rf_iz.py.
"""

import torch

from . import fixed
from .adaptive_threshold import adapt, decided
from .spike import complex_spike, spike


def turned(after, before, factor):
    """``trunc(after * factor / 4096)`` with the gradient of ``before``, which no reset touched."""
    kept = (after.detach() * factor.detach() / 4096).trunc()
    return fixed.straight_through(kept, before * factor / 4096)


def rotated(after_re, after_im, re, im, sin, cos, x_re, x_im, rule):
    """Turn the state, saturate, add the input, by the rule; not a number in one part is in both."""
    a = turned(after_re, re, cos) - turned(after_im, im, sin)
    b = turned(after_re, re, sin) + turned(after_im, im, cos)
    a, b = (rule.state(rule.wide(y) + x) for y, x in ((a, x_re), (b, x_im)))
    missing = (a + b).isnan()
    return tuple(fixed.straight_through(torch.where(missing, torch.nan, y), y) for y in (a, b))


def states(x, sin_decay, cos_decay, scale, rule, state=None, threshold=None):
    """Return each step's real and imaginary part before and after the reset, and the state before.

    All in units (float64). Without ``threshold`` nothing is reset.
    """
    real, imag = (part.to(torch.float32) for part in x)
    if state is None:
        re = im = torch.zeros(real.shape[:-1], dtype=torch.float64, device=real.device)
    else:
        re, im = (fixed.to_fixed(s.detach(), scale) for s in state[:2])
    after_re, after_im = initial = re, im
    steps = []
    for t in range(real.shape[-1]):
        sin, cos = (
            fixed.per_neuron(fixed.decay_rate(p, learning=t > 0), real)
            for p in (sin_decay, cos_decay)
        )
        rule.t = t
        x_re, x_im = (rule.given(part[..., t], scale) for part in (real, imag))
        re, im = rotated(after_re, after_im, re, im, sin, cos, x_re, x_im, rule)
        after_re, after_im = re.detach(), im.detach()
        if threshold is not None:
            theta = fixed.units(threshold, scale)
            fires = after_im >= theta
            after_re = torch.where(fires, 0.0, after_re)
            after_im = torch.where(fires, theta - 1.0, after_im)
        steps.append((re, im, after_re, after_im))
    return steps, initial


def tested(steps, initial, phase):
    """Return what each step compares with the threshold, and whether it may spike at all."""
    if not phase:
        return [(im.detach(), True) for _, im, _, _ in steps]
    before = [initial[1], *(im for _, im, _, _ in steps)]
    return [
        (re.detach(), (last.detach() < 0) & (im.detach() >= 0))
        for (re, im, _, _), last in zip(steps, before, strict=False)
    ]


def spike_of(re, im, fires, limit, phase, scale, *options):
    """Spike of one step, with its surrogate gradient; ``limit`` in real units.

    ``options`` are those of ``spike``, from ``tau`` on.
    """
    real, imag = (fixed.to_float(y, scale) for y in (re, im))
    if phase:
        return complex_spike(real, imag, fires, limit, *options)
    return spike(imag + 0 * real, fires, limit, *options)


def outputs(spikes, last, given, scale, shift, return_state, rule, count):
    """Stack what the spike function made of each step, as the public functions return it.

    ``given`` are the first input ``[N, neurons..., T]``, then all else that has a gradient.
    """
    if shift:
        spikes = fixed.later(spikes)
    out = fixed.over_time(spikes, given[0], *given)
    last = tuple(fixed.to_float(y.detach(), scale) for y in last) if return_state else None
    return fixed.answer(out, last, rule, count)


def series(steps, kinds, given, scale):
    """Stack tuples of states in units, of so many kinds, one tuple a step, as float32 series."""
    columns = ([fixed.to_float(step[k], scale) for step in steps] for k in range(kinds))
    return tuple(fixed.over_time(c, given[0], *given) for c in columns)


def constant_threshold(
    phase, x, sin_decay, cos_decay, threshold, scale, *, tau_rho=1.0, scale_rho=1.0,
    surrogate="exponential", graded=False, shift=False, state=None, return_state=False,
    overflow="saturate", count=False,
):  # fmt: skip
    """Spikes of RF (``phase``) and RF-Izhikevich neurons; only the latter reset."""
    reset, rule = None if phase else threshold, fixed.Rule(overflow)
    steps, initial = states(x, sin_decay, cos_decay, scale, rule, state, reset)
    spikes = []
    for step, (part, may) in zip(steps, tested(steps, initial, phase), strict=True):
        fires = may & (part >= fixed.units(threshold, scale))
        spikes.append(
            spike_of(
                *step[:2], fires, threshold, phase, scale, tau_rho, scale_rho, graded, surrogate
            )
        )
    last, given = steps[-1][2:] if steps else initial, (*x, sin_decay, cos_decay)
    return outputs(spikes, last, given, scale, shift, return_state, rule, count)


def _adapted(
    phase, x, sin_decay, cos_decay, threshold_decay, refractory_decay, threshold, threshold_step,
    scale, state, rule,
):  # fmt: skip
    """Return the states of each step, its threshold, refractory and decision, and what is after."""
    steps, initial = states(x, sin_decay, cos_decay, scale, rule, state)
    parts = tested(steps, initial, phase)
    adaptation = adapt(
        lambda t, limit: decided(parts[t][0], limit, parts[t][1]), x[0], threshold_decay,
        refractory_decay, threshold, threshold_step, scale, state and state[2:], rule,
    )  # fmt: skip
    found = [next(adaptation) for _ in steps]
    try:
        next(adaptation)
    except StopIteration as end:
        return steps, found, (*(steps[-1][2:] if steps else initial), *end.value)
    raise AssertionError("the adaptation goes on after the last step")


def adaptive_threshold(
    phase, x, sin_decay, cos_decay, threshold_decay, refractory_decay, threshold, threshold_step,
    scale, *, tau_rho=1.0, scale_rho=1.0, surrogate="exponential", graded=False, shift=False,
    state=None, return_state=False, count=False,
):  # fmt: skip
    """Spikes of ADRF (``phase``) and ADRF-Izhikevich neurons."""
    rule = fixed.Rule("saturate")
    steps, found, last = _adapted(
        phase, x, sin_decay, cos_decay, threshold_decay, refractory_decay, threshold,
        threshold_step, scale, state, rule,
    )  # fmt: skip
    spikes = []
    for step, (th, r, fires) in zip(steps, found, strict=True):
        limit = fixed.to_float(fixed.saturated(th + r), scale)
        spikes.append(
            spike_of(*step[:2], fires, limit, phase, scale, tau_rho, scale_rho, graded, surrogate)
        )
    given = *x, sin_decay, cos_decay, threshold_decay, refractory_decay
    return outputs(spikes, last, given, scale, shift, return_state, rule, count)


def adaptive_dynamics(
    phase, x, sin_decay, cos_decay, threshold_decay, refractory_decay, threshold, threshold_step,
    scale, *, state=None, count=False,
):  # fmt: skip
    """States of ADRF (``phase``) and ADRF-Izhikevich neurons."""
    rule = fixed.Rule("saturate")
    steps, found, _ = _adapted(
        phase, x, sin_decay, cos_decay, threshold_decay, refractory_decay, threshold,
        threshold_step, scale, state, rule,
    )  # fmt: skip
    rows = zip(steps, found, strict=True)
    given = *x, sin_decay, cos_decay, threshold_decay, refractory_decay
    found = series([(*step[:2], *adaptation[:2]) for step, adaptation in rows], 4, given, scale)
    return (*found, *([rule.counted(found[0])] if count else ()))


def resonator(
    x, sin_decay, cos_decay, scale, *, threshold=None, state=None, overflow="saturate", count=False
):
    """See ``lapilli.kernels.recurrences.resonator.resonator``."""
    rule = fixed.Rule(overflow)
    steps, _ = states(x, sin_decay, cos_decay, scale, rule, state, threshold)
    real, imag = series([step[:2] for step in steps], 2, (*x, sin_decay, cos_decay), scale)
    return (real, imag, rule.counted(real)) if count else (real, imag)
