"""Type checkers find lapilli where it is installed, nothing in what is right, and what is wrong."""

import inspect

import pytest
from checkers import CHECKERS, check_scripts, mistakes
from public import parameters, public

# h5py does not know whether a path of a file is a group
ANY = {"get_neuron_params.neuron_handle"}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_are_found_and_nothing_else(checker, tmp_path):
    check_scripts(checker, tmp_path)


@pytest.mark.slow
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
