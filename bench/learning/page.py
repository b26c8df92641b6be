"""Tables of docs/learning.md from the stored scores."""

import statistics
from collections.abc import Collection, Iterable
from typing import Any

from lapilli.kernels.numbers.surrogate import BUILT_IN

from bench import report

from . import runs

PAGE = report.BENCH.parent / "docs" / "learning.md"
BEGIN, END = "<!-- scores: python -m bench.learning -->", "<!-- end of the scores -->"

CHANCE = {"digits": 0.103, "vowels": 0.238, "motion": 0.0}  # share of the most frequent test class
FAMILIES = ("cuba", "alif", "rf", "rf_iz", "adrf", "adrf_iz", "sigma_delta")


def by_seed(rows: dict[str, Any], cell: runs.Cell, library: str) -> dict[int, float]:
    """Return the scores of a cell by seed."""
    found = {seed: rows.get(f"{cell} {library} {seed}", {}) for seed in range(100)}
    return {seed: row["score"] for seed, row in found.items() if "score" in row}


def best(rows: dict[str, Any], task: str) -> dict[str, tuple[str, float]]:
    """Return the best cell of each family that lapilli trained, and its mean; best family first."""
    found: dict[str, tuple[str, float]] = {}
    for cell in runs.cells(task, "lapilli"):
        scores = by_seed(rows, cell, "lapilli")
        if scores:
            mean = statistics.mean(scores.values())
            if cell.family not in found or mean > found[cell.family][1]:
                found[cell.family] = cell.kind, mean
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def beside(rows: dict[str, Any], cell: runs.Cell) -> tuple[list[float], list[float]] | None:
    """Return the scores of lapilli and of lava-dl on the seeds that both have, if there are any."""
    ours, theirs = (by_seed(rows, cell, library) for library in ("lapilli", "lava-dl"))
    both = sorted(ours.keys() & theirs.keys())
    return ([ours[s] for s in both], [theirs[s] for s in both]) if both else None


def shortfall(rows: dict[str, Any], cell: runs.Cell) -> float:
    """Return by how much more than the spread over seeds lapilli's mean is under lava-dl's.

    The means are of the seeds that both have, be it one; the spread is that of all of lapilli's,
    and none where lapilli has one seed alone.
    """
    pair = beside(rows, cell)
    if pair is None:
        return 0.0
    scores = by_seed(rows, cell, "lapilli").values()
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    return statistics.mean(pair[1]) - statistics.mean(pair[0]) - spread


def _shown(values: Collection[float]) -> str:
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


def _seeds(runs_of_cells: Iterable[Collection[float]]) -> str:
    """Say how many seeds cells have; those that have none do not count."""
    counts = {len(values) for values in runs_of_cells if values}
    if not counts:
        return "not trained yet"
    least, most = min(counts), max(counts)
    return f"{most} seed{'s' * (most > 1)}" if least == most else f"{least} to {most} seeds"


def tables(document: dict[str, Any]) -> list[str]:
    """Return the tables of all tasks."""
    lines = []
    for task in runs.CELLS:
        lines += _of_lapilli(document["cases"], task)
        lines += _of_lava_dl(document["cases"], task)
    for task in runs.CELLS:
        if runs.shapes(task):
            lines += _of_surrogates(document["cases"], task)
    return lines


def _families(task: str) -> list[str]:
    return [f for f in FAMILIES if any(f in of for of in runs.CELLS[task].values())]


