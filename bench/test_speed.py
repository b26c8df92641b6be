"""Measure every case and judge it against its baseline."""

import pytest

from .cases import SHORT, cases
from .gate import ATTEMPTS, Result, best, fallen, grown
from .measure import Meter, counters, peak_bytes, reference_rate

ROUNDS, SHORT_ROUNDS = 11, 7


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

    counted = counters(work)
    baseline = run.baseline(str(case))
    results = [result()]
    while run.judged and fallen(results[-1], baseline) and len(results) < ATTEMPTS:
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
    benchmark.extra_info.update(run.rows[str(case)])
    worse = grown(found, baseline) + (fallen(found, baseline) if run.judged else [])
    assert not worse, f"{case}: {'; '.join(worse)}. If meant, run pytest --benchmark-update."
