"""``lapilli bench show``: results beside their baselines, as a table, a picture and a page."""

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

from lapilli.extras import require

from . import judge
from .neurons import ARGUMENTS

HEADER = (
    "case", "M steps/s", "x torch was", "is", "change", "of a copy was", "is", "change", "verdict",
)  # fmt: skip
_MEASURED = ("name", "shape", "mode", "neuron_steps_per_clock_s")
_DRAWN = ("copy_GB_per_s", "bytes_per_neuron_step")


class ResultsError(ValueError):
    """There are no results, or a file holds something else."""


def newest(folder: Path) -> Path:
    """Return the file of the last run of the benchmarks in ``folder``.

    Raises
    ------
    ResultsError
        If there is none; the message says how to make one.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append((load(path)["date"], path))
        except ResultsError:
            continue  # of another kind
    if not found:
        raise ResultsError(
            f"no results in {str(folder)!r}; name a file, or run pytest --benchmark first, in a "
            "checkout of lapilli"
        )
    return max(found)[1]


def load(path: Path) -> dict[str, Any]:
    """Read a file of results.

    Raises
    ------
    ResultsError
        If it is not what ``pytest --benchmark`` writes.
    """
    document = _read(path)
    cases = document.get("cases")
    if not (
        isinstance(cases, dict)
        and cases
        and isinstance(document.get("date"), str)
        and isinstance(document.get("machine"), dict)
        and all(isinstance(row, dict) and set(_MEASURED) <= set(row) for row in cases.values())
    ):
        raise ResultsError(
            f"{str(path)!r} holds no throughput; expected a file that pytest --benchmark wrote, as "
            "bench/results/cpu.json"
        )
    return document


def load_baseline(results_path: Path, path: Path | None) -> tuple[dict[str, Any], str]:
    """Read the baselines of a file of results, and say which they are.

    Parameters
    ----------
    results_path
        File of results ``<folder>/results/<device>.json``.
    path
        File of baselines; None: ``<folder>/baselines/<device>.json`` if it is there.

    Raises
    ------
    ResultsError
        If ``path`` is not there or is not a file of baselines.
    """
    wanted = path or results_path.absolute().parent.parent / "baselines" / results_path.name
    if path is None and not wanted.exists():
        return {}, "none"
    document = _read(wanted)
    rows = document.get("cases")
    if not isinstance(rows, dict) or not all(
        isinstance(row, dict) and isinstance(row.get("ratios"), dict) for row in rows.values()
    ):
        raise ResultsError(
            f"{str(wanted)!r} holds no baselines; expected a file that pytest --benchmark-update "
            "wrote, as bench/baselines/cpu.json"
        )
    return document, str(path or wanted.name)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultsError(
            f"there is no file {str(path)!r}; pytest --benchmark writes results, in a checkout of "
            "lapilli"
        ) from None
    except ValueError as error:
        raise ResultsError(f"{str(path)!r} is not a JSON file: {error}") from None
    return document if isinstance(document, dict) else {}


def verdict(row: dict[str, Any], baseline: dict[str, Any], same_machine: bool) -> str:
    """Return what became of a case, in words; ratios are judged between like machines only."""
    if not baseline:
        return "new"
    counters = {name: row[name] for name in baseline.get("counters", {}) if name in row}
    ratios = {name: row[name] for name in baseline["ratios"] if name in row}
    found = judge.Result(counters, ratios)
    grown = judge.grown(found, baseline)
    if grown:
        return f"more work: {'; '.join(grown)}"
    if not same_machine or not ratios:
        return "no more work"
    if judge.fallen(found, baseline):
        return "slower"
    gains = [value / baseline["ratios"][name] - 1 for name, value in ratios.items()]
    return "faster" if min(gains) > judge.TOLERANCE else "as before"


def cells(document: dict[str, Any], baseline: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of ``HEADER`` for each case."""
    same = judge.same_machine(document["machine"], baseline.get("machine", {}))
    made = []
    for case, row in document["cases"].items():
        known = baseline.get("cases", {}).get(case, {})
        ratios: list[str] = []
        for name, style in (("speedup", ".3g"), ("bandwidth_share", ".0%")):
            was, now = known.get("ratios", {}).get(name), row.get(name)
            change = "" if was is None or now is None else f"{round(now / was - 1, 2) + 0:+.0%}"
            ratios += ["" if v is None else format(v, style) for v in (was, now)] + [change]
        rate = row["neuron_steps_per_clock_s"] / 1e6
        made.append((case, f"{rate:.4g}", *ratios, verdict(row, known, same)))
    return made


