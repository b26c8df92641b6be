"""The gate of the GPU kernels: planted growth, narrower accesses, another Triton."""

from dataclasses import replace

import pytest
from lapilli.kernels.numbers.language import BACKEND

from bench import kernels
from bench.kernels import Kernels
from bench.report import BENCH
from lapilli.benchmark import results

ROW = {
    "kernel": "cuba", "mode": "training", "target": "sm_90", "registers": 56, "spills": 0,
    "shared": 0, "instructions": 28.75, "bytes": 12.0, "accessed": 12.0,
    "executed": 31.5, "touched": 12.0, "conflicts": 0.0,
    "loads": {"4": 1.0}, "stores": {"4": 1.0, "16": 0.25}, "intensity": 2.4, "predictions": [],
}  # fmt: skip


def document(triton="3.7.1", **changes):
    return {"triton": triton, "kernels": [ROW | changes]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "kernels.json"
    first = Kernels(path)
    assert first.add(document()) == []
    assert first.write(update=True) == [f"baselines: {path} (rewritten)"]
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, None),
        ({"registers": 48, "instructions": 20.0, "loads": {"16": 0.25}}, None),
        ({"registers": 64}, "registers grew from 56 to 64"),
        ({"spills": 2}, "spills grew from 0 to 2"),
        ({"shared": 1024}, "shared grew from 0 to 1024"),
        ({"instructions": 28.875}, "instructions grew from 28.75 to 28.875"),
        ({"bytes": 16.0}, "bytes grew from 12.0 to 16.0"),
        ({"accessed": 12.5}, "accessed grew from 12.0 to 12.5"),
        ({"executed": 32.0}, "executed grew from 31.5 to 32.0"),
        ({"touched": 16.0}, "touched grew from 12.0 to 16.0"),
        ({"conflicts": 0.25}, "conflicts grew from 0.0 to 0.25"),
        ({"loads": {"2": 2.0}}, "the narrowest load shrank from 4 to 2 bytes"),
        ({"stores": {"1": 4.0, "16": 0.25}}, "the narrowest store shrank from 4 to 1 bytes"),
    ],
)
def test_growth_is_found(path, changes, sentence):
    worse = Kernels(path).add(document(**changes))
    assert worse == ([f"cuba, training, sm_90: {sentence}"] if sentence else [])


def test_another_triton_is_not_judged(path):
    run = Kernels(path)
    assert run.add(document("3.8.0", registers=200)) == []
    (line,) = run.write(update=False)
    assert "from Triton 3.7.1, this is 3.8.0" in line
    assert "were not judged" in line
    run.write(update=True)
    assert Kernels(path).known["triton"] == "3.8.0"


def test_kernel_without_a_baseline_is_named(path):
    run = Kernels(path)
    assert run.add(document(mode="inference")) == []
    assert run.write(update=False) == ["kernels without a baseline: cuba, inference, sm_90"]
    run.write(update=True)
    assert list(Kernels(path).known["cases"]) == ["cuba, inference, sm_90", "cuba, training, sm_90"]
    assert Kernels(path).write(update=False) == []


def test_stored_baselines_hold_no_prediction():
    content = results.read(kernels.PATH)
    for name, row in content["cases"].items():
        assert row.keys() == {"counters", "narrowest"}
        executed = kernels.EXECUTED if name.endswith(kernels.SHORT) else ()
        assert row["counters"].keys() == {*kernels.COUNTERS, *executed}


auto = pytest.mark.skipif(BACKEND != "auto", reason="kernels are compiled for a GPU")


@pytest.mark.slow
@auto
def test_planted_work_is_found(tmp_path, monkeypatch):
    """Arithmetic that is not needed, then too few registers, each in the compiled kernel."""
    from lapilli.kernels.proof import aot, catalogue

    from lapilli.program import kernel_report

    entry = next(e for e in catalogue.entries("cuba") if e.mode == "training")
    run = Kernels(tmp_path / "kernels.json")

    def worse(entry):
        rows = [kernel_report.describe(entry, "sm_90")]
        return " ".join(run.add({"triton": "here", "kernels": rows}))

    worse(entry)
    run.write(update=True)
    run = Kernels(run.path)
    assert worse(entry) == ""
    *flags, exact, care = entry.launch.constants
    assert exact
    inexact = replace(entry.launch, constants=(*flags, False, care))
    assert "instructions grew from 28" in worse(replace(entry, launch=inexact))

    options = aot.launch_options
    monkeypatch.setattr(aot, "launch_options", lambda *a: options(*a) | {"maxnreg": 32})
    found = worse(entry)
    assert "spills grew from 0 to" in found
    assert "registers" not in found


@auto
def test_every_architecture_is_judged():
    from lapilli.kernels.proof import aot

    assert tuple(aot.TARGETS) == kernels.TARGETS


@auto
def test_baselines_hold_every_kernel():
    from lapilli.kernels.proof import catalogue

    listed = list(catalogue.entries(*catalogue.names()))
    stored = results.read(kernels.PATH)["cases"]
    assert stored.keys() == {f"{entry}, {target}" for entry in listed for target in kernels.TARGETS}
    assert f"all {len(stored)} uses" in (BENCH / "README.md").read_text()
