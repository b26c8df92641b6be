"""Surrogate gradients: their formulas, and every neuron with each of them."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lapilli.kernels.numbers.surrogate as surrogate_module
import numpy as np
import pytest
import surrogates_of_users  # noqa: F401 (adds them)
import torch
from known import present
from lapilli.kernels.executors.dispatch import FULL
from lapilli.kernels.executors.loops import lift
from lapilli.kernels.numbers.formula import on_tensors
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.numbers.surrogate import BUILT_IN, SURROGATES, surrogate_constants
from lapilli.kernels.proof.aot import (
    TARGETS,
    can_compile,
    compile_launch,
    launches,
    recurrent_launches,
    resources,
)
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.recurrences.spike import complex_spike, spike
from lapilli.kernels.reference.recurrent import recurrent as recurrent_oracle
from problems import assert_equal_answers, fixed_problem
from recurrences import TABLE
from tolerances import FLOAT32
from torch import Tensor
from torch.testing import assert_close

import lapilli

pytestmark = pytest.mark.turns

# published formulas, scaled to a height of 1 and an integral of 2; float64
FORMULAS = {
    "exponential": lambda z: np.exp(-np.abs(z)),
    "fast_sigmoid": lambda z: 1 / (1 + np.abs(z)) ** 2,
    "arctan": lambda z: 1 / (1 + (np.pi / 2 * z) ** 2),
    "sigmoid": lambda z: np.cosh(np.clip(z, -300, 300)) ** -2.0,
    "triangle": lambda z: np.maximum(0, 1 - np.abs(z) / 2),
    "boxcar": lambda z: (np.abs(z) <= 1).astype(float),
    "gaussian": lambda z: np.exp(-np.pi / 4 * z**2),
    "lopsided": lambda z: np.where(
        (z > 0) & (z < 4), np.maximum(1 - z / 1.5, 0), 1 / np.sqrt(1 + np.minimum(z, 0) ** 2)
    ),
    "straight_through": np.ones_like,
}  # fmt: skip
EVERY = tuple(FORMULAS)
each = pytest.mark.parametrize("name", EVERY)

# in real units; not on the edges of a box
DISTANCES = np.concatenate([np.linspace(-6, 6, 241) + 0.003, [-1e4, -50.0, 0.0, 50.0, 1e4]])


def expected(name, distance, tau, scale, graded):
    """The surrogate gradient of a binary or graded spike, float64."""
    if graded:
        return scale * FORMULAS[name](np.minimum(distance, 0) / tau)
    return scale / (2 * tau) * FORMULAS[name](distance / tau)


def expected_by_phase(name, distance, imag, tau, scale, graded):
    """The two surrogate gradients of a spike by phase, float64."""
    shape = FORMULAS[name]
    a = shape(np.minimum(distance, 0) / tau) if graded else shape(distance / tau) / (2 * tau)
    b = shape(imag / tau) / (2 * tau)
    reached = (1 + np.sign(distance) * (1 - 2 * tau * a)) / 2
    return scale * a * b, -scale / tau * np.sign(imag) * b * reached


def test_every_surrogate_has_a_formula_here():
    assert set(BUILT_IN) | {"gaussian", "lopsided", "straight_through"} == set(EVERY)
    assert set(EVERY) <= set(lapilli.surrogates())
    assert lapilli.surrogates()[: len(BUILT_IN)] == BUILT_IN


@pytest.mark.parametrize("name", [*BUILT_IN, "gaussian"])
def test_height_is_one_and_integral_two(name):
    z = torch.arange(-2_000_000, 2_000_001, dtype=torch.float64) / 1000
    shape = SURROGATES[name]
    values = on_tensors(shape.shape.fn)(z, z.abs(), shape.rate(1.0))
    tail = {"fast_sigmoid": 2 / 2001, "arctan": 8 / math.pi**2 / 2000}.get(name, 0.0)
    assert values[2_000_000] == 1
    assert torch.trapezoid(values, z).item() + tail == pytest.approx(2, abs=1.1e-3)


@each
@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize(("tau", "scale"), [(1.0, 1.0), (0.3, 4.0), (20.0, 0.1)])
def test_derivative_of_a_spike_is_the_formula(name, graded, tau, scale):
    distance = torch.tensor(DISTANCES, requires_grad=True)
    y = spike(
        distance, 0.0, tau_rho=tau, scale_rho=scale, surrogate=name, graded=graded,
        fires=torch.ones_like(distance, dtype=torch.bool),
    )  # fmt: skip
    (found,) = torch.autograd.grad(y.sum(), distance)
    want = expected(name, DISTANCES, tau, scale, graded)
    assert_close(found, torch.tensor(want), rtol=1e-9, atol=1e-12)


@each
@pytest.mark.parametrize("graded", [False, True])
def test_derivatives_of_a_spike_by_phase_are_the_formulas(name, graded):
    tau, scale = 0.7, 3.0
    re, im = (y.flatten() for y in np.meshgrid(DISTANCES, DISTANCES[::7]))
    real, imag = (torch.tensor(y, requires_grad=True) for y in (re, im))
    y = complex_spike(
        real, imag, 0.0, tau_rho=tau, scale_rho=scale, surrogate=name, graded=graded,
        fires=torch.ones_like(real, dtype=torch.bool),
    )  # fmt: skip
    found = torch.autograd.grad(y.sum(), (real, imag))
    for got, want in zip(found, expected_by_phase(name, re, im, tau, scale, graded), strict=True):
        assert_close(got, torch.tensor(want), rtol=1e-9, atol=1e-12)


@each
def test_compiled_shape_is_the_formula(name):
    shape = SURROGATES[name]
    compiled = lift(shape.shape)
    for tau in (1.0, 0.3, 20.0):
        rate = np.float32(shape.rate(tau))
        found = [compiled(np.float32(d), np.float32(abs(d)), rate) for d in DISTANCES]
        want = FORMULAS[name](np.float32(DISTANCES).astype(float) / tau)
        assert_close(
            torch.tensor(np.array(found)).double(), torch.tensor(want).double(),
            rtol=FLOAT32["rtol"], atol=1e-6,
        )  # fmt: skip


def test_default_is_that_of_before():
    """The values of lava-dl's formula, whatever else there is."""
    assert surrogate_module.DEFAULT == "exponential"
    assert surrogate_constants(0.5, 2.0, False) == (2.0, -math.log2(math.e) / 0.5)


