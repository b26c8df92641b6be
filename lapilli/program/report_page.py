"""The report of a training run as one page that needs nothing else."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lapilli import export, plot
from lapilli.data import Dataset
from lapilli.training import Epoch, layer_outputs

MOST_ROWS = 100  # of a layer in a raster
MOST_COUNTED = 8  # test samples on which operations are counted

_STYLE = """
:root { color-scheme: light dark; --ink: #22262b; --paper: #fff; --line: #d5dae0;
  --hit: 63, 143, 91; --miss: 200, 80, 44; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --paper: #1b1e22; --line: #3a4047; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2em auto; max-width: 66em; padding: 0 1em; }
h1, h2 { line-height: 1.2; }
img { max-width: 100%; height: auto; background: #fff; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2em .7em; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; white-space: normal; }
pre { overflow-x: auto; font-size: 13px; }
"""


def page(
    net: torch.nn.Sequential,
    data: Dataset,
    history: Sequence[Epoch],
    results: dict[str, Any],
    predicted: Tensor,
    network: Path,
) -> str:
    """Return the page of a run.

    Parameters
    ----------
    net
        The network that is kept, on the device of the data.
    data
        Samples.
    history
        All epochs.
    results
        Numbers of the run, as in ``report.json``.
    predicted
        ``[N]`` int64: the classes that the network reads from the test samples.
    network
        The network file.
    """
    share = f"{results['test_accuracy']:.2%} of the test samples are read correctly"
    title = f"{results['dataset']}: {share}"
    parts = [f"<h1>{html.escape(title)}</h1>", _facts(results)]
    parts += ["<h2>Training</h2>", _picture(plot.training_curves(history), "loss and accuracies")]
    parts += ["<h2>Which class is taken for which</h2>"]
    parts += [
        "<p>A row is a class, a column what the network reads; numbers of test samples.</p>",
        _confusion(data.test.labels.cpu(), predicted.cpu(), results["classes"]),
    ]
    kept = history[results["kept_epoch"] - 1]
    parts += ["<h2>Layers</h2>", _table(
        ("layer", "kind", "neurons", "rate", "silent neurons"),
        [(a.name, a.kind, a.neurons, f"{a.rate:.4f}", a.silent) for a in kept.layers],
    )]  # fmt: skip
    parts += ["<h2>Samples</h2>", *_samples(net, data, predicted, results["classes"])]
    weights = export.weights(network)
    if 0 < len(weights) <= 64:
        parts += ["<h2>Weights in the file</h2>", _picture(
            plot.histograms(weights, xlabel="weight in the file"), "histograms of weights"
        )]  # fmt: skip
    if any(type(module).__name__ == "Delay" for module in net.modules()):
        parts += ["<h2>Delays</h2>", _picture(plot.delay_histogram(net, title=""), "delays")]
    parts += ["<h2>On the chip</h2>", *_chip(network, data)]
    parts += ["<h2>Versions</h2>", _table(("package", "version"), results["versions"].items())]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
            *parts,
            "</body></html>",
            "",
        ]
    )


def _facts(results: dict[str, Any]) -> str:
    ended = "interrupted" if results["interrupted"] else "finished"
    ended = "stopped early" if results["stopped_early"] else ended
    rows = {
        "network": f"{'-'.join(map(str, results['neurons']))}, {results['time_steps']} time steps",
        "samples": f"{results['samples']['train']} to train, {results['samples']['test']} to test",
        "training": f"{results['epochs']} epochs in {results['seconds']:.1f} s on "
        f"{results['device']}, {ended}; epoch {results['kept_epoch']} is kept",
        "seed": results["seed"],
        "activity": f"{results['spikes_an_inference']:.1f} spikes an inference",
        "file": "read back, all output spikes are equal" if not results["different_spikes"] else
        f"read back, {results['different_spikes']} output spikes differ",
    }  # fmt: skip
    lines = "".join(
        f'<tr><td>{name}</td><td class="text">{html.escape(str(text))}</td></tr>'
        for name, text in rows.items()
    )
    return f"<table>{lines}</table>"


def _table(heading: Sequence[str], rows: Any) -> str:
    def line(cells: Any, tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)

    head = f"<tr>{line(heading, 'th')}</tr>" if heading else ""
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table>{head}{body}</table></div>'


def _picture(figure: Any, alternative: str) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    coded = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="{html.escape(alternative)}" src="data:image/png;base64,{coded}">'


def _confusion(labels: Tensor, predicted: Tensor, classes: Sequence[str]) -> str:
    size = len(classes)
    counts = torch.zeros(size, size, dtype=torch.int64)
    counts.index_put_((labels, predicted), torch.ones_like(labels), accumulate=True)
    rows = []
    for k, row in enumerate(counts.tolist()):
        of_class = max(sum(row), 1)
        cells = "".join(
            f'<td style="background: rgba(var(--{"hit" if k == j else "miss"}), '
            f'{0.8 * n / of_class:.2f})">{n or ""}</td>'
            for j, n in enumerate(row)
        )
        rows.append(f"<tr><td>{html.escape(classes[k])}</td>{cells}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *classes))
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _samples(
    net: torch.nn.Sequential, data: Dataset, predicted: Tensor, classes: Sequence[str]
) -> list[str]:
    """Draw the first test sample that is read right, and the first that is not."""
    parts = []
    right = (predicted == data.test.labels).cpu()
    for what, found in (("right", right), ("wrong", ~right)):
        if not found.any():
            parts.append(f"<p>No test sample is read {what}.</p>")
            continue
        number = int(found.nonzero()[0])
        sample = data.test.take(torch.tensor([number])).spikes
        with torch.no_grad():
            outputs = layer_outputs(net, sample)
        label, read = (classes[int(v[number])] for v in (data.test.labels, predicted))
        names = ["input", *(f"layer {i}" for i in range(len(outputs) - 1)), "output"]
        spikes = [sample[0], *(y[0] for y in outputs)]
        layers = dict(_some(n, s.flatten(0, -2)) for n, s in zip(names, spikes, strict=True))
        title = f"Test sample {number}, a {label}, read as {read}"
        parts.append(_picture(plot.raster(layers, title=title), title))
    return parts


def _some(name: str, spikes: Tensor) -> tuple[str, Tensor]:
    """Take neurons at even distances, where there are more than a picture shows."""
    neurons = len(spikes)
    if neurons <= MOST_ROWS:
        return name, spikes
    rows = torch.linspace(0, neurons - 1, MOST_ROWS).round().long()
    return f"{name}, {MOST_ROWS} of {neurons} neurons", spikes[rows.to(spikes.device)]


def _chip(network: Path, data: Dataset) -> list[str]:
    """Say whether the file can be deployed, what it takes, and how it works on test samples."""
    findings = export.check(network)
    lines = [html.escape(str(finding)) for finding in findings]
    said = "<br>".join(lines) or "Lava's netx can deploy the file; nothing stands against it."
    samples = data.test.take(torch.arange(min(len(data.test), MOST_COUNTED))).spikes.cpu()
    try:
        budget = export.budget(network, samples)
    except ValueError:  # layers without an integer form
        budget = export.budget(network)
    return [f"<p>{said}</p>", f"<pre>{html.escape(str(budget))}</pre>"]