def _of_lapilli(rows: dict[str, Any], task: str) -> list[str]:
    cells, families = runs.cells(task, "lapilli"), _families(task)
    scores = {cell: by_seed(rows, cell, "lapilli").values() for cell in cells}
    lines = [f"**{task}, lapilli, {_seeds(scores.values())}**", ""]
    lines += _table(
        ["cell", *families],
        [
            [kind, *(_shown(scores.get(runs.Cell(task, f, kind), ())) for f in families)]
            for kind in runs.CELLS[task]
        ],
    )
    yardsticks = {c.kind: by_seed(rows, c, "torch").values() for c in runs.cells(task, "torch")}
    shown = ", ".join(f"{kind} {_shown(values) or '-'}" for kind, values in yardsticks.items())
    lines += [
        "",
        f"Yardsticks, {_seeds(yardsticks.values())}: {shown}. Chance: {100 * CHANCE[task]:.1f}.",
    ]
    leaders = best(rows, task)
    if len(leaders) > 1:
        named = ", ".join(f"{f} {kind} {100 * mean:.1f}" for f, (kind, mean) in leaders.items())
        means = [mean for _, mean in leaders.values()]
        gap = 100 * (means[0] - means[-1])
        lines[-1] += f" Best cells: {named}; the last family is {gap:.1f} points under the first."
    return [*lines, ""]


def _of_lava_dl(rows: dict[str, Any], task: str) -> list[str]:
    families = _families(task)
    cells = runs.cells(task, "lava-dl")
    scores = {cell: by_seed(rows, cell, "lava-dl").values() for cell in cells}
    lines = [f"**{task}, lava-dl, {_seeds(scores.values())}**", ""]

    def shown(cell: runs.Cell) -> str:
        raised = "cannot" in rows.get(f"{cell} lava-dl 0", {})
        return "raises" if raised else _shown(scores.get(cell, ()))

    filled = [
        [kind, *(shown(runs.Cell(task, f, kind)) for f in families)] for kind in runs.CELLS[task]
    ]
    if any(any(row[1:]) for row in filled):
        lines += _table(["cell", *families], [row for row in filled if any(row[1:])])
    pairs = {cell: pair for cell in cells if (pair := beside(rows, cell))}
    if pairs:
        of_both = [both for pair in pairs.values() for both in zip(*pair, strict=True)]
        same = sum(ours == theirs for ours, theirs in of_both)
        lines += [
            "",
            f"Trained in both libraries on the same seeds: {len(of_both)} networks, of which "
            f"{same} have the same score in all digits.",
        ]
        under = {
            f"{cell.family} {cell.kind}": short
            for cell in pairs
            if (short := shortfall(rows, cell)) > 0
        }
        named = ", ".join(f"{name} {100 * short:.1f}" for name, short in under.items())
        lines[-1] += (
            f" Means of lapilli that are under lava-dl's by more than the spread, and the points "
            f"beyond it: {named or 'none'}."
        )
    return [*lines, ""]


def _of_surrogates(rows: dict[str, Any], task: str) -> list[str]:
    lines, seeds = [], []
    for family in FAMILIES:
        found = {s: by_seed(rows, runs.Cell(task, family, "Dense", s), "lapilli") for s in BUILT_IN}
        both = set.intersection(*(set(scores) for scores in found.values()))
        if both:
            seeds.append(both)
            values = {s: [scores[seed] for seed in sorted(both)] for s, scores in found.items()}
            first = max(values, key=lambda s: statistics.mean(values[s]))
            lines.append([family, *(_shown(values[s]) for s in BUILT_IN), first])
    title = f"**{task}, Dense with each surrogate, {_seeds(seeds)}**"
    table = _table(["family", *BUILT_IN, "best"], lines) if lines else []
    return [title, "", *table, ""]


def write(document: dict[str, Any]) -> None:
    """Put the tables into the page, between its two marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = "\n".join([*tables(document), origin(document)])
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def origin(document: dict[str, Any]) -> str:
    """Say where the scores are from, and how much is still to be trained."""
    rows = document["cases"]
    seconds = sum(row.get("seconds", 0) for row in rows.values())
    wanted = 5 * sum(len(runs.cells(t, lib)) for t in runs.TASKS for lib in runs.LIBRARIES)
    done = sum(len(key.split()) == 5 for key in rows)  # others name a surrogate, too
    return (
        f"{document['machine']['processor']}, one core. The numbers of seeds stand above each "
        f"table, and what is not in a table was not trained: {done} of {wanted} networks that five "
        f"seeds of everything ask for were, and {len(rows) - done} with other surrogates, in "
        f"{seconds / 60:.0f} minutes of processor time."
    )
