"""Numbers that a fixed point cannot hold: every recurrence by the rule of fixed_point.py."""

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lapilli.kernels.numbers.fixed_point import LEAST, MOST
from lapilli.kernels.recurrences.cuba import cuba, cuba_dynamics
from problems import assert_equal_answers, fixed_problem, shared_parameters
from recurrences import TABLE
from torch.testing import assert_close

pytestmark = pytest.mark.turns

FIXED = [r for r in TABLE if "scale" in r.features and r.name not in ("delta", "sigma_delta")]
VALUES = [math.nan, math.inf, -math.inf, 1e30, -1e30, 4e7, -4e7, 3e5, -3e5]
HIGHEST, LOWEST = (bound.value / 4096 for bound in (MOST, LEAST))
KEEP = torch.zeros(1)  # a decay of nothing

SOON = ("cuba",)  # the others compile two loops each, for continuous integration only


def rows_of(recurrences):
    """Return the recurrences as parameters of a test."""
    return [
        pytest.param(r, id=repr(r), marks=() if r.name in SOON else pytest.mark.slow)
        for r in recurrences
    ]


each = pytest.mark.parametrize("recurrence", rows_of(FIXED))
each_value = pytest.mark.parametrize("value", VALUES, ids=str)


def spoilt(recurrence, value, **choices):
    """Return a problem in which one neuron gets ``value`` at step 6, and another from there on."""
    problem = shared_parameters(fixed_problem(recurrence, **choices))
    inputs, _, _ = problem.tensors()
    rows = inputs[0].detach().movedim(1, 0)[0].clone()
    rows[0, 6] = value
    rows[1, 6:14] = (
        value  # the imaginary part is the real one a step later, and begins with its last
    )
    return dataclasses.replace(problem, shape=(1,), rows=rows.tolist())


@each
@each_value
def test_what_does_not_fit_equals_oracle(recurrence, value, device):
    train = "train" in recurrence.features
    # where a voltage saturates, its current is not what the oracle remembers
    learn = math.isnan(value) and "learn" in recurrence.features
    for choices in ({"graded": True}, {"dynamics": True}) if train else ({},):
        problem = spoilt(recurrence, value, train=train and "graded" in choices, learn=learn)
        problem = dataclasses.replace(
            problem, dynamics="dynamics" in choices,
            options={"graded": True} if "graded" in choices else {},
        )  # fmt: skip
        assert_equal_answers(problem, device, equal_nan=True)


@each
def test_not_a_number_stays_so(recurrence, device):
    problem = spoilt(recurrence, math.nan, train="train" in recurrence.features)
    outputs, _, gradients = problem.fast(device=device)
    first = 6 if recurrence.spikes else 7
    for y in outputs:
        assert y[:2, 0, :6].isfinite().all()
        assert y[:2, 0, first:].isnan().all()
        assert y[2].isfinite().all(), "other neurons are none the wiser"
    for g in gradients:
        assert g[:2].isnan().all()
        assert g[2].isfinite().all()


def _state_rows():
    return [r for r in FIXED if r.states and r.spikes]


@pytest.mark.parametrize("recurrence", rows_of(_state_rows()))
@pytest.mark.parametrize("value", [math.nan, math.inf, 4e7, 3e5], ids=str)
def test_pieces_equal_the_whole(recurrence, value, device):
    problem = spoilt(recurrence, value)
    inputs, parameters, _ = problem.tensors(device)
    whole, after = problem.call(inputs, parameters, return_state=True)
    state, pieces = None, []
    for part in zip(*(x.split(4, -1) for x in inputs), strict=True):
        (y,), state = problem.call(list(part), parameters, state, return_state=True)
        pieces.append(y)
    assert_close(torch.cat(pieces, -1), whole[0], rtol=0, atol=0, equal_nan=True)
    if math.isnan(value):
        assert all(s[:2].isnan().all() for s in after)


@each
def test_a_decay_that_is_not_finite_is_not_a_number(recurrence, device):
    for value in (math.nan, math.inf):
        problem = shared_parameters(fixed_problem(recurrence))
        parameters = (value, *problem.parameters[1:])
        outputs, _, _ = dataclasses.replace(problem, parameters=parameters).fast(device=device)
        assert outputs[0][..., -1].isnan().all()


def test_states_saturate(device):
    x = torch.tensor([[[3e5] * 4], [[-3e5] * 4]], device=device)
    keep = KEEP.to(device)
    current, voltage = cuba_dynamics(x, keep, keep, None, 4096)
    assert current[:, 0].tolist() == [[3e5, HIGHEST, HIGHEST, HIGHEST], [-3e5, *[LOWEST] * 3]]
    assert voltage[:, 0].tolist() == [[3e5, HIGHEST, HIGHEST, HIGHEST], [-3e5, *[LOWEST] * 3]]


def test_saturated_states_come_back(device):
    x = torch.tensor([[[math.inf, -1.0, 0.0]]], device=device)
    current, _ = cuba_dynamics(x, KEEP.to(device), KEEP.to(device), None, 4096)
    assert current.flatten().tolist() == [HIGHEST, HIGHEST - 1, HIGHEST - 1]


def test_thresholds_beyond_the_integers_are_never_reached(device):
    x = torch.full((1, 1, 3), math.inf, device=device)
    assert not cuba(x, KEEP.to(device), KEEP.to(device), 1e30, 4096).any()


@pytest.mark.parametrize("neurons", [1023, 1024, 1030, 2049])
@pytest.mark.parametrize("place", [0, 1022])
def test_only_its_own_tile_is_computed_again(neurons, place, device):
    torch.manual_seed(0)
    x = torch.randn(2, neurons, 9, device=device)
    decay = torch.tensor([410.0], device=device)
    want = cuba(x, decay, decay, 1.0, 4096)
    x[1, place, 3] = torch.nan
    got = cuba(x, decay, decay, 1.0, 4096)
    assert got[1, place, 3:].isnan().all()
    got[1, place] = want[1, place]
    assert_close(got, want, rtol=0, atol=0)


@pytest.mark.slow
def test_interpreter_follows_the_rule():
    expression = "(equals_oracle and (nan or inf or 300000)) or stays_so"
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"),
        *("test_overflow.py", "-k", expression, "--tb=short", "-q"),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | {"LAPILLI_BACKEND": "interpret"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
