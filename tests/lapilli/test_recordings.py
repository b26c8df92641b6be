"""Small files in the formats of the published data sets, written here."""

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from known import opened
from torch.testing import assert_close

from lapilli import io, recordings
from lapilli.extras import MissingExtraError
from lapilli.program.cli import main
from lapilli.program.recipes import RECIPES
from lapilli.recordings import MissingDataError

RNG = np.random.default_rng(0)


def write_nmnist(root, samples=12):
    for i in range(samples):
        for part in ("Train", "Test"):
            folder = root / part / str(i % 3)
            folder.mkdir(parents=True, exist_ok=True)
            n = 4000
            x = RNG.integers(0, 34, n) if i % 3 else RNG.integers(0, 12, n)
            event = io.Event(x, RNG.integers(0, 34, n), RNG.integers(0, 2, n), 310 * RNG.random(n))
            io.encode_2d_spikes(folder / f"{i:05d}.bin", event)


def write_shd(root, samples=12):
    for name in ("shd_train.h5", "shd_test.h5"):
        with h5py.File(root / name, "w") as file:
            labels = np.arange(samples) % 4
            units = [RNG.integers(0, 700, 8000 + i).astype(np.uint16) for i in range(samples)]
            times = [RNG.random(len(u)).astype(np.float16) for u in units]
            spikes = file.create_group("spikes")
            for key, values, kind in (("times", times, np.float16), ("units", units, np.uint16)):
                data = spikes.create_dataset(key, samples, h5py.vlen_dtype(kind))
                for i, row in enumerate(values):
                    data[i] = row
            file["labels"] = labels.astype(np.uint16)
            file["extra/speaker"] = np.zeros(samples, np.uint16)


def write_dvsgesture(root, samples=12):
    for part in ("ibmGestureTrain", "ibmGestureTest"):
        for i in range(samples):
            folder = root / part / f"user{i // 4:02d}_led"
            folder.mkdir(parents=True, exist_ok=True)
            n = 3000
            columns = (RNG.integers(0, 128, n), RNG.integers(0, 128, n), RNG.integers(0, 2, n),
                       np.sort(RNG.integers(0, 1600, n)))  # fmt: skip
            np.save(folder / f"{i % 4}.npy", np.stack(columns, 1).astype(np.float64))


WRITERS = {"nmnist": write_nmnist, "shd": write_shd, "dvsgesture": write_dvsgesture}
SUBFOLDERS = {"nmnist": "NMNIST", "shd": "SHD", "dvsgesture": "DVSGesture"}
SHAPES = {"nmnist": (2312, 300), "shd": (700, 250), "dvsgesture": (2, 32, 32, 150)}


@pytest.fixture(params=WRITERS)
def name(request):
    return request.param


@pytest.fixture
def root(name, tmp_path):
    WRITERS[name](tmp_path)
    return tmp_path


def test_batches(name, root):
    data = recordings.load(name, root)
    net: Any = RECIPES[name].network()
    assert data.classes == net[-1].synapse.out_channels
    assert len(data.train) == len(data.test) == 12
    batch = data.train.take(torch.tensor([5, 0, 5]))
    assert batch.spikes.shape == (3, *SHAPES[name])
    assert batch.spikes.dtype == torch.float32
    assert set(batch.spikes.unique().tolist()) == {0.0, 1.0}
    assert batch.spikes.movedim(-1, 1).is_contiguous(), "the rows of the first layer"
    assert_close(batch.spikes[0], batch.spikes[2], rtol=0, atol=0)
    assert (batch.spikes[0] != batch.spikes[1]).any()
    assert batch.labels.tolist() == [int(data.train.labels[i]) for i in (5, 0, 5)]
    assert data.to("cpu").test.take(torch.tensor([1])).labels.dtype == torch.int64


