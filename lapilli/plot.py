"""Pictures of spikes, states, weights and delays, and of a training run.

Every function returns a matplotlib figure and, given a path, writes it: no display is needed.
matplotlib is imported when the first picture is drawn. Figures are plain objects: the state of
``matplotlib.pyplot`` and the user's backend stay as they are.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from .extras import require
from .training import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "DPI",
    "Path",
    "delay_histogram",
    "histograms",
    "raster",
    "traces",
    "training_curves",
    "weight_histogram",
]

Path = str | PathLike[str] | None

DPI = 120
_MANY = 10  # lines or rows that are still told apart
_LEVELS = 256  # that a histogram shows apart; also its number of bins
_MOST_PANELS = 64


def _figure(width: float, height: float, title: str) -> "Figure":
    figure = require("matplotlib.figure", "matplotlib")
    made = figure.Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    made.suptitle(title)
    return made


def _stack(figure: "Figure", heights: Sequence[float]) -> Any:
    """Panels one above another over a shared time axis."""
    panels = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    panels[-1].set_xlabel("time step")
    return panels


def _written(figure: "Figure", path: Path) -> "Figure":
    if path is not None:
        figure.savefig(path)
    return figure


def _series(name: str, values: Tensor) -> np.ndarray:
    """Values ``[neurons, T]`` or ``[T]`` of one sample as ``[neurons, T]``."""
    array = torch.atleast_2d(values.detach()).cpu().numpy()
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be [neurons, time] of one sample; got shape {tuple(values.shape)}. Use "
            "x[0].flatten(0, -2)."
        )
    return array


def training_curves(history: Sequence[Epoch], path: Path = None, title: str = "") -> "Figure":
    """Draw loss and accuracies over the epochs.

    Parameters
    ----------
    history
        What `lapilli.training.fit` yielded.
    path
        Picture to write; its suffix chooses the format.
    title
        Heading.

    Examples
    --------
    >>> from lapilli import plot
    >>> from lapilli.training import Epoch
    >>> history = [Epoch(1, 0.5, 0.6, 0.55, 1.2), Epoch(2, 0.3, 0.8, 0.7, 0.1)]
    >>> figure = plot.training_curves(history, "training.png")
    """
    require("matplotlib.ticker", "matplotlib")
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = [epoch.number for epoch in history]
    marker = "o" if len(history) == 1 else ""  # a line needs two points
    figure = _figure(9, 3.6, title)
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
    return _written(figure, path)


def raster(layers: Mapping[str, Tensor], path: Path = None, title: str = "") -> "Figure":
    """Draw the spikes of one sample, one panel a layer over a shared time axis.

    Parameters
    ----------
    layers
        Name to spikes ``[neurons, T]``, first layer on top.
    path
        Picture to write; its suffix chooses the format.
    title
        Heading.

    Raises
    ------
    ValueError
        For spikes of another shape.

    Examples
    --------
    >>> import torch
    >>> from lapilli import plot
    >>> spikes = (torch.rand(20, 50) < 0.1).float()  # [neurons, time]
    >>> figure = plot.raster({"hidden": spikes}, "raster.png", "One sample")
    """
    spikes = {name: _series(name, values) for name, values in layers.items()}
    heights = [max(1.6, min(0.025 * len(values), 8)) for values in spikes.values()]
    figure = _figure(9, 1 + sum(heights), title)
    panels = _stack(figure, heights)
    for axes, (name, values) in zip(panels, spikes.items(), strict=True):
        neurons, T = values.shape
        neuron, time = np.nonzero(values)
        width = float(np.clip(420 / T, 0.8, 3))  # marks of neighbouring steps stay apart
        axes.vlines(time, neuron - 0.5, neuron + 0.5, lw=width)
        axes.set(ylabel=f"{name}\n{len(time)} spikes", ylim=(neurons - 0.5, -0.5), xlim=(-0.5, T))
        if neurons <= _MANY:
            axes.set_yticks(range(neurons))
    return _written(figure, path)


def traces(
    states: Mapping[str, Tensor],
    path: Path = None,
    title: str = "",
    *,
    threshold: float | None = None,
    spikes: Tensor | None = None,
) -> "Figure":
    """Draw states over time, one panel each: what ``dynamics`` of a neuron returns.

    Parameters
    ----------
    states
        Name to values ``[neurons, T]`` or ``[T]`` of one sample; the first ten neurons are drawn.
    path
        Picture to write; its suffix chooses the format.
    title
        Heading.
    threshold
        Line in the last panel.
    spikes
        ``[neurons, T]`` or ``[T]``: marks in the last panel, where the state spikes.

    Raises
    ------
    ValueError
        For states of another shape.

    Examples
    --------
    >>> import torch
    >>> from lapilli import plot
    >>> figure = plot.traces({"voltage": torch.rand(50)}, "trace.png", threshold=0.9)
    """
    figure = _figure(9, 1 + 2.2 * len(states), title)
    panels = _stack(figure, [1] * len(states))
    for axes, (name, values) in zip(panels, states.items(), strict=True):
        drawn = _series(name, values)[:_MANY]
        for neuron, line in enumerate(drawn):
            axes.plot(line, lw=1.2, label=f"neuron {neuron}")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    if spikes is not None:
        for neuron, line in enumerate(_series("spikes", spikes)[: len(drawn)]):
            (time,) = np.nonzero(line)
            color = axes.lines[neuron].get_color()
            axes.plot(time, drawn[neuron][time], "o", ms=5, color=color)
    if threshold is not None:
        axes.axhline(threshold, ls="--", lw=1, color="black", label="threshold")
    if len(drawn) > 1 or threshold is not None:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    return _written(figure, path)


def histograms(
    values: Mapping[str, Tensor | np.ndarray], path: Path = None, title: str = "", *,
    xlabel: str = "",
) -> "Figure":  # fmt: skip
    """Draw how often each value occurs, one panel an entry over a shared range.

    Parameters
    ----------
    values
        Name to values of any shape.
    path
        Picture to write; its suffix chooses the format.
    title
        Heading.
    xlabel
        What the values are.

    Raises
    ------
    ValueError
        If there is nothing to draw, or more than 64 panels of it.

    Examples
    --------
    >>> import torch
    >>> from lapilli import plot
    >>> figure = plot.histograms({"layer 0": torch.randn(100)}, xlabel="weight")
    """
    if not 1 <= len(values) <= _MOST_PANELS:
        raise ValueError(f"can draw 1 to {_MOST_PANELS} histograms; got {len(values)}")
    columns = min(3, len(values))
    rows = math.ceil(len(values) / columns)
    figure = _figure(max(6, 4 * columns), 0.6 + 2.6 * rows, title)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).reshape(-1)
    for axes, (name, entries) in zip(panels, values.items(), strict=False):
        numbers = torch.as_tensor(entries).detach().flatten().cpu().numpy()
        levels, counts = np.unique(numbers, return_counts=True)
        if len(levels) <= _LEVELS:  # one bar a level of quantised values
            gap = np.diff(levels).min() if len(levels) > 1 else 1
            axes.bar(levels, counts, 0.9 * gap)
        else:
            counts, *_ = axes.hist(numbers, _LEVELS)
        zeros = np.mean(numbers == 0)
        axes.set_title(f"{name}\n{numbers.size} values, {zeros:.0%} zero", fontsize="medium")
        if counts.max() > 100 * np.median(counts):  # many zeros would hide the rest
            axes.set(yscale="log", ylim=(0.7, None))
        axes.grid(alpha=0.3)
    for axes in panels[len(values) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(values) - columns) : len(values)]:
        axes.set_xlabel(xlabel)
        axes.tick_params(labelbottom=True)
    for axes in panels[::columns]:
        axes.set_ylabel("how often")
    return _written(figure, path)


def weight_histogram(net: torch.nn.Module, path: Path = None, title: str = "weights") -> "Figure":
    """Draw the weights of each synapse as forward uses them: normalised, masked, quantised.

    Parameters
    ----------
    net
        Any module with synapses of lapilli.
    path
        Picture to write; its suffix chooses the format.
    title
        Heading.

    Raises
    ------
    ValueError
        If there are no synapses.

    Examples
    --------
    >>> import torch
    >>> from lapilli import plot, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2))
    >>> figure = plot.weight_histogram(net)
    """
    from .blocks.synapse import GenericLayer

    blocks = cast("Iterable[Any]", net.modules())
    masks = {
        id(synapse): block.mask
        for block in blocks
        if getattr(block, "mask", None) is not None
        for synapse in block.synapse.modules()
    }
    weights = {
        name or "synapse": synapse.effective_weight(masks.get(id(synapse)))
        for name, synapse in net.named_modules()
        if isinstance(synapse, GenericLayer)
    }
    return histograms(weights, path, title, xlabel="weight")


def delay_histogram(net: torch.nn.Module, path: Path = None, title: str = "delays") -> "Figure":
    """Draw the axonal delays of each layer in whole steps, as forward uses them.

    Parameters
    ----------
    net
        Any module with learned delays of lapilli that has run once.
    path
        Picture to write; its suffix chooses the format.
    title
        Heading.

    Raises
    ------
    ValueError
        If there are no delays, or none has been drawn yet.

    Examples
    --------
    >>> import torch
    >>> from lapilli import plot, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2, delay=True))
    >>> output = net(torch.rand(4, 3, 10))
    >>> figure = plot.delay_histogram(net)
    """
    from .blocks.delay import Delay

    delays = {
        name or "delay": (delay.delay / delay.sampling_time).floor()
        for name, delay in net.named_modules()
        if isinstance(delay, Delay) and delay.init
    }
    return histograms(delays, path, title, xlabel="steps")
