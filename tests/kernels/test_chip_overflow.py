"""States of 24 bits by the chip's rule, against what Lava's models of the chip give.

``overflow_of_lava.npz`` is made by tests/conformance/overflow_side.py.
"""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known import wrong
from lapilli.kernels.recurrences.cuba import cuba, cuba_dynamics
from lapilli.kernels.recurrences.leaky import leaky, leaky_spike
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.recurrences.resonator import resonator
from lapilli.kernels.recurrences.rf import adrf, rf
from lapilli.kernels.recurrences.rf_iz import rf_iz
from lapilli.kernels.reference import cuba as cuba_oracle
from lapilli.kernels.reference import rf as rf_oracle
from lapilli.kernels.reference import rf_iz as rf_iz_oracle
from problems import KERNELS, ORACLES, assert_equal_answers
from recurrences import TABLE
from test_overflow import rows_of, spoilt

SCALE = 4096
LIMIT = 2**23 - 1
GOLDEN = Path(__file__).with_name("overflow_of_lava.npz")


def golden(name, device) -> dict[str, Any]:
    """Return what the file holds of a case: a dict of tensors ``[1, neurons, steps]``."""
    with np.load(GOLDEN) as file:
        found = {k.split("/")[1]: file[k] for k in file.files if k.startswith(f"{name}/")}
    values = {k: torch.from_numpy(v)[None] for k, v in found.items() if v.ndim == 2}
    real = {k: v / 64 for k, v in values.items() if k in ("x", "y")}  # units of weights
    states = {k: v / SCALE for k, v in values.items() if k in ("u", "v", "real", "imag")}
    decays = [torch.tensor([float(d)], device=device) for d in found["decays"]]
    moved = {k: v.float().to(device) for k, v in (values | real | states).items()}
    return moved | {"decays": decays, "threshold": found["threshold"].item() / 64}


def steps_beyond(*states):
    """Whether any of several states is at its limit, or beyond: a step that did not fit."""
    return torch.stack([s.abs() * SCALE >= LIMIT for s in states]).any(0)


@pytest.mark.parametrize("name", ["cuba_slow", "cuba_still"])
def test_cuba_equals_lava(name, device):
    lava = golden(name, device)
    x, (i, v), threshold = lava["x"], lava["decays"], lava["threshold"]
    current, voltage = cuba_dynamics(x, i, v, threshold, SCALE, overflow="loihi")
    spikes, count = cuba(x, i, v, threshold, SCALE, overflow="loihi", count=True)
    assert torch.equal(current, lava["u"])
    assert torch.equal(spikes, lava["spikes"])
    assert torch.equal(torch.where(spikes > 0, 0.0, voltage), lava["v"])
    assert spikes.any()
    assert not torch.equal(spikes, cuba(x, i, v, threshold, SCALE))
    assert (count >= steps_beyond(voltage).sum(-1)).all()
    assert (lava["u"].abs() * SCALE > LIMIT + 1).any(), "a current comes round once, not further"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cuba_slow", "cuba_still"])
