"""Measure every case and judge it against its baseline."""

from unittest import mock

import pytest
from lapilli.kernels.synapses import codes

from lapilli.benchmark import results as files
from lapilli.benchmark.counters import counters
from lapilli.benchmark.judge import ATTEMPTS, Result, best, fallen, grown

from .cases import SHORT, Workload, cases
from .measure import Meter, peak_bytes, reference_rate

ROUNDS, SHORT_ROUNDS = 11, 7


def largest(work: Workload) -> dict[str, int]:
    """Return the larger counters of processors with products of eight bits and without."""
    found = []
    for usable in (True, False):
        with mock.patch.object(codes, "usable", return_value=usable):
            found.append(counters(work.run))
    return {name: max(counted[name] for counted in found) for name in found[0]}


@pytest.mark.parametrize("case", cases(), ids=str)
def test_speed(case, run, benchmark):
    if run.short and case.shape not in (*SHORT, "block"):
        pytest.skip("the short form leaves out this shape")
    work = case.executor(run.device)
    meter = Meter(work, run.device)
    rounds = SHORT_ROUNDS if run.short else ROUNDS
    benchmark.pedantic(meter, setup=meter.before, rounds=rounds)
    if not benchmark.enabled:
        return
    reference = reference_rate(case.reference(run.device), run.device)

    def result() -> Result:
        ratios = {}
        if case.loops:
            ratios["speedup"] = meter.rate / reference
        if meter.share is not None:
            ratios["bandwidth_share"] = meter.share
        return Result(counted, ratios)

    counted = largest(work) if run.update else counters(work.run)
    baseline = run.baseline(str(case))
    results = [result()]
    while run.judged and fallen(results[-1], baseline, run.tolerance) and len(results) < ATTEMPTS:
        meter.rounds(rounds)
        results.append(result())
    found = best(results)
    run.results[str(case)] = found
    run.rows[str(case)] = {
        "name": case.name,
        "shape": case.shape,
        "mode": case.mode,
        "neuron_steps": work.neuron_steps,
        **meter.summary(),
        **found.ratios,
        **found.counters,
        "peak_bytes": peak_bytes(work, run.device),
        "calls_per_round": meter.calls,
    }
    machine = files.machine(run.device), files.versions()
    benchmark.extra_info.update(run.rows[str(case)] | machine[0] | machine[1])
    worse = grown(found, baseline)
    if run.judged:
        worse += fallen(found, baseline, run.tolerance)
    assert not worse, f"{case}: {'; '.join(worse)}. If meant, run pytest --benchmark-update."
