"""Triton's interpreter gives the oracles' results: the kernels themselves run, without a GPU.

The backend is chosen for a whole process, when lapilli is imported.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from known import present
from problems import SLOW
from recurrences import FULL, PAIRS, RAGGED, TABLE

pytestmark = pytest.mark.turns

# that of currents, those of rotations, that of differences
NAMES = [repr(r) for r in TABLE] if SLOW else ["cuba", "rf", "sigma_delta"]
SOON = [pair for pair in PAIRS if not pair.marks]  # the subprocess skips what is slow, as here


def passed(expression: str) -> int:
    """Run tests of the recurrences in the interpreter; return how many passed."""
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"),
        *("test_recurrences.py", "-k", expression, "--tb=short"),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | {"LAPILLI_BACKEND": "interpret"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return int(present(re.search(r"(\d+) passed", done.stdout))[1])


def test_several_programs_and_all_inputs_equal_oracle():
    """Ragged edges, every pointer, both ways of rounding, and inputs that are not contiguous."""
    expression, chosen = "several or strides", []
    if not SLOW:  # else the next test runs them all
        expression += " or (fixed_problem and (state or power or dynamics and learned))"
        chosen = [p for p in SOON if re.search("state|power|dynamics, learned", p.id)]
        chosen = [p for p in chosen if any(name in p.id for name in NAMES)]  # as -k does
    of_names = " or ".join(NAMES)
    assert passed(f"({expression}) and ({of_names})") == 2 * len(NAMES) + len(chosen)


@pytest.mark.slow
def test_every_variant_equals_oracle():
    assert passed("fixed_problem") == len(PAIRS) + len(TABLE)  # with LAPILLI_SLOW, as here


@pytest.mark.slow
def test_shapes_that_fill_programs_partly_equal_oracle():
    """With a watch over every address, as all that runs in the interpreter (tests/guarded.py)."""
    assert passed("ragged") == len(RAGGED) * len(FULL)
