"""Counters of the GPU kernels, and their baselines: compiled ahead of time, so without a GPU."""

from pathlib import Path
from typing import Any

from lapilli.benchmark import judge, results
from lapilli.benchmark.judge import Result

from .report import BENCH

PATH = BENCH / "baselines" / "kernels.json"
COUNTERS = ("registers", "spills", "shared", "instructions", "bytes", "accessed")
# of the architectures in SHORT, whose code is executed (tests/ptx): PTX instructions, bytes of the
# sectors that accesses touch and conflicts of banks, a neuron-step
EXECUTED = ("executed", "touched", "conflicts")
TARGETS = ("sm_80", "sm_90", "sm_120", "gfx942")
SHORT = ("sm_90",)


def case(row: dict[str, Any]) -> str:
    """Name of a row of the kernel report."""
    return f"{row['kernel']}, {row['mode']}, {row['target']}"


def stored(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a row: no prediction, but what the compiler made."""
    return {
        "counters": {name: row[name] for name in (*COUNTERS, *EXECUTED) if name in row},
        "narrowest": {
            kind: min(map(int, row[f"{kind}s"])) for kind in ("load", "store") if row[f"{kind}s"]
        },
    }


class Kernels:
    """The kernels of a run, beside their baselines."""

    def __init__(self, path: Path = PATH):
        self.path = path
        self.known = results.read(path)
        self.found: dict[str, dict[str, Any]] = {}
        self.triton = ""

    @property
    def judged(self) -> bool:
        """Counters are those of a compiler: another version is not judged."""
        return self.known.get("triton") == self.triton

    def add(self, document: dict[str, Any]) -> list[str]:
        """Take a kernel report; return a sentence for each kernel that became worse."""
        self.triton = document["triton"]
        rows = {case(row): stored(row) for row in document["kernels"]}
        self.found |= rows
        return [sentence for name, row in rows.items() for sentence in self._worse(name, row)]

    def _worse(self, name: str, row: dict[str, Any]) -> list[str]:
        baseline = self.known.get("cases", {}).get(name, {}) if self.judged else {}
        worse = judge.grown(Result(row["counters"]), baseline)
        worse += judge.narrowed(row["narrowest"], baseline)
        return [f"{name}: {'; '.join(worse)}"] if worse else []

    def write(self, update: bool) -> list[str]:
        """Store what was found, if asked to; return what there is to say."""
        if not self.found:
            return []
        if update:
            cases = self.known.get("cases", {}) if self.judged else {}
            cases = dict(sorted((cases | self.found).items()))
            results.write(self.path, {"triton": self.triton, "cases": cases})
            return [f"baselines: {self.path} (rewritten)"]
        if not self.judged:
            return [
                f"{self.path} is from Triton {self.known.get('triton')}, this is {self.triton}: "
                "kernels were compiled, their counters were not judged"
            ]
        new = sorted(self.found.keys() - self.known["cases"].keys())
        return [f"kernels without a baseline: {'; '.join(new)}"] if new else []


def build(target: str, short: bool) -> dict[str, Any]:
    """Compile the kernels for an architecture, and execute those of ``SHORT``.

    The short form leaves out recurrent layers.
    """
    # it needs Triton, which not every system has
    from lapilli.kernels.proof.catalogue import names

    from lapilli.program import kernel_report

    chosen = [n for n in names() if not short or n != "recurrent"]
    document = kernel_report.build([target], chosen)
    if target in SHORT:
        from ptx.counts import executed

        counts = executed(target, chosen)
        for row in document["kernels"]:
            row |= counts[f"{row['kernel']}, {row['mode']}"]
    return document
