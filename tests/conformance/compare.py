# ruff: noqa: T201 (prints what it finds)
"""Run exported networks in lava netx and compare them with lapilli, step for step.

    python tests/conformance/compare.py [--python PYTHON3.10]

Makes an environment for Lava of its own under build/conformance, since Lava needs Python 3.10 and
NumPy 1.26; writes the tables of docs/conformance.md. Exit status 1 if a case that must be equal is
not.
"""

import argparse
import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import CASES, FAULTS, Case, Fault
from torch import nn

import lapilli
from lapilli import export

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "conformance"
REPORT = ROOT / "docs" / "conformance.md"
TIMEOUT = 120  # seconds a network

# lava-dl's own dependencies ask for a torch that exists in a CUDA build only; its netx needs torch
# for one import. The last that needs nothing else is this one.
LAVA = ("lava-nc==0.10.0", "lava-dl==0.6.0")
NEEDED = (
    "numpy==1.26.4", "torch==1.12.1", "h5py==3.11.0", "scipy==1.13.1", "networkx<=3.0",
    "asteval==1.0.1", "scikit-learn==1.5.1", "matplotlib", "requests",
)  # fmt: skip
IMPORTED = ("torchvision==0.13.1", "opencv-python-headless==4.8.1.78")


def find_python(wanted: str | None) -> str:
    """Return a Python 3.10, the newest that Lava runs on."""
    candidates = [wanted] if wanted else ["python3.10", *_of_pyenv()]
    for candidate in candidates:
        done = subprocess.run(
            [candidate, "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True, text=True, check=False,
        ) if shutil.which(candidate) else None  # fmt: skip
        if done is not None and done.stdout.split() == ["3", "10"]:
            return candidate
    raise SystemExit(
        f"Lava needs Python 3.10; looked at {', '.join(candidates)}. Give one with --python."
    )


def _of_pyenv() -> list[str]:
    versions = Path.home() / ".pyenv" / "versions"
    return [str(p / "bin" / "python") for p in sorted(versions.glob("3.10.*"), reverse=True)]


def lava_python(wanted: str | None) -> Path:
    """Return the Python of Lava's environment; make it first if need be."""
    environment = FOLDER / "venv"
    python = environment / "bin" / "python"
    done = FOLDER / "installed"
    if not done.exists():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([find_python(wanted), "-m", "venv", environment], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *NEEDED], check=True)
        subprocess.run([*pip, "--no-deps", *LAVA, *IMPORTED], check=True)
        done.touch()
    return python


def versions(python: Path) -> dict[str, str]:
    code = (
        "import importlib.metadata as m, platform; print(platform.python_version()); "
        "[print(m.version(n)) for n in ('lava-nc', 'lava-dl', 'numpy')]"
    )
    lines = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    names = ("Python of Lava", "lava-nc", "lava-dl", "NumPy of Lava")
    ours = {"lapilli": lapilli.__version__, "torch of lapilli": torch.__version__}
    return ours | dict(zip(names, lines.stdout.split(), strict=True))


def prepared(case: Case | Fault) -> tuple[Any, torch.Tensor]:
    """Build the network, let it learn its shapes, and make its input."""
    torch.manual_seed(0)
    net = case.make()
    x = case.data(case.shape)
    with torch.no_grad():
        net.eval()(x)
        modules: Iterator[Any] = net.modules()
        for module in modules:
            if isinstance(getattr(module, "init", None), bool):
                module.delay.copy_(torch.rand_like(module.delay) * 12)
    return net, x


