"""The examples of docstrings run, and everything public has one."""

import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lapilli.kernels.numbers.surrogate import SURROGATES

sys.path.insert(0, str(Path(__file__).parent / "slayer"))
import public

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def of_the_reference():
    """Yield every class and function that a page of the reference shows."""
    for page in sorted(REFERENCE.glob("*.md")):
        for module, options in re.findall(
            r"^\.\. automodule:: (\S+)\n((?:   :.*\n)*)", page.read_text(), flags=re.M
        ):
            if ":no-members:" in options:
                continue
            holder = importlib.import_module(module)
            named = re.search(r":members: (.*)", options)
            names = re.split(r",\s*", named[1]) if named else holder.__all__
            yield from (getattr(holder, name) for name in names)


def documented():
    """Public classes and functions by module, each once, under the name of its definition.

    Without errors, whose use is to be raised, and mixins, which blocks are made with.
    """
    found = {}
    for thing in (*(thing for _, _, thing in public.public()), *of_the_reference()):
        is_code = inspect.isfunction(thing) or inspect.isclass(thing)
        if is_code and not thing.__name__.startswith("Abstract"):
            is_error = inspect.isclass(thing) and issubclass(thing, Exception)
            if thing.__module__.startswith("lapilli.") and not is_error:
                found.setdefault(thing.__module__, set()).add(thing.__qualname__)
    return found


def has_example(module, name):
    thing = importlib.import_module(module)
    for part in name.split("."):
        thing = getattr(thing, part)
    return ">>>" in (thing.__doc__ or "")


DOCUMENTED = documented()
LACKING = [  # here, as fixtures replace some functions
    f"{module}.{name}"
    for module, names in DOCUMENTED.items()
    for name in sorted(names)
    if not has_example(module, name)
]
# what an example changes in all of the process
APART = {"lapilli.kernels.executors.memory": "how the C library allocates"}


def test_what_is_public_is_found():
    assert {"fit", "Rates"} <= DOCUMENTED["lapilli.training"]
    assert {"Own", "Options"} <= DOCUMENTED["lapilli.recordings.own"]
    assert {"cuba", "cuba_dynamics"} <= DOCUMENTED["lapilli.kernels.recurrences.cuba"]
    assert {"rate", "delta"} <= DOCUMENTED["lapilli.encode"]
    assert "Dense" in DOCUMENTED["lapilli.blocks.cuba"]
    assert sum(map(len, DOCUMENTED.values())) > 200


def test_everything_public_has_an_example():
    assert not LACKING


@pytest.fixture
def own_surrogates():
    """Forget the surrogates that an example adds."""
    before = dict(SURROGATES)
    yield
    SURROGATES.clear()
    SURROGATES.update(before)


@pytest.mark.parametrize("module", sorted(DOCUMENTED.keys() - APART))
@pytest.mark.usefixtures("own_surrogates")
@pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")
def test_examples(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(importlib.import_module(module), optionflags=options)
    assert result.failed == 0
    assert result.attempted > 0
    assert os.getcwd() == str(tmp_path)


@pytest.mark.parametrize("module", APART)
def test_examples_in_a_process_of_their_own(module, tmp_path):
    script = f"import doctest, {module} as m; r = doctest.testmod(m); print(r.failed, r.attempted)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    failed, attempted = map(int, done.stdout.split())
    assert (failed, attempted > 0) == (0, True)
