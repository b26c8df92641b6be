"""Test and measure on a machine with a GPU: ``make gpu``, or ``make gpu STAGE=smoke``.

The stages, in order, each with a limit of time:

smoke   every kernel once, equal to the CPU
suite   all tests that need a GPU; each file in a process of its own, and after a failure the next
        test in a new one, so that a device left in an error fails one test, not all that follow
bench   ``pytest --benchmark``

Nothing is installed where the Python at hand has PyTorch with a GPU and what the tests import, nor
with LAPILLI_OFFLINE=1. Otherwise ``make`` prepares .venv. Results are written as they come, into
``runs/gpu``: one line of JSON a test, and JUnit XML of each stage.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parent))
import results

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("torch", "triton", "numba", "h5py", "numpy", "pytest", "hypothesis", "pytest_benchmark")
SMOKE = (
    ("tests/kernels/test_recurrences.py", "several_programs"),
    ("tests/kernels/test_recurrent.py", "equals_oracle and (lava_dl or full_state)"),
    ("tests/test_gpu.py", "fill_the_device and 200"),
)
LIMITS = {"smoke": 120, "suite": 900, "bench": 600}  # seconds


class UsageError(SystemExit):
    """What was asked for cannot be done here; the message says why."""


@dataclass
class Stage:
    """What one stage has found."""

    name: str
    tests: dict[str, dict] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)  # files whose time was over

    @property
    def failed(self) -> list[str]:
        return [name for name, test in self.tests.items() if test["outcome"] == "failed"]

    def write(self, path: Path) -> None:
        """Write JUnit XML."""
        counts: dict[str, int] = {
            "tests": len(self.tests),
            "failures": len(self.failed),
            "skipped": sum(test["outcome"] == "skipped" for test in self.tests.values()),
        }
        suite = ElementTree.Element(
            "testsuite", {"name": self.name} | {k: str(v) for k, v in counts.items()}
        )
        for name, test in self.tests.items():
            file, _, rest = name.partition("::")
            case = ElementTree.SubElement(
                suite, "testcase", classname=file, name=rest, time=f"{test['seconds']:.3f}"
            )
            if test["outcome"] in ("failed", "skipped"):
                tag = "failure" if test["outcome"] == "failed" else "skipped"
                ElementTree.SubElement(case, tag, message=test["text"][-200:]).text = test["text"]
        ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def run_file(
    python: Sequence[str], file: str, chosen: str, out: Path, end: float, environment: dict
) -> tuple[dict[str, dict], bool]:
    """Run the tests of one file; return their results and whether the time was enough.

    After a failure, or when the process dies, the rest runs in a new process.
    """
    lines = out / f"{file.strip('/').replace('/', '.').removesuffix('.py')}.jsonl"
    lines.unlink(missing_ok=True)
    log = lines.with_suffix(".log")
    environment = environment | {results.RESULTS: str(lines)}
    command = [
        *(*python, "-m", "pytest", file, "-x", "-p", "results", "-p", "no:cacheprovider"),
        *(("-k", chosen) if chosen else ()),
    ]
    with log.open("w") as output:
        while True:
            before = results.read(lines)
            try:
                done = subprocess.run(
                    command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
                    timeout=max(1.0, end - time.monotonic()),
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                found = results.read(lines)
                _fail(lines, found, "the time was over in this test")
                return results.read(lines), False
            found = results.read(lines)
            if done.returncode in (0, 5):  # passed, or nothing chosen
                return found, True
            _fail(lines, found, f"the process ended with status {done.returncode}, see {log.name}")
            found = results.read(lines)
            if len(found) == len(before):  # it never came to a test
                entry = {"test": f"{file}::collection", "outcome": "failed", "seconds": 0.0}
                return found | {entry["test"]: entry | {"text": log.read_text()[-4000:]}}, True


def _fail(lines: Path, found: dict[str, dict], why: str) -> None:
    """Count what has begun and not ended as failed."""
    for entry in found.values():
        if entry["outcome"] == "begun":
            with lines.open("a") as file:
                file.write(json.dumps(entry | {"outcome": "failed", "text": why}) + "\n")


def run_stage(
    name: str, files: Iterable[tuple[str, str]], python: Sequence[str], out: Path, limit: float,
    workers: int, environment: dict,
) -> Stage:  # fmt: skip
    """Run files of tests side by side; write what is known after each."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    stage, end = Stage(name), time.monotonic() + limit

    def one(work: tuple[str, str]) -> None:
        found, in_time = run_file(python, *work, folder, end, environment)
        stage.tests |= found
        if not in_time:
            stage.cut.append(work[0])
        stage.write(out / f"{name}.xml")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, files))
    stage.write(out / f"{name}.xml")
    return stage


