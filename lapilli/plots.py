"""Pictures of a training run, drawn with matplotlib without a display.

matplotlib is imported when the first picture is drawn. Figures are plain objects: the state of
``matplotlib.pyplot`` and the user's backend stay as they are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .extras import require
from .training import Epoch

DPI = 120


def _figure(width: float, height: float) -> Any:
    figure = require("matplotlib.figure", "matplotlib")
    return figure.Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def training_curves(history: Sequence[Epoch], path: str | Path, title: str = "") -> None:
    """Draw loss and accuracies over the epochs.

    Parameters
    ----------
    history
        What `lapilli.training.fit` yielded.
    path
        Picture to write; its suffix chooses the format.
    title
        Heading.
    """
    require("matplotlib.ticker", "matplotlib")
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = [epoch.number for epoch in history]
    marker = "o" if len(history) == 1 else ""  # a line needs two points
    figure = _figure(9, 3.6)
    figure.suptitle(title)
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [epoch.loss for epoch in history], marker=marker, color="tab:blue")
    loss.set(xlabel="epoch", ylabel="training loss a sample", yscale="log")
    for name, color in (("train", "tab:blue"), ("test", "tab:orange")):
        values = [getattr(epoch, f"{name}_accuracy") for epoch in history]
        label = f"{name}, {values[-1]:.1%} at the end"
        accuracy.plot(epochs, values, marker=marker, color=color, label=label)
    accuracy.set(xlabel="epoch", ylabel="accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.legend(loc="lower right")
    for axes in (loss, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3, which="both")
    figure.savefig(path)


def raster(layers: Mapping[str, Tensor], path: str | Path, title: str = "") -> None:
    """Draw the spikes of one sample, one panel a layer over a shared time axis.

    Parameters
    ----------
    layers
        Name to spikes ``[neurons, T]``, first layer on top.
    path
        Picture to write; its suffix chooses the format.
    title
        Heading.
    """
    heights = [max(1.6, 0.025 * len(spikes)) for spikes in layers.values()]
    figure = _figure(9, 1 + sum(heights))
    figure.suptitle(title)
    panels = figure.subplots(
        len(layers), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for axes, (name, spikes) in zip(panels, layers.items(), strict=True):
        neurons, T = spikes.shape
        neuron, time = (i.tolist() for i in spikes.detach().cpu().nonzero(as_tuple=True))
        axes.vlines(time, [n - 0.5 for n in neuron], [n + 0.5 for n in neuron], lw=3)
        axes.set(ylabel=f"{name}\n{len(time)} spikes", ylim=(neurons - 0.5, -0.5), xlim=(-0.5, T))
        if neurons <= 10:
            axes.set_yticks(range(neurons))
    panels[-1].set_xlabel("time step")
    figure.savefig(path)
