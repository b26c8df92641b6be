"""The run on a GPU keeps every result, whatever one test does to the process it is in."""

import json
import os
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from known import present

sys.path.insert(0, str(Path(__file__).parent))
import run

PLANTED = """
import os, time
import pytest

def test_first(): pass

def test_fails(): assert 1 == 2

@pytest.mark.parametrize("n", [1, 2])
def test_after_a_failure(n): assert True

def test_dies(): os._exit(7)

@pytest.mark.skip(reason="not here")
def test_skipped(): pass

def test_after_a_death(): pass
"""


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setattr(run, "ROOT", Path(run.__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": str(run.ROOT / "tests/gpu")}


def stage_of(tmp_path, environment, limit=60.0, **files):
    for name, source in files.items():
        (tmp_path / f"test_{name}.py").write_text(source)
    work = [(str(tmp_path / f"test_{name}.py"), "") for name in files]
    return run.run_stage("suite", work, [sys.executable], tmp_path, limit, 2, environment)


def outcomes(stage):
    return {name.partition("::")[2]: test["outcome"] for name, test in stage.tests.items()}


@pytest.mark.slow
def test_each_test_stands_alone_and_its_result_is_kept(tmp_path, environment):
    stage = stage_of(tmp_path, environment, planted=PLANTED)
    assert outcomes(stage) == {
        "test_first": "passed", "test_fails": "failed", "test_after_a_failure[1]": "passed",
        "test_after_a_failure[2]": "passed", "test_dies": "failed", "test_skipped": "skipped",
        "test_after_a_death": "passed",
    }  # fmt: skip
    assert not stage.cut
    died = next(t for name, t in stage.tests.items() if name.endswith("test_dies"))
    assert "status 7" in died["text"]
    suite = ElementTree.parse(tmp_path / "suite.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("7", "2", "1")
    failure = present(suite.find(".//testcase[@name='test_fails']/failure"))
    assert "assert 1 == 2" in present(failure.text)


@pytest.mark.slow
def test_a_run_that_is_cut_loses_no_result(tmp_path, environment):
    slow = "import time\ndef test_quick(): pass\ndef test_slow(): time.sleep(600)\n"
    began = time.monotonic()
    stage = stage_of(tmp_path, environment, 12.0, slow=slow, quick="def test_other(): pass\n")
    assert time.monotonic() - began < 60
    assert outcomes(stage) == {
        "test_quick": "passed", "test_slow": "failed", "test_other": "passed",
    }  # fmt: skip
    assert [Path(file).name for file in stage.cut] == ["test_slow.py"]
    lines = (tmp_path / "suite").glob("*slow.jsonl")
    assert [json.loads(line)["outcome"] for line in next(lines).read_text().splitlines()][1:] == [
        "passed", "begun", "failed",
    ]  # fmt: skip


def test_a_file_that_cannot_be_read_fails(tmp_path, environment):
    stage = stage_of(tmp_path, environment, broken="import no_such_module\n")
    assert list(outcomes(stage).values()) == ["failed"]
    assert "no_such_module" in next(iter(stage.tests.values()))["text"]


def test_without_a_gpu_the_run_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("LAPILLI_OFFLINE", "1")
    monkeypatch.setattr(run, "_missing", lambda python: "its PyTorch sees no GPU")
    with pytest.raises(run.UsageError, match="no Python here can run the tests on a GPU"):
        run.find_python()


def test_what_a_python_lacks_is_named(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'it has no numba' >&2; exit 1\n")
    python.chmod(0o755)
    assert run._missing(str(python)) == "it has no numba"
    assert "No such file" in run._missing(str(tmp_path / "none"))


def test_an_unknown_stage_is_refused():
    with pytest.raises(run.UsageError, match="unknown stage 'all'; there are smoke, suite, bench"):
        run.main(["all"])


@pytest.mark.slow
def test_the_smoke_stage_rehearsed_on_the_cpu(tmp_path):
    assert run.main(["smoke", "--rehearse", "--out", str(tmp_path), "--limit", "600"]) == 0
    suite = ElementTree.parse(tmp_path / "smoke.xml").getroot()
    assert int(present(suite.get("tests"))) >= 26
