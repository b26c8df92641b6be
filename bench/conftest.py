"""Options, state and report of a run of the benchmarks."""

import sys

import pytest
import torch

from . import gate, report
from .cases import cases

RUN = pytest.StashKey["Run"]()


class Run:
    """What the cases of a session share."""

    def __init__(self, config: pytest.Config):
        self.short = config.getoption("benchmark_short")
        self.update = config.getoption("benchmark_update")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.rows: dict[str, dict] = {}
        self.results: dict[str, gate.Result] = {}
        self.baselines_path = report.BENCH / "baselines" / f"{report.label(self.device)}.json"
        self.baselines = report.read(self.baselines_path)
        machine = report.machine(self.device)
        self.judged = gate.same_machine(machine, self.baselines.get("machine", {}))

    def baseline(self, case: str) -> dict:
        """Baseline of a case; empty while baselines are rewritten."""
        return {} if self.update else self.baselines.get("cases", {}).get(case, {})

    def write(self, command: str) -> list[str]:
        """Write what was measured and return the report."""
        lines = report.table(self.rows)
        results = report.BENCH / "results" / f"{report.label(self.device)}.json"
        if len(self.rows) == len(cases()):
            report.write(results, report.document(self.rows, self.device, command))
            lines.append(f"\nresults: {results}")
        else:
            lines.append(f"\n{results} was not written: not all cases ran")
        if self.update:
            machine = report.machine(self.device)
            stored = gate.baselines(self.results, machine, self.baselines)
            report.write(self.baselines_path, stored)
            lines.append(f"baselines: {self.baselines_path} (rewritten)")
        elif not self.judged:
            lines.append(
                f"{self.baselines_path} is from another kind of machine: counters were judged, "
                "ratios were not"
            )
        return lines


@pytest.fixture
def run(pytestconfig):
    return pytestconfig.stash[RUN]


def pytest_configure(config):
    config.stash[RUN] = Run(config)


def pytest_terminal_summary(terminalreporter, config):
    run = config.stash[RUN]
    if config.getoption("benchmark") and run.rows:
        terminalreporter.section("benchmarks")
        for line in run.write("pytest " + " ".join(sys.argv[1:])):
            terminalreporter.line(line)