def test_the_subfolder_of_tonic_is_found(name, tmp_path):
    folder = tmp_path / SUBFOLDERS[name]
    folder.mkdir()
    WRITERS[name](folder)
    assert len(recordings.load(name, tmp_path).train) == 12


def test_a_path_may_be_text(name, root):
    one, other = recordings.load(name, str(root)), recordings.load(name, root)
    assert torch.equal(one.train.labels, other.train.labels)


def test_nmnist_events_are_where_the_file_has_them(tmp_path):
    write_nmnist(tmp_path, 1)
    file = tmp_path / "Train" / "0" / "00000.bin"
    io.encode_2d_spikes(file, io.Event([3, 33], [7, 0], [0, 1], [2.2, 299.9]))
    (spikes,) = recordings.nmnist(tmp_path, train=True).take(torch.tensor([0])).spikes
    assert spikes.view(2, 34, 34, 300).nonzero().tolist() == [[0, 7, 3, 2]]  # 299.9 is past the end


def test_shd_and_gesture_bins(tmp_path):
    write_shd(tmp_path, 2)
    with opened(tmp_path / "shd_train.h5", "r+") as file:
        file["spikes/times"][1] = np.array([0.0, 0.5], np.float16)
        file["spikes/units"][1] = np.array([699, 4], np.uint16)
    (spikes,) = recordings.shd(tmp_path, train=True).take(torch.tensor([1])).spikes
    assert spikes.nonzero().tolist() == [[4, 125], [699, 0]]
    write_dvsgesture(tmp_path, 1)
    file = tmp_path / "ibmGestureTest" / "user00_led" / "0.npy"
    np.save(file, np.array([[127, 4, 1, 20], [3, 3, 0, 1490]]))
    (spikes,) = recordings.dvsgesture(tmp_path, train=False).take(torch.tensor([0])).spikes
    assert spikes.nonzero().tolist() == [[0, 0, 0, 149], [1, 1, 31, 2]]


def test_missing_data(name, tmp_path):
    with pytest.raises(MissingDataError, match=f"subfolder {SUBFOLDERS[name]}.*--download"):
        recordings.load(name, tmp_path)


@pytest.mark.parametrize("name", ["nmnist", "dvsgesture"], indirect=True)
def test_folders_without_recordings(name, tmp_path):
    for part in ("Train", "Test", "ibmGestureTrain", "ibmGestureTest"):
        (tmp_path / part).mkdir()
    with pytest.raises(MissingDataError, match="there are no recordings in"):
        recordings.load(name, tmp_path)


def test_download_is_tonics(name, root, monkeypatch):
    asked = []
    source = lambda save_to, train: asked.append((save_to, train))  # noqa: E731
    datasets = SimpleNamespace(**{SUBFOLDERS[name]: source})
    monkeypatch.setitem(sys.modules, "tonic", ModuleType("tonic"))
    monkeypatch.setitem(sys.modules, "tonic.datasets", datasets)
    recordings.load(name, root)
    assert asked == [], "nothing is downloaded unasked"
    recordings.load(name, root, download=True)
    assert asked == [(str(root), True), (str(root), False)]


def test_download_without_tonic(name, root, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(MissingExtraError, match=r"tonic .* pip install tonic"):
        recordings.load(name, root, download=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shd", "nmnist", "dvsgesture"], indirect=True)
def test_training_runs(name, root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        RECIPES, name, RECIPES[name].__class__(**{**vars(RECIPES[name]), "batch_size": 6})
    )
    args = ["train", name, "--data", str(root), "--epochs", "1", "--json", "--out", "run"]
    assert main(args) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["different_spikes"] == 0
    assert report["samples"] == {"train": 12, "test": 12}
    assert report["time_steps"] == SHAPES[name][-1]
    assert all(n > 0 for n in report["spikes_an_inference_by_layer"][:-1])
    for picture in ("training.png", "raster.png"):
        assert (tmp_path / "run" / picture).stat().st_size > 10_000
