"""The study of gradients in its short form, and what its page promises of every block."""

import json
import re
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from turns import soon

from bench import gradients

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "bench" / "results" / "gradients.json").read_text())
# the output of this block is a sum over time itself, so that its sum grows with the square
SUMS = ("sigma_delta", "Output")
# single decays: sums that cancel, of few samples, and memories of tens of steps
LINEAR = {"weights": 1.1, "others": 1.5}


def exponent(family, kind, name):
    if (family, kind) == SUMS and name.startswith("synapse"):
        return 2.1
    return LINEAR["weights" if "weight" in name and "neuron." not in name else "others"]


def test_every_block_with_parameters_is_studied():
    found = {(row["family"], row["kind"]) for row in STORED["steps"]}
    assert found == set(gradients.CELLS)
    assert len(gradients.CELLS) == 7 * 6 + 3 + 1 + 2 * 6


def test_no_gradient_grows_faster_than_linearly():
    for row in STORED["steps"]:
        most = exponent(row["family"], row["kind"], row["parameter"])
        assert row["exponent"] < most, row


@pytest.mark.parametrize(
    "kind", ["Dense", *(pytest.param(k, marks=pytest.mark.slow) for k in ("Recurrent", "KWTA"))]
)
@pytest.mark.parametrize("family", soon(("cuba", "rf"), gradients.SPIKING))
def test_short_form(family, kind):
    rows = list(gradients.against_steps([(family, kind)], (100, 300, 1000)))
    assert rows
    for _, _, name, found in rows:
        assert all(torch.isfinite(torch.tensor(list(found.values())))), name
        if "weight" in name:
            assert all(found.values()), name
            assert gradients.growth(found) < LINEAR["weights"], name


LARGE = [(f, k) for f in ("rf", "rf_iz", "adrf", "adrf_iz") for k in ("Recurrent", "KWTA")]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), LARGE)
def test_large_layers_over_many_steps_have_finite_gradients(family, kind):
    found = gradients.norms(family, kind, steps=2000, batch=1, neurons=2048)
    assert all(torch.isfinite(torch.tensor(value)) for value in found.values())
    assert all(value > 0 for name, value in found.items() if "weight" in name)


def test_the_page_shows_what_was_measured():
    page = (ROOT / "docs" / "gradients.md").read_text()
    rows = {(f"{r['family']}.{r['kind']}", r["parameter"]): r for r in STORED["steps"]}
    cells = re.findall(r"^\| (\w+\.\w+) \| ([\w.]+) \| (.*) \|$", page, flags=re.M)
    assert len(cells) > 10
    for block, parameter, numbers in cells:
        row = rows[block, parameter]
        want = [f"{v:.2g}" for v in row["norms"].values()] + [f"{row['exponent']:.2f}"]
        assert [n.strip() for n in numbers.split("|")] == want


@pytest.mark.slow
def test_the_table_and_the_picture_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gradients, "CELLS", [("cuba", "Dense"), ("rf", "KWTA")])
    monkeypatch.setattr(gradients, "STEPS", (5, 10, 20))
    monkeypatch.setattr(gradients, "SWEEPS", {"rate": (0.1, 0.3)})
    monkeypatch.setattr("sys.argv", ["gradients", "--folder", str(tmp_path)])
    gradients.main()
    written = json.loads((tmp_path / "gradients.json").read_text())
    assert {(r["family"], r["kind"]) for r in written["steps"]} == set(gradients.CELLS)
    assert written["sweeps"]
    assert (tmp_path / "gradients.svg").stat().st_size > 1000
    assert "gradients; the steepest grows" in capsys.readouterr().out


@pytest.mark.slow
def test_the_legend_covers_no_line(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.append(figure))
    gradients.picture(STORED["steps"], tmp_path / "a.svg")
    (figure,) = drawn
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*gradients.EVERY, "imaginary part"]
    box = legend.get_window_extent()
    whole = figure.bbox
    assert len(figure.axes) == 3
    for axes in figure.axes:
        assert not box.overlaps(axes.get_tightbbox())
        assert axes.get_tightbbox().y1 <= whole.y1
        assert axes.get_tightbbox().y0 >= whole.y0
