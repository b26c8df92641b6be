"""``lapilli kernels`` from the outside, and the page that it writes."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof import catalogue
from lapilli.kernels.proof.prediction import REACHED

from lapilli.program import kernel_page, kernel_report
from lapilli.program.cli import main

pytestmark = pytest.mark.skipif(BACKEND != "auto", reason="kernels are compiled for a GPU")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def report():
    return kernel_report.build(["sm_90", "sm_120"], ["sigma"])


def fails(capsys, *args):
    """Exit status 2, one line on stderr, nothing written; returns the line."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(["kernels", *args]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"lapilli: error: [^\n]+\n", err)
    assert sorted(Path.cwd().rglob("*")) == before
    return err


def test_report(report):
    assert report["targets"] == ["sm_90", "sm_120"]
    assert list(report["devices"]) == ["H100", "H200"]
    assert "nothing here was measured" in report["note"]
    rows = report["kernels"]
    assert [(r["mode"], r["target"]) for r in rows] == [
        (mode, target) for target in report["targets"] for mode in ("inference", "backward")
    ]
    row = rows[0]
    assert (row["kernel"], row["function"]) == ("sigma", "_sigma_kernel")
    assert (row["spills"], row["shared"]) == (0, 0)
    assert row["loads"] == row["stores"] == {"4": 1.0}
    assert row["bytes"] == row["accessed"] == 8
    assert 5 < row["instructions"] == row["slots"] < 20
    assert row["intensity"] == pytest.approx(row["slots"] / 8, abs=1e-3)
    h100, h200 = row["predictions"]
    assert (h100["device"], h200["device"]) == ("H100", "H200")
    assert h100["filled"]["bound"] == "memory"
    assert h100["filled"]["neuron_steps_per_s"] == pytest.approx(REACHED * 3.35e12 / 8)
    assert h100["batch"]["neurons"] == 128 * 512
    for found in (h100["batch"], h100["filled"]):
        work = found["neurons"] * found["steps"]
        seconds = max(found[f"{bound}_s"] for bound in ("memory", "issue", "latency"))
        assert found["neuron_steps_per_s"] == pytest.approx(work / seconds)
        assert found[f"{found['bound']}_s"] == seconds
    assert rows[-1]["predictions"] == []


def test_table(capsys):
    assert main(["kernels", "--kernel", "sigma", "--target", "sm_90", "sm_120", "sm_90"]) == 0
    out, err = capsys.readouterr()
    assert "nothing here was measured on a GPU" in out
    assert re.search(r"No GPU here|GPU here: ", out)
    assert re.search(
        r"^sm_90\n  kernel +regs .*H100 filled.*\n  sigma, inference +\d+ +0 ", out, re.M
    )
    assert re.search(r"^sm_120\n  kernel +regs +.*slots/B\n  sigma, inference ", out, re.M)
    assert len(re.findall("sigma, backward", out)) == 2
    assert "compiled 4 of 4" in err


def test_json_on_the_standard_output(capsys):
    assert main(["kernels", "--kernel", "sigma", "--target", "sm_90", "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["kernels"]) == 2


@pytest.mark.slow
def test_files(capsys):
    command = ["kernels", "--kernel", "sigma", "--target", "sm_90"]
    assert main([*command, "--json", "a.json", "--html", "a.html"]) == 0
    assert "sigma, inference" in capsys.readouterr().out
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["a.html", "a.json"]
    assert json.loads(Path("a.json").read_text())["kernels"][0]["kernel"] == "sigma"
    assert Path("a.html").read_text().startswith("<!DOCTYPE html>")


class Page(HTMLParser):
    """Tags that are open, all names of tags, and what attributes refer to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.references = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta",):
            self.open.append(tag)
        self.references += [v for k, v in attributes if k.endswith(("href", "src"))]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_needs_nothing_else(report):
    text = kernel_page.page(report)
    page = Page(text)
    assert page.open == []
    assert page.tags.count("svg") == 1
    assert page.tags.count("table") == 2
    assert page.tags.count("tr") == 6
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"https?:|//\w|@import|<script|<link|<img", text)
    assert "nothing here was measured" in text


def test_page_without_devices(report):
    text = kernel_page.page(report | {"targets": ["sm_120"], "devices": {}})
    assert "svg" not in Page(text).tags


def test_rooflines_hold_every_prediction(report):
    panels = [p for p in kernel_page.rooflines(report).axes if p.get_visible()]
    assert [p.get_title() for p in panels] == ["H100", "H200"]
    for panel in panels:
        assert len(panel.collections) == 2 * 2 + 5 * (panel is panels[0])
        (roof,) = panel.lines
        (x, *_), (y, *_) = roof.get_data()
        assert y / x == pytest.approx(report["devices"][panel.get_title()]["bandwidth_bytes_per_s"])


def test_spills_are_marked(report):
    row = report["kernels"][0] | {"spills": 3}
    assert 'class="bad">3<' in kernel_page.page(report | {"kernels": [row]})
    assert 'class="bad"' not in kernel_page.page(report)


def test_wrong_input(capsys):
    assert "unknown target 'sm_91'; there are: sm_80, sm_90" in fails(capsys, "--target", "sm_91")
    assert f"there are: {', '.join(catalogue.names())}" in fails(capsys, "--kernel", "cuba", "cub")
    assert "expected at least one argument" in fails(capsys, "--target")


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_files_that_cannot_be_written(capsys, option, monkeypatch):
    def never(*_):
        raise AssertionError("compiled before the file was tried")

    monkeypatch.setattr(kernel_report, "build", never)
    assert "folder" in fails(capsys, option, "missing/file")
    Path("folder").mkdir()
    assert "is a folder" in fails(capsys, option, "folder")


def test_missing_extra(capsys, monkeypatch):
    for name in [m for m in sys.modules if m.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "matplotlib is not installed" in fails(capsys, "--html", "a.html")


def test_other_backends_have_no_gpu_kernels(tmp_path):
    code = "import sys; from lapilli.program.cli import main; sys.exit(main(['kernels']))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"LAPILLI_BACKEND": "interpret"},
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "LAPILLI_BACKEND is 'interpret'; unset it" in done.stderr


@pytest.mark.slow
def test_processes_give_the_same_report(monkeypatch, report):
    monkeypatch.setattr(kernel_report, "_FEW", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    seen = []
    other = kernel_report.build(
        ["sm_90", "sm_120"], ["sigma"], lambda done, total: seen.append((done, total))
    )
    assert other == report
    assert seen == [(k, 4) for k in (1, 2, 3, 4)]
