"""Backward passes over 2000 steps, at decays at their ends, against graphs in float64.

The graphs know nothing of the kernels: each step is written down from the equations, its values in
float64 integers, its derivatives autograd's. A channel has one combination of decays.
"""

import functools
import itertools
from typing import Any

import pytest
import torch
from lapilli.kernels.recurrences.alif import alif
from lapilli.kernels.recurrences.cuba import cuba
from lapilli.kernels.recurrences.delta import delta
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.recurrences.rf import adrf, rf
from lapilli.kernels.recurrences.rf_iz import adrf_iz, rf_iz
from lapilli.kernels.recurrences.sigma_delta import sigma_delta
from tolerances import LONG_FEEDBACK, LONG_GRADIENTS
from turns import soon

STEPS, BATCH, SCALE = 2000, 2, 4096
ENDS = (0, 1, 4095, 4096)
LEAKY = list(itertools.product(ENDS, ENDS))
TURNS = [(s, c) for s, c in itertools.product((*ENDS, 2895), repeat=2) if s * s + c * c <= 4096**2]
ADAPTS = list(itertools.product(ENDS, ENDS))
TAU, HEIGHT, STEP = 0.5, 1.5, 0.25  # width and scale of the surrogate, step of the threshold
THRESHOLDS = {"least": 1 / 64, "one": 1.0, "high": 64.0}


def held(value, derivative):
    """Return ``value`` with the derivative of another."""
    return derivative + (value - derivative).detach()


def slope(distance, graded):
    if graded:
        return HEIGHT * torch.exp(distance.clamp(max=0) / TAU)
    return HEIGHT / (2 * TAU) * torch.exp(-distance.abs() / TAU)


def slopes_of_phase(distance, imag, graded):
    """Derivatives by real and imaginary part."""
    crossing = torch.exp(-imag.abs() / TAU) / (2 * TAU)
    if graded:
        near = torch.exp(distance.clamp(max=0) / TAU)
    else:
        near = torch.exp(-distance.abs() / TAU) / (2 * TAU)
    reached = (1 + distance.sign() * (1 - 2 * TAU * near)) / 2
    return HEIGHT * near * crossing, -HEIGHT / TAU * imag.sign() * crossing * reached


class Graph:
    """One layer in float64; ``step`` gives the spikes of a step from those of the one before."""

    def __init__(self, parts, decays, threshold, graded, phase=None):
        self.parts, self.graded, self.phase = parts, graded, phase
        self.kept = [d.double().detach().round() for d in decays]  # whole numbers
        self.shares = [(k / 4096).requires_grad_() for k in self.kept]
        shape = parts[0].shape[:-1]
        self.threshold, self.rest = threshold, round(threshold * SCALE)
        zero = torch.zeros(shape, dtype=torch.float64)
        self.before = self.after = (zero, zero)
        self.th, self.r = zero + self.rest, zero

    def decayed(self, k, after, before, share):
        return held((after * k / 4096).trunc().detach(), before * share)

    def limit(self):
        if len(self.kept) == 2:
            return self.rest
        keep_th, keep_r = (4096 - k for k in self.kept[2:])
        self.th = ((self.th - self.rest) * keep_th / 4096).trunc() + self.rest
        self.r = (self.r * keep_r / 4096).trunc()
        return self.th + self.r

    def raise_(self, fires):
        if len(self.kept) == 4:
            self.th, self.r = self.th + STEP * SCALE * fires, self.r + 2 * self.th * fires

    def step(self, inputs):
        units = [held((x.detach() * SCALE).trunc(), x * SCALE) for x in inputs]
        step = self.leaky if self.phase is None else self.turning
        return step(*units)

    def leaky(self, x):
        (u, v), (_, w) = self.before, self.after
        a, b = self.shares[:2]
        u = self.decayed(4096 - self.kept[0], u.detach(), u, 1 - a) + x
        v = self.decayed(4096 - self.kept[1], w, v, 1 - b) + u
        self.before, limit, adapts = (u, v), self.limit(), len(self.kept) == 4
        fires = v.detach() >= limit if adapts else v.detach() > limit
        w = v.detach() if adapts else torch.where(fires, 0.0, v.detach())
        self.raise_(fires)
        self.after = (u, w)
        at = limit / SCALE if adapts else self.threshold + 0.01 / SCALE
        distance = v.detach() / SCALE - at
        rho = slope(distance, self.graded)
        value = fires * (v.detach() / SCALE if self.graded else 1.0)
        self.size = rho
        return value + rho * (v - v.detach()) / SCALE

    def turning(self, x_re, x_im):
        (a, b), (a0, b0) = self.before, self.after
        (sin, cos), (s, c) = self.shares[:2], self.kept[:2]
        re = self.decayed(c, a0, a, cos) - self.decayed(s, b0, b, sin) + x_re
        im = self.decayed(s, a0, a, sin) + self.decayed(c, b0, b, cos) + x_im
        self.before, limit = (re, im), self.limit()
        tested = (re if self.phase else im).detach()
        fires = tested >= limit
        if self.phase:
            fires = fires & (b0 < 0) & (im.detach() >= 0)
        after = re.detach(), im.detach()
        if not self.phase and len(self.kept) == 2:
            after = torch.where(fires, 0.0, after[0]), torch.where(fires, limit - 1.0, after[1])
        self.after = after
        self.raise_(fires)
        distance = (tested - limit) / SCALE
        value = fires * (tested / SCALE if self.graded else 1.0)
        if not self.phase:
            self.size = slope(distance, self.graded)
            return value + self.size * (im - im.detach()) / SCALE
        by_re, by_im = slopes_of_phase(distance, im.detach() / SCALE, self.graded)
        self.size = by_re.abs() + by_im.abs()
        moved = by_re * (re - re.detach()) + by_im * (im - im.detach())
        return value + moved / SCALE

    def run(self):
        steps = zip(*(part.unbind(-1) for part in self.parts), strict=True)
        return torch.stack([self.step(x) for x in steps], -1)


