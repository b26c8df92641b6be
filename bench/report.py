"""The results of a run: a JSON file for each device, and a table for the README."""

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from lapilli.blocks.crossover import vectors

from lapilli.benchmark import results
from lapilli.benchmark.neurons import ARGUMENTS

BENCH = Path(__file__).parent
HEADER = (
    "case", "shape", "mode", "time of a call", "quartiles apart", "M neuron-steps/s", "per core",
    "of a copy's bandwidth", "times the loop in torch", "bytes moved", "bytes kept",
)  # fmt: skip


AVX512, AVX2 = "", "-avx2"  # ends of the names of files of results from a CPU


def path(device: torch.device, prefix: str = "") -> Path:
    """Return the file of results of a device; processors with and without AVX-512 have two."""
    end = AVX2 if device.type == "cpu" and vectors() == "AVX2" else AVX512
    return BENCH / "results" / f"{prefix}{results.label(device)}{end}.json"


def document(rows: dict[str, dict[str, Any]], device: torch.device, command: str) -> dict[str, Any]:
    """Return the content of a file of results."""
    return {
        "machine": results.machine(device),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": results.versions(),
        "command": command,
        "cases": {case: {k: _rounded(v) for k, v in row.items()} for case, row in rows.items()},
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def duration(seconds: float) -> str:
    """Write a time with its unit."""
    for unit, name in ((1, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} us"


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
            duration(row["wall_s"]),
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


NEURONS = tuple(ARGUMENTS)
PROCESSORS = {  # by the file of results, as the README names them
    "cpu.json": "Intel Xeon (Sapphire Rapids, AVX-512)", "cpu-avx2.json": "AMD EPYC (Zen 3, AVX2)",
}  # fmt: skip


def processors(prefix: str = "") -> dict[str, dict[str, Any]]:
    """Return the stored results of each processor."""
    folder = BENCH / "results"
    return {name: results.read(folder / f"{prefix}{file}") for file, name in PROCESSORS.items()}


def summary(documents: dict[str, dict[str, Any]], shape: str = "dense") -> list[str]:
    """Return the lines of the README's table: the neurons at one shape, processors side by side."""
    makers = [name.split()[0] for name in documents]
    timed = [f"{mode}, {maker}" for mode in ("forward", "training") for maker in makers]
    header = ("neuron", *timed, "kept")
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for neuron in NEURONS:
        cells = [neuron]
        for mode in ("forward", "training"):
            for document in documents.values():
                row = document["cases"][f"{neuron}-{shape}-{mode}"]
                cells.append(
                    f"{row['neuron_steps_per_clock_s'] / 1e6:.0f} ({row['bandwidth_share']:.0%}, "
                    f"{row['speedup']:.0f}x)"
                )
        cells.append(f"{row['saved_bytes'] / row['neuron_steps']:.2g} B")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def processors_sentence(documents: dict[str, dict[str, Any]]) -> str:
    """Return the README's words on where and when its table was measured."""
    places = [f"an {name} on {document['date'][:10]}" for name, document in documents.items()]
    return f"On two cores each, by one run of `pytest --benchmark`: {' and '.join(places)}."


def step_sentence(documents: dict[str, dict[str, Any]]) -> str:
    """Return the README's words on a call that is a single step."""
    times = [
        f"{document['cases']['cuba-step-forward']['clock_s'] * 1e6:.0f} us on the {name.split()[0]}"
        for name, document in documents.items()
    ]
    return (
        "One call of `cuba` in `kernels/recurrences/cuba.py` on a single step of 128 neurons takes "
        f"{' and '.join(times)} of processor time."
    )


def demo_sentence(report: dict[str, Any]) -> str:
    """Return the README's words on ``make demo``, from the report of its training."""
    return (
        f"`make demo` reaches {report['test_accuracy']:.1%} test accuracy on handwritten digits in "
        f"{report['seconds']:.1f} s of training, compilation of the kernels included, with "
        f"{report['seconds_an_epoch']:.2f} s an epoch after the first."
    )


if __name__ == "__main__":
    stored = processors()
    lines = [processors_sentence(stored), "", *summary(stored), "", step_sentence(stored), ""]
    lines.append(demo_sentence(results.read(BENCH / "results" / "demo-cpu.json")))
    sys.stdout.write("\n".join(lines) + "\n")
