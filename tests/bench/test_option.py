"""``pytest --benchmark`` collects the benchmarks, all of them and nothing else."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import peers
from bench.cases import cases
from bench.conftest import Run
from bench.kernels import TARGETS
from bench.test_compiled import NETS
from bench.test_stream import BLOCKS
from lapilli.benchmark import judge

ROOT = Path(__file__).parent.parent.parent


def run_with(options) -> Run:
    config: Any = SimpleNamespace(getoption=options.get)
    return Run(config)


OPTIONS = [
    pytest.param("--benchmark", marks=pytest.mark.slow),
    pytest.param("--benchmark-short", marks=pytest.mark.slow),
    pytest.param("--benchmark-update", marks=pytest.mark.slow),
    pytest.param("--peers", marks=pytest.mark.slow),  # all of the others, and more
]


@pytest.mark.parametrize("option", OPTIONS)
def test_option_collects_the_benchmarks(option):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", option, "--collect-only", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    compared = peers.cases() if option == "--peers" else []
    assert collected == [
        *(f"bench/test_compiled.py::test_step_of_training[{net}]" for net in NETS),
        *(f"bench/test_compiled.py::test_compiled_step_is_not_slower[{net}]" for net in NETS),
        *(f"bench/test_kernels.py::test_kernels[{target}]" for target in TARGETS),
        *(f"bench/test_peers.py::test_peers[{case}]" for case in compared),
        *(f"bench/test_speed.py::test_speed[{case}]" for case in cases()),
        *(f"bench/test_stream.py::test_step_of_a_stream[{block}]" for block in BLOCKS),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--benchmark-tolerance=1.5"], "--benchmark-tolerance is 1.5; expected a share above 0"),
        (["--benchmark-short", "--benchmark-update"], "leave one of"),
    ],
)
def test_wrong_options_are_refused(options, words):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--collect-only"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 4
    assert words in done.stderr


@pytest.mark.parametrize("short", [True, False])
def test_short_form_runs_on_one_thread(short, monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    options = {"benchmark_short": short, "benchmark_update": False}
    with run_with(options).threads():
        assert threads == [1] * short


@pytest.mark.parametrize(("given", "used"), [(None, judge.TOLERANCE), (0.6, 0.6)])
def test_tolerance_of_the_gate(given, used):
    options = {"benchmark_short": False, "benchmark_update": False, "benchmark_tolerance": given}
    assert run_with(options).tolerance == used