def facts(document: dict[str, Any], baseline: dict[str, Any], baseline_name: str) -> list[str]:
    """Return lines that say what the results are of."""
    machine = document["machine"]
    versions = document.get("versions", {})
    lines = [
        f"{machine.get('processor')}, {machine.get('threads')} threads, {document['date']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"command: {document.get('command')}",
        f"baseline: {baseline_name}",
    ]
    if baseline and not judge.same_machine(machine, baseline.get("machine", {})):
        lines[-1] += ", of another kind of machine: counters are judged, ratios are not"
    return lines


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table for a terminal."""
    everything = [HEADER, *rows]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    last = len(HEADER) - 1
    return [
        "  ".join(
            cell.ljust(width) if k in (0, last) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    ]


def picture(document: dict[str, Any], shape: str = "dense") -> Any:
    """Draw the throughput of the neurons as bars, with the ceiling that a copy sets.

    Parameters
    ----------
    document
        Results.
    shape
        Shape of the cases that are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels, forward and training.

    Raises
    ------
    ResultsError
        If there is no neuron of that shape.
    """
    figure = require("matplotlib.figure", "matplotlib").Figure(
        figsize=(10, 4.6), dpi=150, layout="constrained"
    )
    cases = document["cases"].values()
    panels = {}
    for mode in ("forward", "training"):
        found = {
            row["name"]: row
            for row in cases
            if (row["shape"], row["mode"]) == (shape, mode) and set(_DRAWN) <= set(row)
        }
        panels[mode] = {name: found[name] for name in ARGUMENTS if name in found}
    if not all(panels.values()):
        raise ResultsError(f"the results have no neuron of shape {shape!r} to draw")
    for axes, (mode, rows) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        _bars(axes, mode, rows)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", frameon=False)
    machine = document["machine"]
    figure.suptitle(
        f"Million neuron-steps a second and core, {machine.get('processor')}, "
        f"{document['date'][:10]}",
        fontsize="medium",
    )
    return figure


def _bars(axes: Any, mode: str, rows: dict[str, dict[str, Any]]) -> None:
    """Draw a panel."""
    rates = [row["neuron_steps_per_clock_s"] / 1e6 for row in rows.values()]
    ceilings = [row["copy_GB_per_s"] * 1e3 / row["bytes_per_neuron_step"] for row in rows.values()]
    color = {"forward": "tab:blue", "training": "tab:green"}[mode]
    bars = axes.bar(list(rows), rates, width=0.64, color=color)
    labels = [f"{rate:.0f}" for rate in rates]
    axes.bar_label(bars, labels, label_type="center", color="white", fontsize="small")
    places = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    axes.hlines(
        ceilings, [x - 0.42 for x in places], [x + 0.42 for x in places], color="black", lw=2,
        label="bandwidth ceiling: bytes that a copy moves a second, over bytes a neuron-step",
    )  # fmt: skip
    axes.set_title(mode, fontsize="medium")
    axes.set_ylim(0, 1.08 * max(rates + ceilings))
    axes.tick_params(axis="x", labelrotation=30)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>lapilli benchmarks</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }}
img {{ width: 100%; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }}
th, td {{ padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; }}
th {{ position: sticky; top: 0; background: #fff; }}
th:first-child, td:first-child, th:last-child, td:last-child {{ text-align: left; }}
tr.worse td {{ background: #fde3df; }}
tr.faster td {{ background: #e2f3e2; }}
</style>
<h1>lapilli benchmarks</h1>
<p>{facts}</p>
<img alt="Throughput of each neuron beside the bandwidth ceiling"
  src="data:image/svg+xml;base64,{image}">
<p>M steps/s: million neuron-steps a second and core. A bar can pass its ceiling where the copy,
which is measured on one thread, leaves bandwidth unused.</p>
<table>
{table}
</table>
</html>
"""


def page(rows: list[tuple[str, ...]], facts: list[str], figure: Any) -> str:
    """Return an HTML page that needs no other file."""
    image = io.BytesIO()
    figure.savefig(image, format="svg")

    def line(tag: str, row: tuple[str, ...], kind: str = "") -> str:
        inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        return f'<tr class="{kind}">{inside}</tr>' if kind else f"<tr>{inside}</tr>"

    lines = [line("th", HEADER)]
    for row in rows:
        worse = row[-1] == "slower" or row[-1].startswith("more work")
        lines.append(line("td", row, "worse" if worse else "faster" * (row[-1] == "faster")))
    return _PAGE.format(
        facts="<br>".join(map(html.escape, facts)),
        image=base64.b64encode(image.getvalue()).decode(),
        table="\n".join(lines),
    )
