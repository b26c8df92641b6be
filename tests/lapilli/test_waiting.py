"""Threads of torch sleep while they wait, where the command line starts torch."""

import os
import subprocess
import sys

import pytest

SAYS = """
import os, sys
{first}
from lapilli.program.cli import main
assert main(["info"]) == 0
assert "torch" in sys.modules
print("policy", os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("first", "given", "expected"),
    [
        ("", {}, "PASSIVE"),
        pytest.param("", {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", marks=pytest.mark.slow),
        pytest.param("import torch", {}, "None", marks=pytest.mark.slow),
    ],
    ids=["unset", "given", "too late"],
)
def test_they_sleep_unless_told(first, given, expected):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
    command = [sys.executable, "-c", SAYS.format(first=first)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"policy {expected}\n")
