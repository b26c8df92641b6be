"""The page on events states what the stored results say."""

import functools
from pathlib import Path

import pytest
import torch
from lapilli.blocks.crossover import LIMITS
from lapilli.blocks.linear import linear

from bench import events, report
from lapilli.benchmark.results import read

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def results():
    return read(report.BENCH / "results" / "events-cpu.json")


@pytest.mark.parametrize("table", [events.table, events.limits_table])
def test_the_page_has_the_figures_of_the_results(results, table):
    assert "\n".join(table(results)) in (DOCS / "events.md").read_text()


def test_the_results_are_of_all_cases(results):
    layers = len(events.PRODUCTS) + len(events.CONVOLUTIONS)
    with_events = [row for row in results["cases"].values() if "scatter" in row]
    assert len(with_events) == layers * len(events.DENSITIES)
    assert len(results["cases"]) == len(with_events) + 2  # networks
    assert {"torch", "numba"} <= set(results["versions"])


def test_the_limits_in_use_are_those_of_the_results(results):
    stored = {
        kind: {int(terms): tuple(limits) for terms, limits in table.items()}
        for kind, table in results["limits"].items()
    }
    assert stored == LIMITS


def test_a_limit_is_where_both_take_as_long():
    densities = events.LIMIT_DENSITIES
    assert events._crossing([1.0] * len(densities)) == 0
    assert events._crossing([0.5] * len(densities)) == densities[-1]
    straight = [density / 0.12 for density in densities]
    assert events._crossing(straight) == pytest.approx(0.12)


def test_limits_are_measured_of_what_the_synapse_calls(monkeypatch):
    monkeypatch.setattr(events, "LEAST", 1)
    monkeypatch.setattr(events, "SECONDS", 0.0)
    xs = [events.spikes(density, 8, 40) for density in events.LIMIT_DENSITIES]
    w = torch.ones(16, 40) * events.STEP
    call = functools.partial(linear, step=events.STEP)
    (limits,) = events._limits(call, w, xs, ("float32",))
    assert len(limits) == 2
    assert all(0 <= limit <= 1 for limit in limits)


def test_a_measurement_has_what_the_table_shows(tmp_path):
    rows = {}
    for density in (0.1, 1.0):
        for name, row in {
            "Dense": events.product(16, 32, 16, density),
            "Conv": events.convolution(2, 2, 16, 4, density),
        }.items():
            rows[f"{name} at {density}"] = {"layer": name, "density": density, **row}
    lines = events.table({"cases": rows})
    assert len(lines) == 2 + len(rows)
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    pytest.importorskip("matplotlib")
    events.plot({"cases": rows}, tmp_path / "picture.svg")
    assert "<svg" in (tmp_path / "picture.svg").read_text()
