"""Triton's interpreter gives the oracles' results: the kernels themselves run, without a GPU.

The backend is chosen for a whole process, when lapilli is imported.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from recurrences import TABLE, VARIANTS


@pytest.mark.parametrize("recurrence", TABLE, ids=repr)
def test_fixed_problems_equal_oracle_in_the_interpreter(recurrence):
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"),
        *("test_recurrences.py", "-k", f"fixed_problem and {recurrence.name}-", "--tb=short"),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | {"LAPILLI_BACKEND": "interpret"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) == len(VARIANTS) + 1