# every neuron: (recurrence, surrogate, graded); those that are not graded are what the tests of
# neurons use, so that they are compiled once
RECURRENCES = {r.name: r for r in TABLE if r.spikes and {"graded", "cum_error"} & r.features}
QUICK = [
    ("cuba", "gaussian", False), ("cuba", "lopsided", True), ("cuba", "boxcar", False),
    ("leaky", "arctan", False), ("alif", "fast_sigmoid", False), ("rf", "triangle", False),
    ("sigma_delta", "sigmoid", False),
]  # fmt: skip
ALL = [
    (recurrence, name, graded)
    for recurrence, row in RECURRENCES.items()
    for name in EVERY
    for graded in ((False, True) if "graded" in row.features else (False,))
]


def marked(cases, quick):
    return [pytest.param(*c, marks=() if c in quick else pytest.mark.slow) for c in cases]


def problem_of(recurrence, name, graded):
    options = {"graded": True} if graded else {}
    learn = {"learn": True} if recurrence in ("delta", "sigma_delta") else {}
    return fixed_problem(
        RECURRENCES[recurrence], train=True, surrogate=name, tau_rho=0.4, **options, **learn
    )


@pytest.mark.parametrize(("recurrence", "name", "graded"), marked(ALL, QUICK))
def test_every_neuron_equals_oracle(recurrence, name, graded, device):
    assert_equal_answers(problem_of(recurrence, name, graded), device)


def test_quick_cases_cover_sorts_of_neurons_and_shapes():
    assert {"cuba", "alif", "rf", "sigma_delta"} <= {r for r, _, _ in QUICK} <= set(RECURRENCES)
    assert {n for _, n, _ in QUICK} >= set(BUILT_IN) - {"exponential"}


