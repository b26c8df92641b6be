import subprocess
import sys

import pytest
import torch
from matplotlib.image import imread

from lapilli.extras import MissingExtraError
from lapilli.plots import raster, training_curves
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


def test_pyplot_is_left_alone(tmp_path):
    code = f"""if True:
        import sys, torch
        from lapilli.plots import raster
        assert not [m for m in sys.modules if m.startswith("matplotlib")]
        raster({{"a": torch.ones(3, 4)}}, {str(tmp_path / "a.png")!r})
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib .* pip install 'lapilli\[demo\]'"):
        raster({"a": torch.ones(3, 4)}, tmp_path / "a.png")
