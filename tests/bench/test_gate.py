"""The gate: what it lets pass, and what it does not."""

import json

import pytest

from bench import report
from lapilli.benchmark import judge, results
from lapilli.benchmark.judge import Result

BASELINE = {
    "counters": {"operators": 2, "saved_bytes": 400},
    "ratios": {"speedup": 10.0, "bandwidth_share": 0.5},
}
MACHINE = {"processor": "a", "threads": 2, "system": "b"}


@pytest.mark.parametrize(
    ("counters", "problems"),
    [
        ({"operators": 2, "saved_bytes": 400}, []),
        ({"operators": 1, "saved_bytes": 0}, []),
        ({"operators": 3, "saved_bytes": 400}, ["operators grew from 2 to 3"]),
        ({"operators": 2, "saved_bytes": 404}, ["saved_bytes grew from 400 to 404"]),
        ({"operators": 5, "saved_bytes": 401}, [
            "operators grew from 2 to 5", "saved_bytes grew from 400 to 401"]),
        ({"of another kind": 7}, []),
    ],
)  # fmt: skip
def test_counters_must_not_grow(counters, problems):
    assert judge.grown(Result(counters=counters), BASELINE) == problems


SLOWER = "speedup fell from 10 to 5.9, by more than 40%"
LOWER = "bandwidth_share fell from 0.5 to 0.29, by more than 40%"


@pytest.mark.parametrize(
    ("ratios", "problems"),
    [
        ({"speedup": 10.0, "bandwidth_share": 0.5}, []),
        ({"speedup": 99.0, "bandwidth_share": 0.9}, []),
        ({"speedup": 6.01, "bandwidth_share": 0.301}, []),
        ({"speedup": 5.9, "bandwidth_share": 0.301}, []),
        ({"speedup": 6.01, "bandwidth_share": 0.29}, []),
        ({"speedup": 5.9, "bandwidth_share": 0.29}, [SLOWER, LOWER]),
        ({"speedup": 5.9}, [SLOWER]),
        ({"bandwidth_share": 0.29}, [LOWER]),
        ({"speedup": 5.9, "unknown": 1.0}, [SLOWER]),
        ({"unknown": 0.0}, []),
    ],
)
def test_ratios_must_not_all_fall(ratios, problems):
    assert judge.fallen(Result(ratios=ratios), BASELINE, 0.4) == problems


def test_case_without_baseline_passes():
    result = Result({"operators": 9}, {"speedup": 0.1})
    assert not judge.grown(result, {})
    assert not judge.fallen(result, {})


def test_best_of_several_measurements_counts():
    results = [Result({"loops": 1}, {"speedup": s, "bandwidth_share": b})
               for s, b in ((1.0, 0.3), (3.0, 0.2), (2.0, 0.1))]  # fmt: skip
    assert judge.best(results) == Result({"loops": 1}, {"speedup": 3.0, "bandwidth_share": 0.3})


@pytest.mark.parametrize(
    ("change", "same"), [({}, True), ({"system": "c"}, True), ({"threads": 4}, False),
                         ({"processor": "d"}, False)],
)  # fmt: skip
def test_ratios_are_compared_on_one_kind_of_machine(change, same):
    assert judge.same_machine(MACHINE, MACHINE | change) is same


def test_new_baselines_keep_the_cases_that_were_not_run():
    first = judge.baselines({"a": Result({"loops": 1}, {"speedup": 1.23456})}, MACHINE, {})
    assert first["cases"]["a"] == {"counters": {"loops": 1}, "ratios": {"speedup": 1.23}}
    second = judge.baselines({"b": Result()}, MACHINE, first)
    assert list(second["cases"]) == ["a", "b"]
    elsewhere = judge.baselines({"b": Result()}, MACHINE | {"processor": "d"}, first)
    assert list(elsewhere["cases"]) == ["b"]


def test_baseline_asks_for_no_more_than_a_copy():
    result = Result(ratios={"bandwidth_share": 1.7, "speedup": 1.7})
    stored = judge.baselines({"a": result}, MACHINE, {})["cases"]["a"]["ratios"]
    assert stored == {"bandwidth_share": 1.0, "speedup": 1.7}


def test_stored_baselines_hold_no_seconds():
    stored = results.read(report.BENCH / "baselines" / "cpu.json")
    assert len(stored["cases"]) > 50
    for case in stored["cases"].values():
        assert set(case["counters"]) == {
            "operators", "allocated_bytes", "loops", "buffers", "saved_bytes"
        }  # fmt: skip
        assert set(case["ratios"]) <= set(judge.RATIOS)


def test_files_survive_a_round_trip(tmp_path):
    content = judge.baselines({"a": Result({"loops": 1}, {"speedup": 2.0})}, MACHINE, {})
    results.write(tmp_path / "new" / "cpu.json", content)
    assert results.read(tmp_path / "new" / "cpu.json") == content
    assert json.loads((tmp_path / "new" / "cpu.json").read_text())["machine"] == MACHINE
    assert results.read(tmp_path / "none.json") == {}
