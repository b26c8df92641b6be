"""Every cell learns recorded data, in short; the pages state what is stored."""

import dataclasses
import functools
from pathlib import Path

import cells
import pytest
import torch

from bench import rates
from bench.learning import data, page, runs, training
from lapilli.benchmark import results
from lapilli.extras import MissingExtraError

pytestmark = pytest.mark.turns

DOCS = Path(__file__).parents[2] / "docs"
EVERY = [c for task in runs.TASKS for c in runs.cells(task, "lapilli")]
SHORTLY = [
    ("cuba", "Dense"),
    pytest.param("rf_iz", "Recurrent", marks=pytest.mark.slow),
    pytest.param("sigma_delta", "Output", marks=pytest.mark.slow),
]


@functools.cache
def task_of(name):
    try:
        return runs.TASKS[name]()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_digits_have_all_cells():
    assert {(c.family, c.kind) for c in runs.cells("digits", "lapilli")} == set(cells.CELLS)


@pytest.mark.parametrize(("family", "kind"), SHORTLY)
def test_a_few_steps_learn_some(family, kind, one_thread, monkeypatch):
    short = dataclasses.replace(training.BUDGETS["digits"], epochs=2)
    monkeypatch.setitem(training.BUDGETS, "digits", short)
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    row = runs.train(runs.Cell("digits", family, kind), "lapilli", task_of("digits"), 0)
    assert row["score"] > 0.6


# epochs, and the score that a cell must pass after them: well above what a guess would get
SHORT = {"digits": (3, 0.3), "vowels": (40, 2 * page.CHANCE["vowels"]), "motion": (10, 0.3)}


@pytest.mark.slow
@pytest.mark.parametrize("cell", EVERY, ids=str)
def test_every_cell_learns(cell, one_thread, monkeypatch):
    epochs, floor = SHORT[cell.task]
    budget = dataclasses.replace(training.BUDGETS[cell.task], epochs=epochs)
    monkeypatch.setitem(training.BUDGETS, cell.task, budget)
    row = runs.train(cell, "lapilli", task_of(cell.task), 0)
    assert row["score"] > floor


def test_a_signal_becomes_spikes_of_what_is_above_and_below():
    signal = torch.tensor([[[0.5, 0.5, 0.5, 0.5, -1.0, -3.0, 0.0]]])
    above, below = data.rate_of(signal)[0].tolist()
    assert above == [0, 1, 0, 1, 0, 0, 0]
    assert below == [0, 0, 0, 0, 1, 1, 0]


def test_the_page_has_the_scores_that_are_stored():
    document = runs.stored()
    text = (DOCS / "learning.md").read_text()
    assert "\n".join([*page.tables(document), page.origin(document)]) in text


def test_no_stored_cell_is_at_chance():
    rows = runs.stored()["cases"]
    scores = {key: row["score"] for key, row in rows.items() if "score" in row}
    assert scores
    for key, score in scores.items():
        if key.split()[-2] == "lapilli":
            assert score > max(2 * page.CHANCE[key.split()[0]], 0.1), key


@pytest.mark.parametrize("task", ["digits", "vowels"])
def test_no_stored_family_is_far_under_the_best(task):
    leaders = page.best(runs.stored()["cases"], task)
    if task != "digits" and set(leaders) != set(page.FAMILIES):
        pytest.skip("the stored scores do not have all families of this task")
    assert set(leaders) == set(page.FAMILIES)
    means = [mean for _, mean in leaders.values()]
    assert means[0] - means[-1] <= 0.03, leaders


def test_no_stored_mean_is_under_that_of_lava_dl_by_more_than_the_spread():
    rows = runs.stored()["cases"]
    cells = [c for task in runs.TASKS for c in runs.cells(task, "lava-dl")]
    compared = [c for c in cells if page.beside(rows, c)]
    assert compared
    assert {str(c): page.shortfall(rows, c) for c in compared if page.shortfall(rows, c) > 0} == {}


def test_stored_scores_of_lava_dl_are_from_the_same_network():
    rows = runs.stored()["cases"]
    for key, row in rows.items():
        if "equal" in row and key.split()[2] not in ("Pool", "Unpool"):  # of channels, it mixes
            assert row["equal"], key


def test_the_page_on_rates_has_what_is_stored():
    assert "\n".join(rates.table(results.read(rates.STORE))) in (DOCS / "rates.md").read_text()
