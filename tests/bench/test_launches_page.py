"""The counts of launches are those of the code, and the page states them."""

import json
from pathlib import Path

import pytest

from bench import launches

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
STORED = json.loads(launches.RESULTS.read_text())


@pytest.mark.parametrize("name", launches.cases())
def test_a_step_launches_what_the_results_say(name):
    assert dict(launches.counted(launches.cases()[name])) == STORED["cases"][name]["launches"]


def test_the_page_has_the_table():
    assert launches.table(STORED) in PAGE.read_text()
    assert set(STORED["cases"]) == set(launches.cases())


def test_a_launch_again_is_the_quicker_one():
    for case in STORED["cases"].values():
        assert 0 < case["us"] < case["us_by_triton"]


@pytest.mark.slow
def test_a_step_is_timed_both_ways():
    make = launches.cases()["Dense, the first layer"]
    with launches.as_triton_does():
        assert launches.timed(make, repeats=10) > 0
    assert launches.timed(make, repeats=10) > 0
