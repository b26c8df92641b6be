"""Every example learns, draws its pictures and writes its network."""

import importlib.util
from pathlib import Path

import matplotlib
import pytest
from known import present
from matplotlib import pyplot
from matplotlib.image import imread
from turns import soon

from lapilli import export

FOLDER = Path(__file__).parents[2] / "examples"
LINE = "from lapilli import slayer  # for lava-dl: import lava.lib.dl.slayer as slayer"

# script: settings, by how much the loss falls at least, pictures
SCRIPTS = {
    "raster": ({"epochs": 60, "neurons": 100, "steps": 200}, 0.8, ("loss", "raster")),
    "events": ({"epochs": 4, "samples": 60, "hidden": 32}, 0.7, ("loss", "accuracy")),
    "gestures": ({"epochs": 4, "samples": 64}, 0.7, ("loss", "accuracy", "events")),
    "steering": ({"epochs": 20, "samples": 32, "steps": 6}, 0.5, ("loss", "angle")),
}
# in the trainers of other packages: the loss falls at least by this
TRAINERS = {
    "lightning_digits": ({"epochs": 4, "samples": 288}, 0.8),
    "accelerate_digits": ({"epochs": 3, "samples": 288}, 0.8),
}
WITHOUT_NETWORK = ("gestures",)  # netx runs no delays of convolutions


@pytest.fixture(autouse=True)
def _no_display():
    matplotlib.use("Agg")
    yield
    pyplot.close("all")


def test_all_are_here_and_in_the_readme():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*SCRIPTS, *TRAINERS, "own_neuron"}
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}.py`" in readme for name in (*SCRIPTS, *TRAINERS, "own_neuron"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_one_line_is_lapillis(name):
    lines = (FOLDER / f"{name}.py").read_text().splitlines()
    assert [line for line in lines if "import" in line and "lapilli" in line] == [LINE]


def load(name):
    spec = present(importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py"))
    script = importlib.util.module_from_spec(spec)
    present(spec.loader).exec_module(script)
    return script


@pytest.mark.parametrize("name", soon(("events", "gestures"), SCRIPTS))
def test_learns(name, tmp_path):
    settings, factor, pictures = SCRIPTS[name]
    losses = load(name).main(**settings, out=str(tmp_path / "new" / "folder"))
    folder = tmp_path / "new" / "folder"
    assert len(losses) == settings["epochs"]
    assert losses[-1] < factor * losses[0], losses
    for picture in pictures:
        pixels = imread(folder / f"{picture}.png")[..., :3]
        assert 0.005 < float((pixels.min(-1) < 0.8).mean()) < 0.7
    if name not in WITHOUT_NETWORK:
        assert len(export.load(folder / "network.net")) >= 2
    if name == "events":
        for film in ("input", "output"):
            assert (folder / f"{film}.gif").stat().st_size > 10_000


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Lightning: few workers, few batches
def test_trainers_of_other_packages(name, tmp_path):
    """Lightning's calls the network in inference mode first."""
    settings, factor = TRAINERS[name]
    losses = load(name).main(**settings, out=str(tmp_path / "new" / "folder"))
    assert len(losses) == settings["epochs"]
    assert losses[-1] < factor * losses[0], losses
    assert len(export.load(tmp_path / "new" / "folder" / "network.net")) == 2
