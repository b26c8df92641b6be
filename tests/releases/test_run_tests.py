"""The run on the oldest and the newest releases: what it installs, and what it says."""

import subprocess
import sys
from pathlib import Path

import pytest
import run_tests

PROJECT = run_tests.tomllib.loads((run_tests.ROOT / "pyproject.toml").read_text())["project"]

PLANTED = """
import pytest

def test_passes(): pass

def test_fails(): assert 1 == 2

@pytest.mark.skip(reason="not on this release")
def test_skipped(): pass
"""


def test_every_requirement_is_one_lower_bound():
    pins = run_tests.bounds(PROJECT)
    assert "torch==2.7" in pins
    assert "pyright[nodejs]==1.1.414" in pins
    assert any(pin.startswith("triton==3.3; ") for pin in pins)
    assert len(pins) == len({pin.split("==")[0] for pin in pins}), "a package has two lower bounds"


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy>=1.26,<3", "numpy~=1.26"])
def test_another_requirement_is_refused(requirement):
    project = {"name": "a", "dependencies": [requirement], "optional-dependencies": {}}
    with pytest.raises(ValueError, match="expected a name, '>=' and the oldest release"):
        run_tests.bounds(project)


def test_requirements_of_the_project_itself_are_left_out():
    extras = {"one": ["numpy>=2"], "all": ["a[one]", "numpy>=2"]}
    project = {"name": "a", "dependencies": [], "optional-dependencies": extras}
    assert run_tests.bounds(project) == ["numpy==2"]


def test_a_python_that_is_missing_is_said():
    with pytest.raises(SystemExit, match=r"no python3\.10x here.*Python 3\.10: .*PYTHON310=PATH"):
        run_tests.find_python("python3.10x", (3, 10))


def test_a_wrong_python_is_said():
    with pytest.raises(SystemExit, match=r"is Python 3\.\d+; give the path of a Python 3\.9"):
        run_tests.find_python(sys.executable, (3, 9))
    assert Path(run_tests.find_python(sys.executable, sys.version_info[:2])) == Path(sys.executable)


@pytest.fixture
def pip(monkeypatch):
    """What is called in place of pip and venv."""
    calls = []

    def run(command, **options):
        calls.append([str(word) for word in command])
        return subprocess.CompletedProcess(command, returncode=0)

    monkeypatch.setattr(run_tests.subprocess, "run", run)
    return calls


def test_the_oldest_are_installed_once(tmp_path, pip):
    for pins in (["numpy==1.26"], ["numpy==1.26"], ["numpy==2"]):
        run_tests.prepare(tmp_path, sys.executable, "test", pins)
    made, first, again, second = pip
    assert made == again
    assert "venv" in made
    assert first[-1] == "numpy==1.26"
    assert second[-1] == "numpy==2"
    assert "--upgrade" not in first


def test_pip_is_asked_for_the_newest_each_time(tmp_path, pip):
    for _ in range(2):
        run_tests.prepare(tmp_path, sys.executable, "test", [])
    made, first, second = pip
    assert "venv" in made
    assert first == second
    assert "--upgrade" in first


def test_what_pip_cannot_install_is_said(tmp_path, monkeypatch):
    done = lambda command, **options: subprocess.CompletedProcess(command, "pip" in command)  # noqa: E731
    monkeypatch.setattr(run_tests.subprocess, "run", done)
    with pytest.raises(SystemExit, match="pip could not install"):
        run_tests.prepare(tmp_path, sys.executable, "test", ["numpy==1.26"])
    assert not (tmp_path / "installed").exists()


@pytest.mark.parametrize("failing", [True, False])
def test_the_summary_names_releases_failures_and_reasons(tmp_path, monkeypatch, capsys, failing):
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    (tmp_path / "test_planted.py").write_text(PLANTED)
    chosen = ["-p", "no:cacheprovider", *([] if failing else ["-k", "not fails"])]
    assert run_tests.run_suite(Path(sys.executable), tmp_path, chosen) is not failing
    said = (tmp_path / "report.txt").read_text()
    assert capsys.readouterr().out.endswith(said)
    assert said.startswith(f"Python {sys.version.split()[0]}, torch ")
    assert f"1 passed, {int(failing)} failed, 1 skipped" in said
    assert ("failed: test_planted::test_fails" in said) == failing
    assert "skipped 1: not on this release" in said


def test_a_run_without_a_test_is_no_success(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    assert not run_tests.run_suite(Path(sys.executable), tmp_path, ["--no-such-option"])
    assert "before it ran a test" in capsys.readouterr().out


def test_make_passes_the_python(tmp_path):
    make = ["make", "--dry-run", "releases", "PYTHON310=/a/python3.10", "PYTHON=/a/python3.14"]
    done = subprocess.run(make, cwd=run_tests.ROOT, capture_output=True, text=True, check=True)
    assert "run_tests.py oldest --python /a/python3.10\n" in done.stdout
    assert "run_tests.py newest --python /a/python3.14\n" in done.stdout
