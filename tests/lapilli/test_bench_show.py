"""``lapilli bench show``, from the outside."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.image import imread

from lapilli.benchmark import show
from lapilli.benchmark.neurons import ARGUMENTS
from lapilli.program.cli import main

MACHINE = {"processor": "a processor", "threads": 2, "system": "b"}


def row(name, mode, **changes):
    return {
        "name": name, "shape": "dense", "mode": mode, "neuron_steps_per_clock_s": 1.5e9,
        "copy_GB_per_s": 20.0, "bytes_per_neuron_step": 8, "speedup": 50.0, "bandwidth_share": 0.6,
        "operators": 1, "saved_bytes": 0,
    } | changes  # fmt: skip


def known(**ratios):
    return {"counters": {"operators": 1}, "ratios": ratios}


def results(**changes):
    cases = {
        f"{name}-dense-{mode}": row(name, mode)
        for name in ARGUMENTS
        for mode in ("forward", "training")
    }
    return {
        "machine": MACHINE, "date": "2030-01-02T03:04:05+00:00", "versions": {"torch": "9 & 1"},
        "command": "pytest --benchmark", "cases": cases,
    } | changes  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def shown(capsys, *args):
    assert main(["bench", "show", *args]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def fails(capsys, *args):
    before = sorted(Path.cwd().rglob("*"))
    assert main(["bench", "show", *args]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"lapilli: error: [^\n]+\n", err)
    assert sorted(Path.cwd().rglob("*")) == before
    return err


def verdicts(out):
    lines = [line for line in out.splitlines() if "-dense-" in line]
    return {line.split()[0]: re.split(r"  +", line)[-1] for line in lines}


def cell(out, case):
    (line,) = [line for line in out.splitlines() if line.startswith(case)]
    return line.split()


def test_verdicts(capsys):
    write(Path("bench/results/cpu.json"), results())
    same = known(speedup=50.0, bandwidth_share=0.6)
    cases = dict.fromkeys(results()["cases"], same)
    cases["cuba-dense-forward"] = known(speedup=100.0, bandwidth_share=1.0)
    cases["alif-dense-forward"] = known(speedup=100.0, bandwidth_share=0.6)
    cases["rf-dense-forward"] = known(speedup=30.0, bandwidth_share=0.4)
    cases["rf-dense-training"] = known(speedup=30.0, bandwidth_share=0.5)
    cases["adrf-dense-forward"] = {"counters": {"operators": 0}, "ratios": {}}
    del cases["sigma_delta-dense-forward"]
    write(Path("bench/baselines/cpu.json"), {"machine": MACHINE, "cases": cases})
    out = shown(capsys)
    found = verdicts(out)
    assert found.pop("cuba-dense-forward") == "slower"
    assert found.pop("rf-dense-forward") == "faster"
    assert found.pop("adrf-dense-forward") == "more work: operators grew from 0 to 1"
    assert found.pop("sigma_delta-dense-forward") == "new"
    assert set(found.values()) == {"as before"}
    expected = ["cuba-dense-forward", "1500", "100", "50", "-50%", "100%", "60%", "-40%", "slower"]
    assert cell(out, "cuba-dense-forward") == expected
    for fact in ("bench/results/cpu.json", "a processor, 2 threads, 2030-01-02", "torch 9 & 1"):
        assert fact in out


def test_ratios_of_another_machine_are_not_judged(capsys):
    write(Path("r/results/cpu.json"), results())
    cases = {"cuba-dense-forward": known(speedup=500.0), "rf-dense-forward": known(speedup=5.0)}
    other = {"machine": MACHINE | {"threads": 8}, "cases": cases}
    write(Path("other.json"), other)
    out = shown(capsys, "r/results/cpu.json", "--baseline", "other.json")
    assert verdicts(out)["cuba-dense-forward"] == "no more work"
    assert verdicts(out)["rf-dense-forward"] == "no more work"
    assert "other.json, of another kind of machine" in out


def test_newest_results_are_shown_and_other_files_left_out(capsys):
    write(Path("bench/results/a.json"), results(date="2031-01-01T00:00:00+00:00"))
    write(Path("bench/results/z.json"), results())
    write(Path("bench/results/peers.json"), {"date": "2040", "machine": {}, "cases": {"x": {}}})
    write(Path("bench/results/broken.json"), "{")
    assert "results: bench/results/a.json\n" in shown(capsys)


def test_no_baseline(capsys):
    write(Path("bench/results/cpu.json"), results())
    out = shown(capsys)
    assert "baseline: none" in out
    assert set(verdicts(out).values()) == {"new"}


def test_picture_and_page(capsys):
    write(Path("bench/results/cpu.json"), results(command="<b>"))
    assert "cuba-dense-forward" in shown(capsys, "--png", "a.png", "--html", "a.html")
    image = imread("a.png")[..., :3]
    assert 0.05 < (image[..., 2] - image[..., 0] > 0.3).mean() < 0.4, "blue bars"
    page = Path("a.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == 1 + len(results()["cases"])
    assert 'src="data:image/svg+xml;base64,' in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_bars_and_ceilings():
    figure = show.picture(results())
    assert [axes.get_title() for axes in figure.axes] == ["forward", "training"]
    for axes in figure.axes:
        assert [bar.get_height() for bar in axes.patches] == [1500] * len(ARGUMENTS)
        (ceilings,) = axes.collections
        heights = [y for segment in ceilings.get_segments() for _, y in segment]
        assert heights == [2500] * 2 * len(ARGUMENTS)  # 20 GB/s over 8 bytes
        assert axes.get_ylim()[1] > 2500


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a JSON file"),
        ([1], "holds no throughput"),
        ({"machine": {}, "date": "", "cases": {}}, "holds no throughput"),
        (results(date=None), "holds no throughput"),
        (results(machine=None), "holds no throughput"),
        (results(cases={"a": {"work": 1}}), "holds no throughput"),
    ],
)
def test_file_of_another_kind(capsys, content, words):
    write(Path("a.json"), content)
    assert words in fails(capsys, "a.json")


def test_wrong_input(capsys):
    assert "no results in 'bench/results'" in fails(capsys)
    assert "none.json" in fails(capsys, "none.json")
    write(Path("a.json"), results())
    assert "holds no baselines" in fails(capsys, "a.json", "--baseline", "a.json")
    assert "none.json" in fails(capsys, "a.json", "--baseline", "none.json")
    assert "does not exist" in fails(capsys, "a.json", "--png", "nowhere/a.png")
    write(Path("few.json"), results(cases={"a": row("cuba", "forward")}))
    assert "no neuron of shape 'dense'" in fails(capsys, "few.json", "--html", "a.html")


def test_matplotlib_is_asked_for_only_where_it_draws(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    write(Path("a.json"), results())
    shown(capsys, "a.json")
    assert "pip install matplotlib (or in a clone" in fails(capsys, "a.json", "--png", "a.png")