LAYERS = {"cuba": (1, False), "rf": (2, True), "rf_iz": (2, False)}
QUICK_LAYERS = [("cuba", "gaussian", False)]
ALL_LAYERS = [(kind, n, g) for kind in LAYERS for n in EVERY for g in (False, True)]


def layer(function, kind, name, graded, device="cpu") -> tuple[Any, tuple[Tensor, ...]]:
    """Return spikes of a recurrent layer and the gradients of its inputs and weights."""
    parts, phase = LAYERS[kind]
    generator = torch.Generator().manual_seed(0)
    z, r = (
        [torch.randn(size, generator=generator) for _ in range(parts)]
        for size in ((3, 5, 17), (5, 5))
    )
    z = [part.to(device).requires_grad_() for part in z]
    r = [(part * 4).round().div(32).to(device).requires_grad_() for part in r]
    decays = (600.0, 400.0) if parts == 1 else (1500.0, 3500.0)
    y = function(
        *((z[0], r[0]) if parts == 1 else (tuple(z), tuple(r))),
        tuple(torch.tensor([d], device=device) for d in decays), 0.5, 4096,
        phase=phase, gradient="full", tau_rho=0.4, surrogate=name, graded=graded,
    )  # fmt: skip
    torch.manual_seed(1)
    return y, torch.autograd.grad(y, [*z, *r], torch.randn(y.shape).to(device))


@pytest.mark.parametrize(("kind", "name", "graded"), marked(ALL_LAYERS, QUICK_LAYERS))
def test_recurrent_layers_equal_oracle(kind, name, graded, device):
    got, gradients = layer(recurrent, kind, name, graded, device)
    want, wanted = layer(recurrent_oracle, kind, name, graded)
    assert 0 < (want != 0).float().mean() < 1
    if not graded:  # those are sums that are not exact in any order
        assert_close(got.cpu(), want, rtol=0, atol=0)
    for g, w in zip(gradients, wanted, strict=True):
        assert_close(g.cpu(), w, rtol=0, atol=FLOAT32["rtol"] * w.abs().max().item())


@pytest.mark.slow
def test_every_neuron_equals_oracle_in_the_interpreter():
    """The Triton kernels themselves; the backend is chosen for a whole process."""
    if BACKEND != "auto":
        pytest.skip("this is the process that runs them")
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"),
        *("test_surrogates.py", "-k", "oracle and not interpreter", "--tb=short"),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | {"LAPILLI_BACKEND": "interpret"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    slow = os.environ.get("LAPILLI_SLOW") == "1"
    count = len(ALL) + len(ALL_LAYERS) if slow else len(QUICK) + len(QUICK_LAYERS)
    assert int(present(re.search(r"(\d+) passed", done.stdout))[1]) == count


def compiled_cases():
    """One kernel soon for all targets, one more slowly, and every shape for one of them."""
    for recurrence, name, graded in ALL:
        soon = (recurrence, name, graded) == ("cuba", "fast_sigmoid", False)
        if soon or (recurrence, name, graded) == ("rf", "gaussian", True):
            targets = tuple(TARGETS)
        else:
            targets = ("sm_90",) if recurrence in ("cuba", "rf") else ()
        for target in targets:
            marks = () if soon else pytest.mark.slow
            yield pytest.param(recurrence, name, graded, target, marks=marks)


@pytest.mark.skipif(BACKEND != "auto", reason="launches are those of a GPU")
@pytest.mark.parametrize(("recurrence", "name", "graded", "target"), list(compiled_cases()))
def test_kernels_compile_for_gpus(recurrence, name, graded, target):
    if not can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    _, backward = launches(problem_of(recurrence, name, graded).fast)
    used = resources(compile_launch(replace(backward, lanes=FULL), target))
    assert used.registers <= 104
    assert used.spills == used.doubles == 0


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "auto", reason="launches are those of a GPU")
def test_recurrent_kernel_compiles_for_a_gpu():
    forward, _, _ = recurrent_launches(lambda: layer(recurrent, "rf", "gaussian", False))
    assert resources(compile_launch(forward, "sm_90")).spills == 0
