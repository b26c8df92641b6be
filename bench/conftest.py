"""Options, state and report of a run of the benchmarks."""

import contextlib
import sys

import pytest
import torch

from lapilli.benchmark import judge, results
from lapilli.benchmark.counters import OneThread

from . import peers, report
from .cases import cases
from .kernels import Kernels

RUN = pytest.StashKey["Run"]()


class Run:
    """What the cases of a session share."""

    def __init__(self, config: pytest.Config):
        self.short = config.getoption("benchmark_short")
        self.update = config.getoption("benchmark_update")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.rows: dict[str, dict] = {}
        self.figures: list[str] = []  # a line each, of what is in no table
        self.results: dict[str, judge.Result] = {}
        tolerance = config.getoption("benchmark_tolerance")
        self.tolerance = judge.TOLERANCE if tolerance is None else tolerance
        self.peers: dict[str, dict] = {}
        self.absent: dict[str, str] = {}
        self.baselines_path = report.BENCH / "baselines" / f"{results.label(self.device)}.json"
        self.baselines = results.read(self.baselines_path)
        self.kernels = Kernels()
        machine = results.machine(self.device)
        self.judged = judge.same_machine(machine, self.baselines.get("machine", {}))

    def threads(self) -> contextlib.AbstractContextManager:
        """Context of a case: in the short form one thread, for machines that are busy.

        Threads of torch spin while they wait for one that another program holds up.
        """
        return OneThread() if self.short else contextlib.nullcontext()

    def baseline(self, case: str) -> dict:
        """Baseline of a case; empty while baselines are rewritten."""
        return {} if self.update else self.baselines.get("cases", {}).get(case, {})

    def write(self, command: str) -> list[str]:
        """Write what was measured and return the report."""
        lines = report.table(self.rows)
        path = report.path(self.device)
        if len(self.rows) == len(cases()):
            results.write(path, report.document(self.rows, self.device, command))
            lines.append(f"\nresults: {path}")
        else:
            lines.append(f"\n{path} was not written: not all cases ran")
        if self.update:
            machine = results.machine(self.device)
            stored = judge.baselines(self.results, machine, self.baselines)
            results.write(self.baselines_path, stored)
            lines.append(f"baselines: {self.baselines_path} (rewritten)")
        elif not self.judged:
            lines.append(
                f"{self.baselines_path} is from another kind of machine: counters were judged, "
                "ratios were not"
            )
        return lines

    def write_peers(self, command: str) -> list[str]:
        """Write what was measured beside other libraries and return the report."""
        lines = [*peers.table(self.peers), "", *peers.differences(), "", *self.absent.values()]
        path = report.path(self.device, "peers-")
        if len(self.peers) == len(peers.cases()) and not self.short:
            with OneThread():
                document = report.document(self.peers, self.device, command)
            document["versions"] |= peers.versions()
            results.write(path, document)
            lines.append(f"results: {path}")
        else:
            lines.append(f"{path} was not written: not all cases ran in full")
        return lines


@pytest.fixture
def run(pytestconfig):
    run = pytestconfig.stash[RUN]
    with run.threads():
        yield run


@pytest.fixture
def shown(pytestconfig):
    """Show a figure at the end of the run."""
    return pytestconfig.stash[RUN].figures.append


def pytest_configure(config):
    config.stash[RUN] = Run(config)


def pytest_ignore_collect(collection_path, config):
    if collection_path.name == "test_peers.py" and not config.getoption("peers"):
        return True
    return None


def pytest_terminal_summary(terminalreporter, config):
    run = config.stash[RUN]
    command = "pytest " + " ".join(sys.argv[1:])
    for title, rows, write in (
        ("benchmarks", run.rows, run.write),
        ("kernels", run.kernels.found, lambda _command: run.kernels.write(run.update)),
        ("other libraries", run.peers or run.absent, run.write_peers),
        ("figures", run.figures, lambda _command: run.figures),
    ):
        if rows:
            terminalreporter.section(title)
            for line in write(command):
                terminalreporter.line(line)