def in_netx(python: Path, name: str, net: nn.Module, x: torch.Tensor, **how: object) -> Any:
    """Return what netx gives as ``[neurons..., T]``, or what went wrong."""
    folder = FOLDER / "jobs" / "".join(c if c.isalnum() else "_" for c in name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job = {
        "net": str(folder / "a.net"), "input": str(folder / "x.npy"),
        "output": str(folder / "y.npy"), "error": str(folder / "error"), **how,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export.save(net, job["net"])
    np.save(job["input"], x[0].numpy())
    (folder / "job.json").write_text(json.dumps(job))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [python, Path(__file__).with_name("netx_side.py"), folder / "job.json"],
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            return "fails to start"
        finally:
            _end(process)
    if Path(job["error"]).exists():
        return Path(job["error"]).read_text()
    return np.load(job["output"]) if Path(job["output"]).exists() else "fails to start"


def _end(process: subprocess.Popen) -> None:
    """End a simulation and the processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def expected(case: Case, net: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Return what netx must give, by lapilli."""
    want = outputs(net, x, case.silent_first, case.lag, case.scale)
    if case.overflows:
        path = FOLDER / "overflows.net"
        export.save(net, path)
        if not np.array_equal(export.run(path, x.numpy()).output[0], want):
            raise SystemExit(f"{case.name}: lapilli run gives something else")
        wide: Any = copy.deepcopy(net)
        for block in wide:
            block.neuron.overflow = "saturate"
        if np.array_equal(outputs(wide, x, case.silent_first, case.lag, case.scale), want):
            raise SystemExit(f"{case.name}: no overflow shows")
    return want


def outputs(
    net: nn.Module, x: torch.Tensor, silent_first: bool, lag: int, scale: int
) -> np.ndarray:
    """Run lapilli; ``lag`` steps later, ``scale`` times as large."""
    if silent_first:
        x = torch.cat([torch.zeros_like(x[..., :1]), x], -1)
    with torch.no_grad():
        y = copy.deepcopy(net)(x)[0]
    y = y[..., 1:] if silent_first else y
    if lag > 0:
        y = torch.cat([torch.zeros_like(y[..., :lag]), y[..., :-lag]], -1)
    elif lag < 0:
        y = y[..., -lag:]
    return (y.double() * scale).numpy()


def constant_bias(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the bias of an Input block's neurons that stands for a constant input."""
    first = net[0]
    with torch.no_grad():
        return first._scaled(x) * first.neuron.w_scale


def compare(python: Path, case: Case) -> tuple[bool, str]:
    """Whether netx and lapilli agree, and in words."""
    net, x = prepared(case)
    want = expected(case, net, x)
    given = constant_bias(net, x) if case.enters == "bias" else x * case.unit
    got = in_netx(
        python, case.name, net, given, bits=case.bits, enters=case.enters, reads=case.reads
    )
    if isinstance(got, str):
        return False, got
    got = got.reshape(want.shape[:-1] + got.shape[-1:])[..., : want.shape[-1]]
    events = int(np.count_nonzero(want))
    different = int(np.count_nonzero(got != want))
    if not events:
        return False, "silent: shows nothing"
    return not different, f"{different} of {want.size} values differ; {events} events"


def confirm(python: Path, fault: Fault) -> tuple[bool, str]:
    """Whether netx is at fault as said, and what it does."""
    net, x = prepared(fault)
    options: dict[str, Any] = {
        "unit": 1, "bits": 0, "scale": 1, "lag": 0, "silent_first": False, "reads": "output",
    } | fault.options  # fmt: skip
    got = in_netx(
        python, "fault " + fault.name, net, x * options["unit"], bits=options["bits"],
        enters="port", reads=options["reads"],
    )  # fmt: skip
    if isinstance(got, str):
        return got == fault.outcome, got
    want = outputs(net, x, options["silent_first"], options["lag"], options["scale"])
    got = got.reshape(want.shape[:-1] + got.shape[-1:])[..., : want.shape[-1]]
    outcome = "differs" if (got != want).any() else "equal"
    return outcome == fault.outcome, outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="a Python 3.10 to make Lava's environment with")
    parser.add_argument("--only", help="part of a case's name; writes no report")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    python = lava_python(args.python)
    rows, faults = [], []
    for case in chosen(CASES, args.only):
        rows.append((case, *compare(python, case)))
        print("equal " if rows[-1][1] else "DIFFERS", case.name, "|", rows[-1][2], flush=True)
    for fault in chosen(FAULTS, args.only):
        faults.append((fault, *confirm(python, fault)))
        said = "as said  " if faults[-1][1] else "OTHERWISE"
        print(said, fault.name, "|", faults[-1][2], flush=True)
    if not args.only:
        REPORT.write_text(report(REPORT.read_text(), versions(python), rows, faults))
    return 0 if all(row[1] for row in rows + faults) else 1


def chosen(cases: list, part: str | None) -> list:
    return [c for c in cases if not part or part in c.name]


def report(page: str, found: dict[str, str], rows: list, faults: list) -> str:
    """Return the page with these versions and tables; its words stay."""
    versions = "; ".join(f"{name} {version}" for name, version in found.items()) + "."
    page, count = re.subn(r"^lapilli [^\n]*; lava-nc [^\n]*$", versions, page, flags=re.M)
    assert count == 1, "the line of versions"
    equal = [
        "| network | relation | result |",
        "| --- | --- | --- |",
        *(
            f"| {case.name} | `{case.relation}` | {'equal' if equal else '**differs**'}: {words} |"
            for case, equal, words in rows
        ),
    ]
    refused = [
        "| what | example | netx | as expected |",
        "| --- | --- | --- | --- |",
        *(
            f"| {f.name} | `{f.code.replace('|', chr(92) + '|')}` | {words} | "
            f"{'yes' if said else '**no**'} |"
            for f, said, words in faults
        ),
    ]
    for table in (equal, refused):
        old = re.escape("\n".join(table[:2])) + r"(?:\n\|[^\n]*)*"
        page, count = re.subn(old, lambda _, new=table: "\n".join(new), page)
        assert count == 1, table[0]
    return page


if __name__ == "__main__":
    sys.exit(main())
