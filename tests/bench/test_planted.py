"""Planted faults, which the gate has to find: passes over memory too many, and a copy."""

import pytest
import torch
from lapilli.kernels.executors import dispatch
from lapilli.kernels.recurrences import sigma, sigma_delta

from bench.cases import RECURRENCES
from bench.measure import Meter, reference_rate
from lapilli.benchmark import judge
from lapilli.benchmark.counters import OneThread, counters
from lapilli.benchmark.judge import Result

SHAPE = (16, 256, 100)
CPU = torch.device("cpu")
ALIF, SIGMA, SIGMA_DELTA = (
    next(r for r in RECURRENCES if r.name == name) for name in ("alif", "sigma", "sigma_delta")
)


def workload(recurrence, training=False):
    return recurrence.build(SHAPE, training, CPU, SHAPE[-1], False)


def measured():
    """Speed beside the loop in torch, as the suite measures it."""
    results = []
    for _ in range(judge.ATTEMPTS):
        with OneThread():  # other tests run beside this one
            rate = Meter(workload(ALIF), CPU).rounds(15).rate
            reference = reference_rate(ALIF.build(SHAPE, False, CPU, 20, True), CPU, rounds=5)
        results.append(Result(ratios={"speedup": rate / reference}))
    return judge.best(results)


def stored(result):
    return judge.baselines({"": result}, {}, {})["cases"][""]


@pytest.mark.slow
def test_passes_over_memory_are_found(monkeypatch):
    before = stored(measured())
    assert not judge.fallen(measured(), before)
    run_tiles = dispatch.run_tiles

    def run_again(*args):  # more than once: tests beside this one take time from the loop in torch
        for _ in range(4):
            run_tiles(*args)

    monkeypatch.setattr(dispatch, "run_tiles", run_again)
    assert judge.fallen(measured(), before)


def operators(recurrence, training):
    return Result(counters(workload(recurrence, training).run))


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
def test_copy_is_found(training, monkeypatch):
    before = stored(operators(SIGMA, training))
    assert not judge.grown(operators(SIGMA, training), before)
    from_rows = sigma.from_rows
    monkeypatch.setattr(sigma, "from_rows", lambda rows, shape: from_rows(rows.clone(), shape))
    problems = " ".join(judge.grown(operators(SIGMA, training), before))
    assert "operators grew from" in problems
    assert "allocated_bytes grew from" in problems


def test_tensor_that_is_kept_is_found(monkeypatch):
    before = stored(operators(SIGMA_DELTA, True))
    operator = sigma_delta.sigma_delta_fwd

    def keep(*args):
        events, *others = operator(*args)
        return events.exp().log(), *others  # the exponential is kept for backward

    monkeypatch.setattr(sigma_delta, "sigma_delta_fwd", keep)
    assert "saved_bytes grew from" in " ".join(judge.grown(operators(SIGMA_DELTA, True), before))
