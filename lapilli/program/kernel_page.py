"""The kernel report as one page that needs nothing else: rooflines and tables."""

import html
import io
import re
from typing import Any

from lapilli.extras import require

from .kernel_report import BATCH, FILLED, HEADER, LEGEND, cells, here, predicted_cells
from .kernel_report import predicted_header as header

COLOURS = {"memory": "#2f6fb3", "issue": "#c8502c", "latency": "#3f8f5b"}
_INK, _FAINT = "#22262b", "#c9ced6"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262b; margin: 2em auto; max-width: 78em;
  padding: 0 1em; }
h1, h2 { line-height: 1.2; }
p.note { background: #fff4dc; border-left: 4px solid #d9a520; padding: .6em 1em; }
svg { width: 100%; height: auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2em .7em; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #22262b; }
td { border-bottom: 1px solid #e3e6ea; }
th:first-child, td:first-child { text-align: left; }
td.memory { color: #2f6fb3; } td.issue { color: #c8502c; } td.latency { color: #3f8f5b; }
td.bad { background: #fbdcd3; }
"""


def page(report: dict[str, Any]) -> str:
    """Return the page of a report of ``kernel_report.build``.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>lapilli: kernel report</title>',
        f"<style>{_STYLE}</style></head><body><h1>Kernel report</h1>",
        f'<p class="note">{html.escape(report["note"])}</p>',
        f"<p>Triton {html.escape(report['triton'])}. {html.escape(here(report))}</p>",
    ]
    if report["devices"]:
        parts += [
            "<h2>Rooflines</h2>",
            "<p>Each kernel by the issue slots it takes a byte (across) and a second (up). "
            f"Full: {FILLED} neurons, which fill the device. Open: {BATCH} samples. The colour is "
            "what sets the time.</p>",
            svg(report),
        ]
    parts += [f"<p>{html.escape(line)}</p>" for line in LEGEND.splitlines()]
    for target in report["targets"]:
        parts += [f"<h2>{html.escape(target)}</h2>", _table(report, target)]
    return "\n".join([*parts, "</body></html>", ""])


def _table(report: dict[str, Any], target: str) -> str:
    titles = "".join(f"<th>{html.escape(t)}</th>" for t in (*HEADER, *header(report, target)))
    lines = [f'<div class="table"><table><thead><tr>{titles}</tr></thead><tbody>']
    for row in report["kernels"]:
        if row["target"] == target:
            line = [(c, "") for c in cells(row)]
            if row["spills"]:
                line[2] = line[2][0], "bad"
            line += [(c, c.partition(" ")[2]) for c in predicted_cells(row)]
            line = [f'<td class="{kind}">{html.escape(c)}</td>' for c, kind in line]
            lines.append(f"<tr>{''.join(line)}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def svg(report: dict[str, Any]) -> str:
    """Return the rooflines as an ``svg`` element without references to anything outside."""
    buffer = io.StringIO()
    rooflines(report).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    # names of XML languages look like addresses; a page of HTML does without them
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", drawn)


def rooflines(report: dict[str, Any]) -> Any:
    """Draw a roofline for each device of a report; returns a matplotlib figure."""
    names = list(report["devices"])
    across = min(2, len(names))
    down = -(-len(names) // across)
    figure = require("matplotlib.figure", "matplotlib").Figure(
        figsize=(6.2 * across, 4.6 * down), layout="constrained"
    )
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, names, strict=False):
        _roofline(panel, name, report)
    handles = [
        panels[0].scatter([], [], color=colour, label=f"bound by {bound}")
        for bound, colour in COLOURS.items()
    ]
    handles += [
        panels[0].scatter([], [], facecolor=face, edgecolor=_INK, label=label)
        for face, label in ((_INK, f"{FILLED} neurons"), ("none", f"{BATCH} samples"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _roofline(panel: Any, name: str, report: dict[str, Any]) -> None:
    device = report["devices"][name]
    peak, bandwidth = device["slots_per_s"], device["bandwidth_bytes_per_s"]
    points = [
        (row["intensity"], row["slots"] * p[key]["neuron_steps_per_s"], p[key]["bound"], key)
        for row in report["kernels"]
        for p in row["predictions"]
        if p["device"] == name
        for key in ("batch", "filled")
    ]
    low = min(x for x, *_ in points) / 2
    high = max(2 * peak / bandwidth, 2 * max(x for x, *_ in points))
    ridge = peak / bandwidth
    panel.plot([low, ridge, high], [low * bandwidth, peak, peak], color=_INK, linewidth=1.5)
    for x, y, bound, key in points:
        colour = COLOURS[bound]
        panel.scatter(
            x, y, s=26, facecolor=colour if key == "filled" else "none", edgecolor=colour, alpha=0.8
        )
    panel.set(
        xscale="log", yscale="log", xlim=(low, high), title=name,
        xlabel="issue slots a byte", ylabel="issue slots a second",
    )  # fmt: skip
    panel.annotate(
        f"bandwidth, {bandwidth / 1e12:.3g} TB/s", (0.02, 0.94), xycoords="axes fraction",
        fontsize=8, color=_INK,
    )  # fmt: skip
    panel.annotate(
        f"issue, {peak / 1e12:.3g} T/s", (high, peak), (-6, 5), textcoords="offset points",
        fontsize=8, ha="right", color=_INK,
    )  # fmt: skip
    panel.grid(which="major", color=_FAINT, linewidth=0.5)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