def worst(got, want):
    """Return the largest error of each tensor, relative to the largest entry of its channel."""
    errors = []
    for a, b in zip(got, want, strict=True):
        a, b = a.double(), b.double()
        assert a.isfinite().all()
        channels = (0, 2) if b.ndim == 3 else ()
        size = b.abs().amax(channels, keepdim=True) if channels else b.abs()
        assert (size > 0).any()
        errors.append(((a - b).abs() / size.clamp(min=1e-3 * size.max().item())).max().item())
    return max(errors)


def inputs(channels, parts, drive):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(BATCH, channels, STEPS, generator=generator) * drive).requires_grad_()
        for _ in range(parts)
    ]


NEURONS = {
    "cuba": (cuba, LEAKY, None),
    "alif": (alif, LEAKY, None),
    "rf": (rf, TURNS, True),
    "rf_iz": (rf_iz, TURNS, False),
    "adrf": (adrf, TURNS, True),
    "adrf_iz": (adrf_iz, TURNS, False),
}


@pytest.mark.parametrize("graded", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "threshold",
    [
        "one",
        pytest.param("least", marks=pytest.mark.slow),
        pytest.param("high", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "name",
    soon(("cuba",), NEURONS),
)
def test_gradients_of_long_sequences(name, threshold, graded, record_property):
    function, pairs, phase = NEURONS[name]
    level, adapts = THRESHOLDS[threshold], name.startswith("a")
    rows = list(pairs)
    if adapts:  # the threshold's decays go through their ends as well, in another order
        rows = [(*pair, *ADAPTS[(5 * k + 3) % len(ADAPTS)]) for k, pair in enumerate(rows)]
    decays = [torch.tensor(d, dtype=torch.float32) for d in zip(*rows, strict=True)]
    for d in decays[:2]:
        d.requires_grad_()
    parts = inputs(len(rows), 1 if phase is None else 2, min(level, 2.0))
    numbers = (level, STEP, SCALE) if adapts else (level, SCALE)
    y = function(
        parts[0] if phase is None else tuple(parts), *decays, *numbers,
        tau_rho=TAU, scale_rho=HEIGHT, graded=graded,
    )  # fmt: skip
    twins = [p.detach().double().requires_grad_() for p in parts]
    graph = Graph(twins, decays, level, graded, phase)
    want = graph.run()
    # graded spikes are float32, which rounds states beyond 2**24 units
    torch.testing.assert_close(y, want.float(), rtol=0, atol=0)
    torch.manual_seed(1)
    g = torch.randn(y.shape)
    got = torch.autograd.grad(y, [*parts, *decays[:2]], g)
    error = worst(got, torch.autograd.grad(want, [*twins, *graph.shares[:2]], g.double()))
    record_property("relative error", error)
    assert error < LONG_GRADIENTS, error


@pytest.mark.slow
def test_bounded_gradients_of_long_sequences_through_feedback(record_property):
    """Of a competition, whose spectral norm is known: 1 of all alike, inhibited by 12 others."""
    found = []
    for phase in (None, True, False):
        rows = LEAKY if phase is None else TURNS
        decays = [
            torch.tensor(d, dtype=torch.float32, requires_grad=True)
            for d in zip(*rows, strict=True)
        ]
        channels = len(rows)
        r = (torch.eye(channels) - 1) / 8
        norm = (channels - 1) / 8
        parts = inputs(channels, 1 if phase is None else 2, 1.0)
        fed = r if phase is None else (r, None) if phase else (None, r)
        z: Any = parts[0] if phase is None else tuple(parts)
        y = recurrent(
            z, fed, tuple(decays), 1.0, SCALE,
            phase=bool(phase), quantum=1 / 8, tau_rho=TAU, scale_rho=HEIGHT, gradient="bounded",
        )  # fmt: skip
        twins = [p.detach().double().requires_grad_() for p in parts]
        graph = Graph(twins, decays, 1.0, False, phase)
        a, b = graph.kept
        memory = a * b / 4096**2 if phase is None else 1 - torch.hypot(a, b) / 4096
        room = (memory / (2 * norm)).clamp(min=1e-30)
        back, steps = torch.zeros(BATCH, channels, dtype=torch.float64), []
        for x in zip(*(part.unbind(-1) for part in twins), strict=True):
            at = 1 if phase is False else 0
            x = [part + back @ r.double().t() if k == at else part for k, part in enumerate(x)]
            s = graph.step(x)
            steps.append(s)
            back = s.detach() + room / (room + graph.size) * (s - s.detach())
        want = torch.stack(steps, -1)
        torch.testing.assert_close(y, want.float(), rtol=0, atol=0)
        torch.manual_seed(1)
        g = torch.randn(y.shape)
        got = torch.autograd.grad(y, [*parts, *decays], g)
        expected = torch.autograd.grad(want, [*twins, *graph.shares], g.double())
        found.append(worst(got, expected))
    record_property("relative error", max(found))
    assert max(found) < LONG_FEEDBACK, found


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("cumulative", soon((False,), (False, True)))
def test_threshold_gradients_of_long_sequences(fused, cumulative, record_property):
    """Delta and sigma-delta: the gradient of the input is exact, that of the threshold declared."""
    thresholds = torch.tensor([1 / 64, 0.25, 1.0, 16.0])
    theta = thresholds.clone().requires_grad_()
    x = inputs(len(thresholds), 1, 0.5)[0]
    options = {"tau_grad": TAU, "scale_grad": HEIGHT, "cum_error": cumulative}
    run: Any = functools.partial(sigma_delta, relu=True) if fused else delta
    y = run(x, theta, SCALE, **options)
    twin = x.detach().double().requires_grad_()
    # the encoder's own float32 sums decide what is sent, so they are the same here
    values = x.detach()
    if fused:
        total, sums = torch.zeros(BATCH, len(thresholds)), []
        for frame in values.unbind(-1):
            total = total + frame
            sums.append(total.clamp(min=0))
        values = torch.stack(sums, -1)
    before = residual = error = torch.zeros(BATCH, len(thresholds))
    changes = []
    for frame in values.unbind(-1):
        change = (frame - before) + residual
        error = error + change
        sent = (error if cumulative else change).abs() >= thresholds
        residual, error = torch.where(sent, 0.0, change), torch.where(sent, 0.0, error)
        before = frame
        changes.append(change)
    d = torch.stack(changes, -1).double()
    torch.manual_seed(1)
    g = torch.randn(y.shape)
    level = thresholds.double()[:, None]
    beyond = -d * HEIGHT * torch.exp(-(d.abs() - level) / TAU) / level
    h = torch.where(d.abs() > level, beyond, -d.sign())
    source = torch.where(values.double() > 0, twin.cumsum(-1), 0.0) if fused else twin
    passed = torch.diff(source, dim=-1, prepend=torch.zeros_like(source[..., :1]))
    (want,) = torch.autograd.grad(passed, twin, g.double())
    got = torch.autograd.grad(y, [x, theta], g)
    error = worst(got, [want, (g.double() * h).sum((0, 2))])
    record_property("relative error", error)
    assert error < LONG_GRADIENTS, error
