"""The page on speed states what was measured beside busy processes."""

from pathlib import Path

import pytest

from bench import neighbours
from lapilli.benchmark.results import read

PAGE = Path(__file__).parents[2] / "docs" / "speed.md"


def test_the_page_has_the_table_of_the_results():
    results = read(neighbours.RESULTS)
    assert neighbours.table(results) in PAGE.read_text()
    assert results["processor"] in PAGE.read_text()


def test_the_results_are_of_all_cases():
    cases = read(neighbours.RESULTS)["cases"]
    expected = {f"{n}; {k} busy" for n in neighbours.NETWORKS for k in neighbours.NEIGHBOURS}
    assert cases.keys() == expected
    assert all(row.keys() == neighbours.WAYS.keys() for row in cases.values())


def test_a_measurement_is_made_in_the_way_that_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(neighbours, "in_a_process", lambda *a: asked.append(a) or len(asked))
    found = neighbours.measured(0, rounds=3, steps=2)
    assert len(asked) == 3 * len(neighbours.NETWORKS) * len(neighbours.WAYS)
    assert {way for _, way, _ in asked} == set(neighbours.WAYS)
    assert found["64-256-10, 72 samples, 32 steps; 0 busy"]["spinning"] == 7  # of 1, 7, 13


@pytest.mark.slow
def test_a_step_is_timed_in_a_process_of_its_own():
    assert neighbours.in_a_process("64-256-10, 72 samples, 32 steps", "one thread", 1) > 0
