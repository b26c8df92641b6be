"""Slow tests of many forms take turns, and none is lost."""

from collections import Counter
from types import SimpleNamespace

import pytest
from turns import TURNS, divided, left_out, soon

NAMES = [f"tests/a.py::test_b[{k}]" for k in range(40)]
SLOW = {"slow", "turns"}


def run(marks, **environment):
    return {name for name in NAMES if not left_out(name, marks, environment)}


def test_turns_together_run_every_test_once():
    runs = [run(SLOW, LAPILLI_SLOW="1", LAPILLI_TURN=str(k)) for k in range(TURNS)]
    assert set.union(*runs) == set(NAMES)
    assert sum(map(len, runs)) == len(NAMES)
    assert all(runs)


def test_a_turn_leaves_out_nothing_else():
    in_turn = {"LAPILLI_SLOW": "1", "LAPILLI_TURN": "1"}
    assert run({"turns"}, **in_turn) == set(NAMES)
    assert run({"slow"}, **in_turn) == set(NAMES)


def test_without_a_turn_all_slow_ones_run():
    assert run(SLOW, LAPILLI_SLOW="1") == set(NAMES)
    assert run(SLOW, LAPILLI_SLOW="1", LAPILLI_TURN="") == set(NAMES)
    assert not run(SLOW, LAPILLI_TURN="1")
    assert not run(SLOW)


def test_a_process_of_another_backend_runs_all():
    asked = {"LAPILLI_SLOW": "1", "LAPILLI_TURN": "1", "LAPILLI_BACKEND": "interpret"}
    assert run(SLOW, **asked) == set(NAMES)


def test_what_is_left_out_is_counted():
    marks = [SimpleNamespace(name="slow")]
    slow, quick = (
        SimpleNamespace(nodeid=name, iter_markers=lambda own=own: own)
        for name, own in (("a", marks), ("b", []))
    )
    run, left, reasons = divided([slow, quick, slow], {})
    assert (run, left) == ([quick], [slow, slow])
    assert reasons == Counter({"slow: set LAPILLI_SLOW=1 to run it": 2})
    assert divided([slow, quick], {"LAPILLI_SLOW": "1"}) == ([slow, quick], [], Counter())


def test_values_that_are_not_quick_are_marked():
    first, second = soon(["a"], ["a", "b"])
    assert first == "a"
    assert second == pytest.param("b", marks=pytest.mark.slow)


def test_reasons_say_what_to_set():
    assert left_out(NAMES[0], SLOW, {}) == "slow: set LAPILLI_SLOW=1 to run it"
    in_turn = {"LAPILLI_SLOW": "1", "LAPILLI_TURN": "0"}
    name = next(n for n in NAMES if n not in run(SLOW, **in_turn))
    own = left_out(name, SLOW, in_turn).removeprefix("its turn is LAPILLI_TURN=")
    assert name in run(SLOW, **in_turn | {"LAPILLI_TURN": own})
