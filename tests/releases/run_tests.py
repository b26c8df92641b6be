# ruff: noqa: T201 (prints what it finds)
"""Run the quick tests on the oldest releases that pyproject.toml admits, or on the newest.

    python tests/releases/run_tests.py oldest [--python PYTHON] [what pytest is to run]
    python tests/releases/run_tests.py newest [--python PYTHON] [what pytest is to run]

``oldest`` installs the lower bound of each requirement, of the optional ones too, for the oldest
Python; ``newest`` whatever pip finds for the Python that is given. Each has an environment of its
own under build/releases, made once; ``newest`` is brought up to date each time. Beside it lie what
pytest has said (pytest.log) and a summary (report.txt): releases, failures, and each reason for
which tests were skipped. Exit status 1 if a test fails.

pip chooses the build of torch, as everywhere: by itself it takes one for CUDA, of 5 GB. Where an
index or a folder with builds for CPUs is set up for pip, it takes that.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "releases"
SHOWN = ("torch", "triton", "numba", "numpy", "h5py", "pytest")
_BOUND = re.compile(r"([\w.-]+(?:\[[\w,-]+\])?)>=([\w.]+)(\s*;.*)?")


def bounds(project: dict[str, Any]) -> list[str]:
    """Return all requirements of a project, with ``==`` in the place of ``>=``.

    Raises
    ------
    ValueError
        For a requirement that is not one lower bound.
    """
    groups = project["dependencies"], *project["optional-dependencies"].values()
    pins = []
    for requirement in (r for group in groups for r in group):
        if requirement.startswith(project["name"] + "["):
            continue
        found = _BOUND.fullmatch(requirement)
        if found is None:
            raise ValueError(
                f"pyproject.toml asks for {requirement!r}; expected a name, '>=' and the oldest "
                "release that works, for that is what `make oldest` installs"
            )
        pins.append(f"{found[1]}=={found[2]}{found[3] or ''}")
    return list(dict.fromkeys(pins))


def oldest_python(project: dict[str, Any]) -> tuple[int, ...]:
    """Return the oldest Python that a project admits, (3, minor)."""
    return tuple(map(int, project["requires-python"].removeprefix(">=").split(".")))


def find_python(given: str, wanted: tuple[int, ...] | None) -> str:
    """Return the Python to use.

    Raises
    ------
    SystemExit
        If it is not there, or not the one that is wanted.
    """
    path = shutil.which(given)
    release = ".".join(map(str, wanted)) if wanted else "that lapilli admits"
    how = f"give the path of a Python {release}: --python PATH, or with make PYTHON310=PATH for"
    how += " the oldest releases and PYTHON=PATH for the newest"
    if path is None:
        raise SystemExit(f"there is no {given} here; {how}")
    code = "import sys; print(*sys.version_info[:2], sep='.')"
    found = subprocess.run([path, "-c", code], capture_output=True, text=True, check=True)
    if wanted is not None and found.stdout.strip() != release:
        raise SystemExit(f"{given} is Python {found.stdout.strip()}; {how}")
    return path


def prepare(folder: Path, python: str, extras: str, pins: Sequence[str]) -> Path:
    """Return the Python of an environment with the releases; make it first if need be.

    Without ``pins`` they are the newest, and pip is asked each time.

    Raises
    ------
    SystemExit
        If pip does not find them, or they do not go together.
    """
    environment, installed = folder / "venv", folder / "installed"
    inside = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = "\n".join([str(Path(python).resolve()), extras, *pins])
    made = installed.exists() and installed.read_text() == wanted
    if made and pins:
        return inside
    if not made:
        installed.unlink(missing_ok=True)
        subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
    install = [inside, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[{extras}]"]
    upgrade = [] if pins else ["--upgrade", "--upgrade-strategy", "eager"]
    if subprocess.run([*install, *upgrade, *pins], check=False).returncode:
        raise SystemExit("pip could not install these releases; what it said is above")
    installed.write_text(wanted)
    return inside


def releases(python: Path) -> dict[str, str]:
    """Return what an environment has of Python and of the packages that matter most."""
    code = (
        "import importlib.metadata as m, json, platform; print(json.dumps({'Python': "
        f"platform.python_version()}} | {{n: m.version(n) for n in {SHOWN!r}}}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(found: dict[str, str], results: Path) -> tuple[list[str], bool]:
    """Return the lines of the summary, and whether all is well."""
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [s for s in (c.find("skipped") for c in cases) if s is not None]
    reasons = Counter(s.get("message", "") for s in skipped)
    passed = len(cases) - len(failed) - len(skipped)
    lines = [", ".join(f"{name} {version}" for name, version in found.items())]
    lines.append(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    lines += [f"failed: {c.get('classname')}::{c.get('name')}" for c in failed]
    lines += [f"skipped {n}: {reason}" for reason, n in reasons.most_common()]
    return lines, bool(passed) and not failed


def run_suite(python: Path, folder: Path, chosen: Sequence[str]) -> bool:
    """Run the tests, print the summary and write it; return whether all is well."""
    results, log = folder / "results.xml", folder / "pytest.log"
    results.unlink(missing_ok=True)
    options = ["--numprocesses", "auto", "--dist", "loadfile", f"--junit-xml={results}"]
    print(f"the tests run; {log} says how far they are", flush=True)
    with log.open("w") as file:
        code = subprocess.run(
            [python, "-m", "pytest", *options, *chosen],
            stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, check=False,
        ).returncode  # fmt: skip
    if not results.exists():
        print(f"pytest ended with {code} before it ran a test; see {log}")
        return False
    lines, well = report(releases(python), results)
    (folder / "report.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return well and code == 0


def main(arguments: Sequence[str]) -> int:
    """Make the environment and run the tests in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("which", choices=("oldest", "newest"))
    parser.add_argument("--python", help="by default the oldest that lapilli admits, or this one")
    given, chosen = parser.parse_known_args(arguments)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted, pins = None, []
    python = given.python or sys.executable
    if given.which == "oldest":
        wanted, pins = oldest_python(project), bounds(project)
        python = given.python or f"python{wanted[0]}.{wanted[1]}"
    python = find_python(python, wanted)
    folder = FOLDER / given.which
    folder.mkdir(parents=True, exist_ok=True)
    inside = prepare(folder, python, ",".join(project["optional-dependencies"]), pins)
    return 0 if run_suite(inside, folder, chosen) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
