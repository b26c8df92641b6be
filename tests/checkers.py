"""Run type checkers on scripts, as a user's editor does."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKERS = ("pyright", "mypy")
SCRIPTS = Path(__file__).parent / "slayer" / "typed"


def mistakes(checker: str, script: Path, python: str | Path = sys.executable) -> dict[int, str]:
    """Return what a type checker finds in a script, by line; it looks into python's packages."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"needs {checker}, which `pip install '.[test]'` brings")
    cache = script.parent.parent / "mypy"  # of all tests of this run
    options = {
        "pyright": ("--outputjson", "--pythonpath", python),
        "mypy": ("--output=json", "--python-executable", python, f"--cache-dir={cache}"),
    }
    done = subprocess.run(
        [str(c) for c in (sys.executable, "-m", checker, *options[checker], script)],
        cwd=script.parent, capture_output=True, text=True, timeout=280, check=False,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    if checker == "pyright":
        found = json.loads(done.stdout)["generalDiagnostics"]
        return {d["range"]["start"]["line"] + 1: d["message"] for d in found}
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {d["line"]: d["message"] for d in found if d["severity"] == "error"}


def check_scripts(checker: str, folder: Path, python: str | Path = sys.executable) -> None:
    """Raise unless nothing is found in right.py, and in wrong.py what is marked, nothing else.

    The scripts run in ``folder``, where a user's would be, away from the sources.
    """
    for name in ("right.py", "wrong.py"):
        script = folder / name
        script.write_text((SCRIPTS / name).read_text())
        found = mistakes(checker, script, python)
        lines = enumerate(script.read_text().splitlines(), 1)
        marked = {n for n, line in lines if line.endswith("# wrong")}
        assert set(found) == marked, (name, found)
        assert bool(marked) == (name == "wrong.py")
