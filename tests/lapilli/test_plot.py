import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from lapilli.blocks import cuba, rf
from matplotlib.image import imread

from lapilli.extras import MissingExtraError
from lapilli.plot import (
    delay_histogram,
    histograms,
    raster,
    traces,
    training_curves,
    weight_histogram,
)
from lapilli.training import Epoch

HISTORY = [Epoch(n, 1 / n, 1 - 0.5 / n, 1 - 0.6 / n, 0.1) for n in (1, 2, 3)]


def ink(path, of="dark"):
    """Share of the picture's pixels that are not near white."""
    picture = imread(path)[..., :3]
    assert picture.shape[0] > 200
    assert picture.shape[1] > 200
    return float((picture.min(-1) < 0.8).mean())


def spikes(neurons, rate):
    return (torch.rand(neurons, 32) < rate).float()


@pytest.mark.parametrize("epochs", [1, 3])
def test_training_curves(tmp_path, epochs):
    training_curves(HISTORY[:epochs], tmp_path / "a.png", "a title")
    assert 0.01 < ink(tmp_path / "a.png") < 0.5


def test_raster_shows_the_spikes(tmp_path):
    for name, rate in (("some", 0.1), ("none", 0.0)):
        layers = {"input": spikes(64, rate), "output": spikes(10, rate)}
        raster(layers, tmp_path / f"{name}.png", "a title")
    assert ink(tmp_path / "some.png") > 1.5 * ink(tmp_path / "none.png") > 0


@pytest.mark.slow
def test_pyplot_is_left_alone(tmp_path):
    code = f"""if True:
        import sys, torch
        from lapilli.plot import raster
        assert not [m for m in sys.modules if m.startswith("matplotlib")]
        raster({{"a": torch.ones(3, 4)}}, {str(tmp_path / "a.png")!r})
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib .* pip install matplotlib"):
        raster({"a": torch.ones(3, 4)}, tmp_path / "a.png")


NEURON = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1}


def test_traces(tmp_path):
    torch.manual_seed(0)
    block = cuba.Dense(NEURON, 8, 12, weight_scale=3)
    x = (torch.rand(1, 8, 60) < 0.3).float()
    current, voltage = block.neuron.dynamics(block.synapse(x))
    spikes = block.neuron.spike(voltage)
    states = {"current": current[0], "voltage": voltage[0]}
    figure = traces(states, tmp_path / "a.png", "CUBA", threshold=1.0, spikes=spikes[0])
    assert 0.01 < ink(tmp_path / "a.png") < 0.5
    top, bottom = figure.axes
    assert (top.get_ylabel(), bottom.get_ylabel()) == ("current", "voltage")
    assert len(top.lines) == 10, "the first ten neurons"
    marks = sum(np.size(line.get_xdata()) for line in bottom.lines[10:20])
    assert marks == int(spikes[0, :10].sum()) > 0
    assert bottom.lines[-1].get_ydata() == [1.0, 1.0]
    one = traces({"voltage": voltage[0, 0]})
    assert len(one.axes[0].lines) == 1
    with pytest.raises(ValueError, match=r"voltage must be \[neurons, time\] .* \(1, 12, 60\)"):
        traces({"voltage": voltage})


def bars(axes):
    return {round(b.get_x() + b.get_width() / 2, 5): b.get_height() for b in axes.patches}


def test_weight_histogram(tmp_path):
    mask = torch.zeros(5, 4)
    mask[:, 0] = 1
    net: Any = torch.nn.Sequential(
        cuba.Dense(NEURON, 4, 5, mask=mask),
        rf.Dense({"threshold": 1.0, "period": 8, "decay": 0.1}, 5, 3, weight_norm=True),
    )
    figure: Any = weight_histogram(net, tmp_path / "a.png")
    assert 0.01 < ink(tmp_path / "a.png") < 0.7
    titles = [axes.get_title() for axes in figure.axes]
    names = ["0.synapse", "1.synapse.real", "1.synapse.imag"]
    assert [title.partition("\n")[0] for title in titles] == names
    share = (net[0].synapse.effective_weight(net[0].mask) == 0).float().mean()
    assert f"20 values, {share:.0%} zero" in titles[0]
    assert "15 values" in titles[1]
    for axes, synapse in zip(
        figure.axes, (net[0].synapse, net[1].synapse.real, net[1].synapse.imag), strict=True
    ):
        weight = synapse.effective_weight(net[0].mask if synapse is net[0].synapse else None)
        levels, counts = weight.detach().unique(return_counts=True)
        assert bars(axes) == {
            round(v, 5): n for v, n in zip(levels.tolist(), counts.tolist(), strict=True)
        }
    assert bars(figure.axes[0])[0.0] >= 15


def test_delay_histogram(tmp_path):
    net: Any = torch.nn.Sequential(cuba.Dense(NEURON, 4, 5, delay=True), cuba.Dense(NEURON, 5, 3))
    with pytest.raises(ValueError, match="can draw 1 to 64 histograms; got 0"):
        delay_histogram(net)
    net(torch.ones(1, 4, 3))
    net[0].delay.delay.data = torch.tensor([0.0, 3.9, 3.0, 61.5, 7.2])
    figure = delay_histogram(net, tmp_path / "a.png")
    assert 0.01 < ink(tmp_path / "a.png") < 0.7
    (axes,) = figure.axes
    assert bars(axes) == {0: 1, 3: 2, 7: 1, 61: 1}


def test_histogram_of_many_values():
    (axes,) = histograms({"a": torch.randn(1000)}, xlabel="value").axes
    assert sum(bars(axes).values()) == 1000
    assert len(bars(axes)) < 300
    (axes,) = histograms({"a": torch.ones(7)}).axes
    assert bars(axes) == {1: 7}
    (axes,) = histograms({"a": np.array([0] * 1000 + [1, 2, 3])}).axes
    assert axes.get_yscale() == "log"
    many = {str(i): torch.arange(3) for i in range(5)}
    figure = histograms(many)
    assert [axes.get_visible() for axes in figure.axes] == [True] * 5 + [False]
    with pytest.raises(ValueError, match="got 65"):
        histograms({str(i): torch.arange(3) for i in range(65)})
    with pytest.raises(ValueError, match="got 0"):
        weight_histogram(torch.nn.Linear(2, 2))


def test_figures_are_returned_and_need_no_file():
    figure = raster({"a": spikes(3, 0.5), "b": spikes(300, 0.5)})
    assert len(figure.axes) == 2
    assert figure.get_size_inches()[1] < 12
    assert training_curves(HISTORY).axes