def files_with(chosen: str, python: Sequence[str], environment: dict) -> list[str]:
    """Return the files in which tests are chosen, those with the most first."""
    command = [*python, "-m", "pytest", "--collect-only", "-o", "addopts=", "-q", "-k", chosen]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 5):
        raise UsageError(f"the tests cannot be collected:\n{done.stdout[-4000:]}{done.stderr}")
    counts = Counter(line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line)
    return [file for file, _ in counts.most_common()]


def find_python() -> list[str]:
    """Return a Python with PyTorch that sees a GPU and with what the tests import.

    Raises
    ------
    UsageError
        If there is none, and none can be made.
    """
    tried = []
    at_hand = [sys.executable, str(ROOT / ".venv/bin/python")]
    for python in dict.fromkeys(at_hand):
        missing = _missing(python)
        if not missing:
            return [python]
        tried.append(f"{python}: {missing}")
    if os.environ.get("LAPILLI_OFFLINE") != "1":
        made = subprocess.run(["make", ".venv"], cwd=ROOT)
        missing = _missing(at_hand[1]) if made.returncode == 0 else "it could not be made"
        if not missing:
            return [at_hand[1]]
        tried.append(f"{at_hand[1]}, made anew: {missing}")
    raise UsageError(
        "no Python here can run the tests on a GPU:\n  " + "\n  ".join(tried) + "\nInstall PyTorch "
        "for your GPU, and what is missing, into one of them."
    )


def _missing(python: str) -> str:
    """Say what a Python lacks; empty if nothing."""
    check = (
        "import importlib.util as u, sys\n"
        f"absent = [n for n in {NEEDED} if u.find_spec(n) is None]\n"
        "if absent: sys.exit('it has no ' + ', '.join(absent))\n"
        "import torch\n"
        "if not torch.cuda.is_available(): sys.exit('its PyTorch sees no GPU')\n"
    )
    try:
        done = subprocess.run([python, "-c", check], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="smoke, suite, bench; or all")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/gpu", help="folder of results")
    parser.add_argument("--limit", type=float, help="seconds for each stage")
    parser.add_argument("--workers", type=int, default=max(1, min(8, (os.cpu_count() or 2) // 2)))
    parser.add_argument(
        "--rehearse", action="store_true",
        help="run on this CPU, with Triton's interpreter in place of the GPU",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    stages = given.stages or list(LIMITS)
    unknown = [stage for stage in stages if stage not in LIMITS]
    if unknown:
        raise UsageError(f"unknown stage {unknown[0]!r}; there are {', '.join(LIMITS)}")
    python = [sys.executable]
    places = str(ROOT / "src"), str(ROOT / "tests/gpu"), os.environ.get("PYTHONPATH", "")
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    only = "cpu" if given.rehearse else "cuda or gpu"
    if given.rehearse:
        environment["LAPILLI_BACKEND"] = "interpret"
    else:
        python = find_python()
    given.out.mkdir(parents=True, exist_ok=True)
    status = 0
    for name in stages:
        limit = given.limit or LIMITS[name]
        began = time.monotonic()
        if name == "bench":
            status |= _bench(python, given.out, limit, environment)
            continue
        if name == "smoke":
            chosen = [(file, f"({only}) and ({k})") for file, k in SMOKE]
        else:
            chosen = [(file, only) for file in files_with(only, python, environment)]
        stage = run_stage(name, chosen, python, given.out, limit, given.workers, environment)
        _tell(stage, time.monotonic() - began, given.out)
        status |= bool(stage.failed or stage.cut or not stage.tests)
    return int(status)


def _bench(python: Sequence[str], out: Path, limit: float, environment: dict) -> int:
    with (out / "bench.log").open("w") as output:
        try:
            done = subprocess.run(
                [*python, "-m", "pytest", "--benchmark"], cwd=ROOT, timeout=limit, stdout=output,
                stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = 124
    sys.stdout.write((out / "bench.log").read_text()[-6000:])
    return status


def _tell(stage: Stage, seconds: float, out: Path) -> None:
    counts = {
        outcome: sum(test["outcome"] == outcome for test in stage.tests.values())
        for outcome in ("passed", "failed", "skipped")
    }
    words = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    print(f"{stage.name}: {words} in {seconds:.0f} s; {out / stage.name}.xml")  # noqa: T201
    for name in stage.failed:
        last = (stage.tests[name]["text"].strip().splitlines() or [""])[-1]
        print(f"  failed  {name}\n          {last}")  # noqa: T201
    for file in stage.cut:
        print(f"  cut     {file}: the time was over")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
