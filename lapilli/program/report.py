"""What a training run leaves behind: the files of its folder and the numbers in them."""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lapilli import export, plot
from lapilli.classifier import Rate
from lapilli.data import Dataset
from lapilli.training import Epoch, accuracy, evaluate, in_order, layer_outputs

from . import report_page
from .checkpoints import HISTORY, write_history

MODEL, CURVES, RASTER, REPORT = "model.pt", "training.png", "raster.png", "report.json"
PAGE = "report.html"
PACKAGES = ("lapilli", "torch", "triton", "numba", "numpy", "h5py")


def versions() -> dict[str, str]:
    """Versions of Python, of lapilli and of the packages that it computes with."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["torch"] = torch.__version__  # which also says of which build it is
    return found


def measure(
    net: torch.nn.Sequential,
    data: Dataset,
    history: Sequence[Epoch],
    batch_size: int,
    kept: int = -1,
) -> dict[str, Any]:
    """Collect the numbers of a run, on the test samples and over its epochs.

    Throughput counts neurons x time steps x samples of an epoch over the median time of the epochs
    after the first, which compiles kernels; backward and optimizer are part of that time.

    Parameters
    ----------
    net
        Network after the last epoch.
    data
        Samples on its device.
    history
        All epochs.
    batch_size
        Samples a training step.
    kept
        Index in ``history`` of the epoch that the network holds.
    """
    net.eval()
    counts, outputs = [], []
    with torch.no_grad():
        for batch in in_order(data.test, batch_size):
            layers = layer_outputs(net, batch.spikes)
            counts.append(torch.stack([layer.count_nonzero() for layer in layers]))
            outputs.append(layers[-1])
    seen = len(data.train) // batch_size * batch_size
    epoch_seconds = statistics.median([e.seconds for e in history[1:]] or [history[0].seconds])
    neurons = [layer[0, ..., 0].numel() for layer in layers]
    spikes = [n / len(data.test) for n in torch.stack(counts).sum(0).tolist()]
    return {
        "test_accuracy": accuracy(torch.cat(outputs), data.test.labels),
        "train_accuracy": history[kept].train_accuracy,
        "loss": history[kept].loss,
        "epochs": len(history),
        "seconds": sum(e.seconds for e in history),
        "seconds_first_epoch": history[0].seconds,
        "seconds_an_epoch": epoch_seconds,
        "neuron_steps_a_second": sum(neurons) * layers[-1].shape[-1] * seen / epoch_seconds,
        "spikes_an_inference": sum(spikes),
        "spikes_an_inference_by_layer": spikes,
        "samples": {"train": len(data.train), "test": len(data.test)},
        "neurons": [batch.spikes[0, ..., 0].numel(), *neurons],
        "time_steps": layers[-1].shape[-1],
        "batch_size": batch_size,
    }


def write(
    folder: Path,
    net: torch.nn.Sequential,
    data: Dataset,
    history: Sequence[Epoch],
    results: dict[str, Any],
    *,
    pictures: bool = True,
) -> dict[str, Any]:
    """Write the files of a run and check the exported network.

    The network file is read back and run on the test samples; its output spikes must equal those
    of the network.

    Parameters
    ----------
    folder
        Existing folder; gets ``model.pt`` (state dict), ``<dataset>.net``, ``training.png``,
        ``raster.png``, ``report.html``, ``history.csv`` and ``report.json``.
    net
        Network.
    data
        Samples on its device.
    history
        All epochs.
    results
        Numbers of the run, with ``dataset``, the data set's name.
    pictures
        Draw the two pictures and the page.

    Returns
    -------
    dict
        ``results`` and what was found here, as in ``report.json``.
    """
    name = results["dataset"]
    torch.save(net.state_dict(), folder / MODEL)
    network = folder / f"{name}.net"
    export.save(net, network)
    files = [MODEL, network.name]
    loaded, batch_size = _read(network, data), results["batch_size"]
    outputs = evaluate(net, data.test, batch_size)
    different = evaluate(loaded, data.test, batch_size) != outputs
    if pictures:
        files += [CURVES, RASTER, PAGE]
    write_history(folder, history)
    files += [HISTORY, REPORT]
    results = {
        **results,
        "different_spikes": int(different.sum()),
        "files": [str(folder / file) for file in files],
        "versions": versions(),
        "history": [asdict(epoch) for epoch in history],
    }
    if pictures:
        _draw(folder, net, data, history, results)
        text = report_page.page(net, data, history, results, Rate.predict(outputs), network)
        (folder / PAGE).write_text(text, encoding="utf-8")
    (folder / REPORT).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def _read(network: Path, data: Dataset) -> torch.nn.Module:
    return export.load(network).to(data.test.labels.device)


def _draw(
    folder: Path,
    net: torch.nn.Sequential,
    data: Dataset,
    history: Sequence[Epoch],
    results: dict[str, Any],
) -> None:
    title = f"{results['dataset']}, {'-'.join(map(str, results['neurons']))}"
    plot.training_curves(history, folder / CURVES, title)
    (sample, *_), label = next(in_order(data.test, 1)).spikes, int(data.test.labels[0])
    with torch.no_grad():
        outputs = layer_outputs(net, sample.unsqueeze(0))
    names = ["input", *(f"hidden {i}" for i in range(1, len(outputs))), "output"]
    spikes = [sample, *(y[0] for y in outputs)]
    layers = {n: s.flatten(0, -2) for n, s in zip(names, spikes, strict=True)}
    read = int(Rate.predict(outputs[-1]))
    plot.raster(layers, folder / RASTER, f"{title}: test sample 0, a {label}, read as {read}")
