"""Tables of docs/learning.md from the stored scores."""

import statistics
from collections.abc import Iterable
from typing import Any

from bench import report

from . import runs

PAGE = report.BENCH.parent / "docs" / "learning.md"
BEGIN, END = "<!-- scores: python -m bench.learning -->", "<!-- end of the scores -->"

CHANCE = {"digits": 0.103, "vowels": 0.238, "motion": 0.0}  # share of the most frequent test class
FAMILIES = ("cuba", "alif", "rf", "rf_iz", "adrf", "adrf_iz", "sigma_delta")


def scores(rows: dict[str, Any], cell: runs.Cell, library: str) -> list[float]:
    """Return the scores of a cell, one a seed."""
    found = (rows.get(f"{cell} {library} {seed}", {}) for seed in range(100))
    return [row["score"] for row in found if "score" in row]


def _shown(values: list[float]) -> str:
    if not values:
        return ""
    mean = 100 * statistics.mean(values)
    return (
        f"{mean:.1f} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(header)
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


def tables(document: dict[str, Any]) -> list[str]:
    """Return the tables of all tasks."""
    rows, lines = document["cases"], []
    for task, kinds in runs.CELLS.items():
        families = [f for f in FAMILIES if any(f in of for of in kinds.values())]
        lines += [f"**{task}, lapilli**", ""]
        lines += _table(
            ["cell", *families],
            [
                [
                    kind,
                    *(_shown(scores(rows, runs.Cell(task, f, kind), "lapilli")) for f in families),
                ]
                for kind in kinds
            ],
        )
        yardsticks = [
            f"{cell.kind} {_shown(scores(rows, cell, 'torch'))}"
            for cell in runs.cells(task, "torch")
        ]
        lines += ["", f"Yardsticks: {', '.join(yardsticks)}; chance {100 * CHANCE[task]:.1f}.", ""]
        lines += [f"**{task}, lava-dl**", ""]
        lines += _table(
            ["cell", *families],
            [
                [kind, *(_of_lava_dl(rows, runs.Cell(task, f, kind)) for f in families)]
                for kind in kinds
            ],
        )
        lines.append("")
    return lines


def _of_lava_dl(rows: dict[str, Any], cell: runs.Cell) -> str:
    values = scores(rows, cell, "lava-dl")
    if values:
        return _shown(values)
    return "raises" if "cannot" in rows.get(f"{cell} lava-dl 0", {}) else ""


def write(document: dict[str, Any]) -> None:
    """Put the tables into the page, between its two marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = "\n".join([*tables(document), origin(document)])
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def origin(document: dict[str, Any]) -> str:
    """Say where the scores are from, and of how many seeds."""
    rows = document["cases"]
    seeds = {
        library: len({key.split()[-1] for key in rows if key.split()[-2] == library})
        for library in runs.LIBRARIES
    }
    counts = ", ".join(f"{n} of {library}" for library, n in seeds.items())
    seconds = sum(row.get("seconds", 0) for row in rows.values())
    wanted = sum(len(runs.cells(t, lib)) for t in runs.TASKS for lib in runs.LIBRARIES) * 5
    return (
        f"{document['machine']['processor']}, one core; up to {counts} seeds; {len(rows)} of "
        f"{wanted} networks trained, in {seconds / 60:.0f} minutes of processor time. Cells that "
        f"are empty wait for their run."
    )