def test_current_and_voltage_apart_equal_lava(name, device):
    lava = golden(name, device)
    (i, v), threshold = lava["decays"], lava["threshold"]
    current = leaky(lava["x"], i, SCALE, is_current=True, overflow="loihi")
    voltage = leaky(current, v, SCALE, threshold=threshold, overflow="loihi")
    spikes = leaky_spike(current, v, threshold, SCALE, overflow="loihi")
    assert torch.equal(current, lava["u"])
    assert torch.equal(spikes, lava["spikes"])
    assert torch.equal(torch.where(spikes > 0, 0.0, voltage), lava["v"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [rf, rf_iz])
def test_resonators_equal_lava(kind, device):
    lava = golden(kind.__name__, device)
    x, (sin, cos), threshold = (lava["x"], lava["y"]), lava["decays"], lava["threshold"]
    resets = {"threshold": threshold} if kind is rf_iz else {}
    real, imag = resonator(x, sin, cos, SCALE, overflow="loihi", **resets)
    spikes, count = kind(x, sin, cos, threshold, SCALE, overflow="loihi", count=True)
    after = real, imag
    if resets:
        after = torch.where(spikes > 0, 0.0, real), imag.where(spikes == 0, threshold - 1 / SCALE)
    for got, name in zip(after, ("real", "imag"), strict=True):
        assert torch.equal(got, lava[name])
    assert torch.equal(spikes, lava["spikes"])
    assert spikes.any()
    assert not torch.equal(spikes, kind(x, sin, cos, threshold, SCALE))
    assert (count == steps_beyond(real, imag).sum(-1)).all()
    assert count.any()


@pytest.mark.parametrize("oracle", ["cuba_slow", "cuba_still", "rf", "rf_iz"])
def test_oracles_equal_lava(oracle):
    lava = golden(oracle, "cpu")
    functions = {"rf": rf_oracle.rf, "rf_iz": rf_iz_oracle.rf_iz}
    x = (lava["x"], lava["y"]) if oracle in functions else lava["x"]
    run: Any = functions.get(oracle, cuba_oracle.cuba)
    spikes = run(x, *lava["decays"], lava["threshold"], SCALE, overflow="loihi")
    assert torch.equal(spikes, lava["spikes"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cuba_slow", *(pytest.param(n, marks=pytest.mark.slow) for n in ("rf", "rf_iz"))]
)
def test_recurrent_layers_equal_lava(name, device):
    """Without feedback, neurons of a recurrent layer are those of any other."""
    lava = golden(name, device)
    turns = name != "cuba_slow"
    x = (lava["x"], lava["y"]) if turns else lava["x"]
    nothing = torch.zeros(24, 24, device=device)
    spikes, count = recurrent(
        x, (nothing, nothing) if turns else nothing, tuple(lava["decays"]), lava["threshold"],
        SCALE, phase=name == "rf", overflow="loihi", count=True,
    )  # fmt: skip
    assert torch.equal(spikes, lava["spikes"])
    alone = {"cuba_slow": cuba, "rf": rf, "rf_iz": rf_iz}[name]
    _, want = alone(
        x, *lava["decays"], lava["threshold"], SCALE, overflow="loihi", count=True
    )  # fmt: skip
    assert torch.equal(count, want)


def test_infinity_saturates_before_the_rule(device):
    x = torch.zeros(1, 2, 3, device=device)
    x[0, 0, 0], x[0, 1, 0] = torch.inf, -torch.inf
    keep = torch.zeros(1, device=device)
    _, voltage = cuba_dynamics(x, keep, keep, None, SCALE, overflow="loihi")
    assert voltage[0].tolist() == [[LIMIT / SCALE] * 3, [-LIMIT / SCALE] * 3]


def test_unknown_rules_and_neurons_without_one_are_refused(device):
    x, d = torch.zeros(1, 2, 3, device=device), torch.zeros(1, device=device)
    with pytest.raises(ValueError, match="'saturate', 'loihi'; got 'wrap'"):
        cuba(x, d, d, 1.0, SCALE, overflow="wrap")
    with pytest.raises(ValueError, match="none whose threshold adapts"):
        recurrent(x, torch.zeros(2, 2), (d, d, d, d), 1.0, SCALE, overflow="loihi")
    with pytest.raises(TypeError, match="overflow"):
        wrong(adrf)((x, x), d, d, d, d, 1.0, 1.0, SCALE, overflow="loihi")


CHIP = [r for r in TABLE if r.name in ("cuba", "leaky", "rf", "rf_iz")]
COUNTING = [*CHIP, *(r for r in TABLE if r.name in ("alif", "adrf", "adrf_iz"))]


@pytest.mark.parametrize("recurrence", rows_of(CHIP))
def test_the_chips_rule_equals_oracle(recurrence, device):
    """What fits 32 bits, what does not, infinity and NaN; forward and backward."""
    for value in (math.nan, math.inf, -4e7, 3e5, -1800.0):
        problem = spoilt(recurrence, value, train=True, overflow="loihi")
        assert_equal_answers(problem, device, equal_nan=True)


@pytest.mark.parametrize(
    "recurrence",
    [pytest.param(r, id=r.name, marks=() if r.name == "cuba" else pytest.mark.slow) for r in CHIP],
)
def test_pieces_by_the_chips_rule_equal_the_whole(recurrence, device):
    problem = spoilt(recurrence, 1500.0, overflow="loihi")
    inputs, parameters, _ = problem.tensors(device)
    whole, _ = problem.call(inputs, parameters, return_state=True)
    state, pieces = None, []
    for part in zip(*(x.split(4, -1) for x in inputs), strict=True):
        (y,), state = problem.call(list(part), parameters, state, return_state=True)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, -1), whole[0])


@pytest.mark.parametrize("recurrence", rows_of(COUNTING))
def test_counts_equal_oracles(recurrence, device):
    rules = ("saturate", "loihi") if recurrence in CHIP else ("saturate",)
    for rule in rules:
        options = {"count": True} | ({"overflow": rule} if rule != "saturate" else {})
        some = 0
        for value in (math.nan, math.inf, -4e7, 3e5, -1800.0, 0.0):
            problem = spoilt(recurrence, value, **options)
            counts = []
            for package, where in ((KERNELS, device), (ORACLES, "cpu")):
                inputs, parameters, _ = problem.tensors(where)
                _, count = problem.call(inputs, parameters, package=package)[0]
                counts.append(count.cpu())
            assert torch.equal(*counts), (rule, value)
            assert counts[0].dtype == torch.int32
            assert value != 0.0 or not counts[0].any(), "nothing is the matter"
            some += counts[0].sum().item()
        assert some > 0


def test_a_count_is_that_of_the_steps():
    x = torch.tensor([[[2000.0, 1.0, 100.0, 0.0], [0.0, 0.0, 3000.0, -3000.0]]])
    keep = torch.zeros(1)
    _, count = cuba(x, keep, keep, 1e4, SCALE, overflow="loihi", count=True)
    # 2000, 2001 + 2000 clips; then 2101 wraps around to -1995 and 52 is left, -1995 is added
    assert count.tolist() == [[2, 2]]


@pytest.mark.slow
def test_interpreter_equals_lava():
    expression = "(equals_lava or equal_lava) and not (recurrent or oracles or interpreter)"
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"),
        *("test_chip_overflow.py", "-k", expression, "--tb=short", "-q"),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | {"LAPILLI_BACKEND": "interpret"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
