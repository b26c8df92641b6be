"""The results of a run: a JSON file for each device, and a table for the README."""

import json
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

BENCH = Path(__file__).parent
HEADER = (
    "case", "shape", "mode", "time of a call", "quartiles apart", "M neuron-steps/s", "per core",
    "of a copy's bandwidth", "times the loop in torch", "bytes moved", "bytes kept",
)  # fmt: skip


def processor() -> str:
    """Name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine(device: torch.device) -> dict[str, Any]:
    """Describe where the results are from."""
    name = processor()
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
    return {"processor": name, "threads": torch.get_num_threads(), "system": platform.platform()}


def versions() -> dict[str, str]:
    """Versions of what the speed depends on."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "numpy": np.__version__,
    }
    if "triton" in sys.modules:
        found["triton"] = sys.modules["triton"].__version__
    return found


def label(device: torch.device) -> str:
    """Return the name of the files of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name().lower().replace(" ", "-")
    return device.type


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, of which each case is a line."""
    path.parent.mkdir(exist_ok=True)
    cases = content["cases"]
    head = {k: v for k, v in content.items() if k != "cases"}
    lines = ",\n".join(f"    {json.dumps(c)}: {json.dumps(v)}" for c, v in cases.items())
    opening = json.dumps(head, indent=2).removesuffix("\n}")
    path.write_text(f'{opening},\n  "cases": {{\n{lines}\n  }}\n}}\n')


def document(rows: dict[str, dict[str, Any]], device: torch.device, command: str) -> dict[str, Any]:
    """Return the content of a file of results."""
    return {
        "machine": machine(device),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "command": command,
        "cases": {case: {k: _rounded(v) for k, v in row.items()} for case, row in rows.items()},
    }


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    for row in rows.values():
        share, speedup = row.get("bandwidth_share"), row.get("speedup")
        moved = row.get("bytes_per_neuron_step")
        cells = (
            row["name"],
            row["shape"],
            row["mode"],
            _time(row["wall_s"]),
            f"{row['wall_iqr_s'] / row['wall_s']:.0%}",
            f"{row['neuron_steps_per_s'] / 1e6:.4g}",
            f"{row['neuron_steps_per_clock_s'] / 1e6:.4g}",
            "" if share is None else f"{share:.0%}",
            "" if speedup is None else f"{speedup:.3g}",
            "" if moved is None else f"{moved:g}",
            f"{row['saved_bytes'] / row['neuron_steps']:.3g}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


NEURONS = ("cuba", "alif", "rf", "rf_iz", "adrf", "adrf_iz", "sigma_delta")
SUMMARY = (
    "neuron", "forward", "of a copy", "times torch", "training", "of a copy", "times torch", "kept",
)  # fmt: skip


def summary(document: dict[str, Any], shape: str = "dense") -> list[str]:
    """Return the lines of the README's table: the neurons at one shape."""
    lines = ["| " + " | ".join(SUMMARY) + " |", "|" + " --- |" * len(SUMMARY)]
    for neuron in NEURONS:
        cells = [neuron]
        for mode in ("forward", "training"):
            row = document["cases"][f"{neuron}-{shape}-{mode}"]
            cells += [
                f"{row['neuron_steps_per_clock_s'] / 1e6:.0f}",
                f"{row['bandwidth_share']:.0%}",
                f"{row['speedup']:.0f}",
            ]
        cells.append(f"{row['saved_bytes'] / row['neuron_steps']:.2g} B")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(summary(read(BENCH / "results" / "cpu.json"))) + "\n")
