"""Type checkers find lapilli where it is installed, nothing in what is right, and what is wrong."""

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from public import parameters, public

TYPED = Path(__file__).parent / "typed"
CHECKERS = ("pyright", "mypy")

# what takes anything, or objects of packages that need not be installed
ANY = {
    "LearningStats.writer", "from_nir.graph", "get_neuron_params.neuron_handle",
    "whole_number.value",
}  # fmt: skip


def mistakes(checker: str, script: Path) -> dict[int, str]:
    """Return what a type checker finds in a script, by line."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"needs {checker}, which `pip install '.[test]'` brings")
    cache = script.parent.parent / "mypy"  # of all tests of this run
    options = {
        "pyright": ("--outputjson", "--pythonpath", sys.executable),
        "mypy": ("--output=json", f"--cache-dir={cache}"),
    }
    done = subprocess.run(
        [sys.executable, "-m", checker, *options[checker], script],
        cwd=script.parent, capture_output=True, text=True, timeout=280, check=False,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    if checker == "pyright":
        found = json.loads(done.stdout)["generalDiagnostics"]
        lines = {d["range"]["start"]["line"] + 1: d["message"] for d in found}
    else:
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        lines = {d["line"]: d["message"] for d in found if d["severity"] == "error"}
    return lines


@pytest.fixture(params=CHECKERS)
def checker(request):
    return request.param


def copy(name: str, folder: Path) -> Path:
    """Put a script where a user's would be, away from the sources."""
    script = folder / name
    script.write_text((TYPED / name).read_text())
    return script


def test_nothing_is_found_in_a_right_script(checker, tmp_path):
    assert mistakes(checker, copy("right.py", tmp_path)) == {}


def test_every_mistake_is_found(checker, tmp_path):
    script = copy("wrong.py", tmp_path)
    lines = enumerate(script.read_text().splitlines(), 1)
    found = mistakes(checker, script)
    assert set(found) == {n for n, line in lines if line.endswith("# wrong")}, found


def test_every_argument_of_everything_public_is_checked(tmp_path):
    """Each by name, then each of a wrong type, then one that does not exist."""
    lines = ["from typing import Any", "class Wrong: ...", "anything: Any = 0"]
    wrong = {}
    for k, (module, name, thing) in enumerate(public()):
        known = parameters(thing)
        lines.append(f"from {module} import {name} as c{k}")
        if len(known) < len(inspect.signature(thing).parameters):
            continue  # a mixin: it passes on what it gets
        every = {p.name: "anything" for p in known}
        lines.append(f"c{k}({', '.join(f'{n}={v}' for n, v in every.items())})")
        for p in known:
            if f"{name}.{p.name}" not in ANY:
                given = every | {p.name: "Wrong()"}
                lines.append(f"c{k}({', '.join(f'{n}={v}' for n, v in given.items())})")
                wrong[len(lines)] = f"{module}.{name}({p.name}=)"
        lines.append(f"c{k}({', '.join(f'{n}={v}' for n, v in every.items())}, colour=0)")
        wrong[len(lines)] = f"{module}.{name}(colour=)"
    script = tmp_path / "calls.py"
    script.write_text("\n".join(lines) + "\n")
    found = mistakes("pyright", script)
    assert [(lines[n - 1], what) for n, what in found.items() if n not in wrong] == []
    assert [what for n, what in wrong.items() if n not in found] == []
    assert len(wrong) > 1000
