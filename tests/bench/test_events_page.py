"""The page on events states what the stored results say."""

from pathlib import Path

import pytest
from lapilli.blocks.crossover import MEASURED

from bench import events, mlp, report
from lapilli.benchmark.results import read

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def results():
    return read(report.BENCH / "results" / "events-cpu.json")


@pytest.mark.parametrize("table", [events.table, events.limits_table])
def test_the_page_has_the_figures_of_the_results(results, table):
    assert "\n".join(table(results)) in (DOCS / "events.md").read_text()


def test_the_page_has_the_limits_of_the_other_processor():
    results = read(report.BENCH / "results" / "events-avx2.json")
    assert "\n".join(events.limits_table(results)) in (DOCS / "events.md").read_text()


def test_the_results_are_of_all_cases(results):
    layers = len(events.PRODUCTS) + len(events.CONVOLUTIONS)
    with_events = [row for row in results["cases"].values() if "scatter" in row]
    assert len(with_events) == layers * len(events.DENSITIES)
    assert len(results["cases"]) == len(with_events) + 2  # networks
    assert {"torch", "numba"} <= set(results["versions"])


@pytest.mark.parametrize(("vectors", "name"), [("AVX512", "events-cpu"), ("AVX2", "events-avx2")])
def test_the_limits_in_use_are_those_of_the_results(vectors, name):
    results = read(report.BENCH / "results" / f"{name}.json")
    assert {"torch", "numba"} <= set(results["versions"])
    stored = {
        kind: {int(terms): tuple(limits) for terms, limits in table.items()}
        for kind, table in results["limits"].items()
    }
    assert stored == MEASURED[vectors]
    assert {"float32", "convolution"} <= set(stored)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_network_of_three_layers_is_measured(monkeypatch):
    monkeypatch.setattr(mlp, "DENSITIES", (0.1,))
    [(density, rates, times)] = mlp.rows(samples=1, steps=10)
    assert density == 0.1
    assert len(rates) == len(mlp.SIZES) - 1
    assert rates[0] > 0
    assert times.keys() == set(mlp.HEADER[2:])
    assert times["training"] > times["forward"] > 0
