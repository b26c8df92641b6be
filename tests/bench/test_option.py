"""``pytest --benchmark`` collects the benchmarks, all of them and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases import cases

ROOT = Path(__file__).parent.parent.parent


OPTIONS = [
    "--benchmark",
    pytest.param("--benchmark-short", marks=pytest.mark.slow),
    pytest.param("--benchmark-update", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("option", OPTIONS)
def test_option_collects_the_benchmarks(option):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", option, "--collect-only", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert collected == [f"bench/test_speed.py::test_speed[{case}]" for case in cases()]
