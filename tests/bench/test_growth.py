"""Time and memory grow with the work: the stored study, its page, and memory measured here."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from known import present
from lapilli.kernels.numbers.language import BACKEND

from bench import growth

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "bench" / "results" / "growth.json").read_text())
PAGE = (ROOT / "bench" / "README.md").read_text()
LONG = 8  # times as long, against which a call is held

on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory is asked of Linux"
)


def test_every_axis_is_stored_in_full():
    cases = STORED["cases"]
    assert set(cases) == {*growth.AXES, "stream"}
    for axis, (values, *_) in growth.AXES.items():
        assert [row["value"] for row in cases[axis]] == [*values], axis
    assert cases["stream"][-1]["value"] == growth.CALLS >= 100_000


def test_the_page_shows_what_was_measured():
    assert STORED["machine"]["processor"] in PAGE
    assert growth.stream_sentence(STORED) in " ".join(PAGE.split())
    for line in growth.table(STORED):
        assert line in PAGE
    assert "results/growth.svg" in PAGE


# work that is proportional: axis, mode; a row is held against the least of those before it
@pytest.mark.parametrize("mode", growth.MODES)
@pytest.mark.parametrize("axis", ["steps", "neurons", "samples", "layers"])
def test_no_stored_memory_grows_faster_than_the_work(axis, mode):
    found = [row[f"{mode}_bytes"] for row in STORED["cases"][axis]]
    work = [row["neuron_steps"] for row in STORED["cases"][axis]]
    large = [b for b, w in zip(found, work, strict=True) if w >= 1 << 20]
    assert large[-1] < 1.25 * large[0]


@on_linux
@pytest.mark.skipif(BACKEND != "auto", reason="what is measured are the compiled loops")
@pytest.mark.parametrize("mode", growth.MODES)
@pytest.mark.parametrize("axis", ["steps", pytest.param("samples", marks=pytest.mark.slow)])
def test_memory_does_not_grow_faster_than_the_work(axis, mode):
    steps, batch = 4000, 8
    sizes = [(batch, steps), (batch, LONG * steps) if axis == "steps" else (LONG * batch, steps)]
    found = []
    for samples, length in sizes:
        net, x, _ = growth._layers([64, 64], growth._input(samples, 64, length))
        small = growth._layers([64, 64], growth._input(2, 64, 16))
        growth.call_of(*small[:2], mode)()  # loads the loops
        call = growth.call_of(net, x, mode)
        most = growth.peak(call)
        if most is None:
            pytest.skip("this system does not forget how much memory was used")
        found.append(most / x.numel())
    assert found[0] > 4  # the output is among it
    assert found[1] < 1.25 * found[0]


@on_linux
def test_a_stream_takes_no_more_memory_the_longer_it_is():
    growth.stream(500)  # what is kept once
    first, *_, last = growth.stream(5000)
    assert present(last["resident"]) - present(first["resident"]) < 1 << 20


def test_peak_is_what_a_call_holds_at_most():
    if growth.peak(lambda: None) is None:
        pytest.skip("this system does not forget how much memory was used")
    size = 64 << 20
    found = present(growth.peak(lambda: torch.ones(size // 4).sum()))
    assert 0.9 * size < found < 1.2 * size
    assert present(growth.peak(lambda: None)) < 1 << 20


@pytest.mark.slow
def test_the_short_form_writes_table_and_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "AXES", {k: growth.AXES[k] for k in ("steps", "density")})
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr("sys.argv", ["growth", "--short", "--folder", str(tmp_path)])
    growth.main()
    written = json.loads((tmp_path / "growth.json").read_text())
    assert set(written["cases"]) == {"steps", "density", "stream"}
    assert all(row["forward_ns"] > 0 for row in written["cases"]["steps"])
    picture = (tmp_path / "growth.svg").read_text()
    assert picture.count('<g id="axes_') == 6
    assert len(re.findall(r"^\| (?:steps|density) \|", capsys.readouterr().out, re.M)) == 6


def test_an_axis_that_there_is_not_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["growth", "time"])
    with pytest.raises(SystemExit):
        growth.main()
    assert "time: expected steps, neurons" in capsys.readouterr().err
