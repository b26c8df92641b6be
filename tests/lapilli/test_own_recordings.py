"""Recordings of one's own: small files in each format, written here."""

import json
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from known import present

from lapilli import io
from lapilli.extras import MissingExtraError
from lapilli.program.cli import main
from lapilli.recordings.own import FORMATS, File, Options, Own, RecordingError, divide, find, read

X = np.array([3, 0, 7, 2])
Y = np.array([1, 5, 0, 2])
P = np.array([1, 1, 1, 1])
MICROSECONDS = np.array([5000, 6000, 7500, 9000])
FIELDS = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])


def columns():
    return np.stack([X, Y, P, MICROSECONDS], 1)


def fields():
    rows = np.zeros(4, FIELDS)
    rows["x"], rows["y"], rows["on"], rows["t"] = X, Y, P, MICROSECONDS
    return rows


def write_h5(path, group=""):
    with h5py.File(path, "w") as file:
        for name, values in zip("xypt", (X, Y, P, MICROSECONDS), strict=True):
            file[f"{group}/{name}"] = values


WRITERS = {
    "columns.npy": lambda path: np.save(path, columns()),
    "fields.npy": lambda path: np.save(path, fields()),
    "named.npz": lambda path: np.savez(path, x=X, y=Y, polarity=P, ts=MICROSECONDS),
    "flat.h5": write_h5,
    "grouped.hdf5": lambda path: write_h5(path, "events"),
    "nmnist.bin": lambda path: io.encode_2d_spikes(path, io.Event(X, Y, P * 0, MICROSECONDS / 1e3)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_gives_the_same_events(name, tmp_path):
    WRITERS[name](tmp_path / name)
    event = read(tmp_path / name)
    assert event.x.tolist() == X.tolist()
    assert present(event.y).tolist() == Y.tolist()
    # of polarity 1 alone, which ``io.Event`` would move to channel 0; lava-dl's files are 0 here
    assert event.c.tolist() == ([0] * 4 if name.endswith(".bin") else [1] * 4)
    assert event.t.tolist() == [0.0, 1.0, 2.5, 4.0]


def test_one_dimension(tmp_path):
    io.encode_1d_spikes(tmp_path / "a.bs1", io.Event([700, 1], None, [0, 1], [1.0, 3.0]))
    event = read(tmp_path / "a.bs1")
    assert (event.x.tolist(), event.y, event.c.tolist()) == ([700, 1], None, [0, 1])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spikes/units"], file["spikes/times"] = [5, 6], [0.25, 0.75]
    event = read(tmp_path / "a.h5", "s")
    assert (event.x.tolist(), event.y, event.t.tolist()) == ([5, 6], None, [0.0, 500.0])


def test_cameras_are_read_by_faery(tmp_path, monkeypatch):
    stream = SimpleNamespace(to_array=fields)
    package = SimpleNamespace(events_stream_from_file=lambda path: stream)
    monkeypatch.setitem(sys.modules, "faery", package)
    assert read(tmp_path / "a.raw").t.tolist() == [0.0, 1.0, 2.5, 4.0]

    def broken(path):
        raise RuntimeError("no such\nversion")

    package.events_stream_from_file = broken
    with pytest.raises(RecordingError, match=r"faery cannot read .*a\.raw: no such version"):
        read(tmp_path / "a.raw")
    monkeypatch.setitem(sys.modules, "faery", None)
    with pytest.raises(MissingExtraError, match="pip install faery"):
        read(tmp_path / "a.raw")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.aedat4", {}),
        ("a.aedat", {"file_type": "aedat"}),
        ("a.es", {}),
        ("a.dat", {}),
        ("a.raw", {"version": "evt2"}),
        ("a.raw", {"version": "evt3"}),
    ],
    ids=str,
)
def test_files_that_faery_writes(name, options, tmp_path):
    faery = pytest.importorskip("faery")
    events: Any = np.zeros(4, faery.EVENTS_DTYPE)
    events["x"], events["y"], events["t"] = X, Y, MICROSECONDS
    events["on"] = [1, 0, 1, 0]
    faery.events_stream_from_array(events, (16, 8)).to_file(tmp_path / name, **options)
    event = read(tmp_path / name)
    assert (event.x.tolist(), present(event.y).tolist()) == (X.tolist(), Y.tolist())
    assert event.c.tolist() == [1, 0, 1, 0]
    assert event.t.tolist() == [0.0, 1.0, 2.5, 4.0]


def spoil(path):
    kind = path.suffix
    if kind == ".npy":
        np.save(path, np.zeros((3, 7)))
    elif kind == ".npz":
        np.savez(path, a=X)
    elif kind == ".bin":
        path.write_bytes(b"1234567")
    else:
        path.write_text("no such file")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.bin", "a.h5"])
def test_files_that_are_something_else(name, tmp_path):
    spoil(tmp_path / name)
    with pytest.raises(RecordingError, match=re.escape(str(tmp_path / name))) as wrong:
        read(tmp_path / name)
    assert "\n" not in str(wrong.value)


def test_a_file_that_is_no_array_of_numbers(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"junk")
    with pytest.raises(
        RecordingError, match=r"a\.npy cannot be read .* it is not a file of one arr.*; write"
    ):
        read(path)
    with path.open("wb") as file:
        np.savez(file, x=X)
    with pytest.raises(
        RecordingError, match=r"a\.npy cannot be read .* several arrays; .* ending \.npz"
    ):
        read(path)


def test_recordings_of_another_unit_of_time(tmp_path):
    def data_set(wrong, right):
        for number in range(wrong + right):
            path = tmp_path / "ab"[number % 2] / f"{number}.npy"
            path.parent.mkdir(exist_ok=True)
            unit = 1e-3 if number < wrong else 1
            np.save(path, np.stack([X, Y, P, MICROSECONDS * unit], 1))
        return Own(tmp_path, Options(steps=8))

    with pytest.warns(UserWarning, match="5 of 40 recordings take less than two steps of .* us in"):
        data_set(5, 35).open()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data_set(4, 36).open()


def test_the_speech_data_set_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.vlen_dtype(np.uint16)
        file.create_dataset("spikes/units", 2, kind)
        file.create_dataset("spikes/times", 2, kind)
    with pytest.raises(RecordingError, match="lapilli train shd"):
        read(tmp_path / "a.h5")


def recordings(root, classes=("left", "right"), people=5, each=2):
    """Bars that move to the left or to the right, some samples of each person."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(classes):
        for person in range(people):
            folder = root / name / f"person{person}"
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(each):
                t = np.sort(rng.integers(0, 100_000, 300))
                x = t * 8 // 100_000
                x = 7 - x if k == 0 else x
                rows = np.stack([x, rng.integers(0, 8, 300), rng.integers(0, 2, 300), t], 1)
                np.save(folder / f"{i}.npy", rows)
    return root


def test_folders_are_classes_and_groups_stay_together(tmp_path):
    files = find(recordings(tmp_path))
    assert len(files) == 20
    assert {file.label for file in files} == {"left", "right"}
    train, test = divide(files, 0.2)
    assert (len(train), len(test)) == (16, 4)
    assert {f.group for f in train} & {f.group for f in test} == set()
    assert [f.path for f in divide(files, 0.2)[1]] == [f.path for f in test]


def test_a_path_may_be_text(tmp_path):
    recordings(tmp_path)
    assert find(str(tmp_path)) == find(tmp_path)
    assert Own(str(tmp_path), Options()).train == Own(tmp_path, Options()).train


def test_without_groups_each_class_gives_its_share(tmp_path):
    files = [File(Path(f"{label}{i}"), label, f"{label}{i}") for label in "ab" for i in range(10)]
    train, test = divide(files, 0.3)
    assert [sum(f.label == label for f in test) for label in "ab"] == [3, 3]
    assert not {f.path for f in train} & {f.path for f in test}


def test_a_split_that_is_given(tmp_path):
    recordings(tmp_path / "Train", people=2)
    recordings(tmp_path / "Test", people=1)
    own = Own(tmp_path, Options())
    assert (len(own.train), len(own.test)) == (8, 4)
    assert own.classes == ["left", "right"]


def test_a_table(tmp_path):
    recordings(tmp_path / "files", people=2, each=1)
    lines = ["file,label,split"]
    for k, path in enumerate(sorted((tmp_path / "files").rglob("*.npy"))):
        lines.append(f"{path.relative_to(tmp_path)},{k // 2 + 9},{('train', 'test')[k % 2]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    own = Own(tmp_path / "table.csv", Options())
    assert own.classes == ["9", "10"]  # as numbers
    assert [f.label for f in own.test] == ["9", "10"]


def test_samples_have_the_size_of_the_recordings(tmp_path):
    own = Own(recordings(tmp_path), Options(steps=20))
    data = own.open()
    assert own.shape == (2, 8, 8, 20)
    batch = data.train.take(torch.tensor([0, 1]))
    assert batch.spikes.shape == (2, 2, 8, 8, 20)
    assert batch.spikes[..., -2:].any(), "the last events are within the steps"
    merged = Own(tmp_path, Options(steps=20, merge=True, shrink=2)).open()
    spikes = merged.train.take(torch.tensor([0, 1])).spikes
    assert spikes.shape == (2, 1, 4, 4, 20)
    both = batch.spikes.amax(1, keepdim=True)
    assert torch.equal(spikes, torch.nn.functional.max_pool3d(both, (2, 2, 1)))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "0 recordings of 0 classes"),
        ({"a/1.npy": 1, "a/2.npy": 1}, "2 recordings of 1 classes"),
        ({"a/1.npy": 1, "b/1.npy": 1}, "class 'a' has no test recording"),
        ({"train/a/1.npy": 1, "train/b/1.npy": 1, "test/a/1.npy": 1}, "class 'b' has no test"),
    ],
)
def test_folders_that_do_not_do(files, words, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, columns())
    with pytest.raises(RecordingError, match=words):
        Own(tmp_path, Options())


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("path,label\na.npy,1\n", "line 2: expected columns file and label"),
        ("file,label\na.npy,\n", "line 2: expected columns"),
        ("file,label\nb.npy,1\n", r"line 2: there is no file .*b\.npy"),
        ("file,label,split\na.npy,1,valid\n", "line 2: split is 'valid'"),
        ("file,label,split\na.npy,1,train\na.npy,2,\n", "some lines have a split"),
        ("", "lists no recordings"),
    ],
)
def test_tables_that_do_not_do(table, words, tmp_path):
    np.save(tmp_path / "a.npy", columns())
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(RecordingError, match=words):
        Own(tmp_path / "t.csv", Options())


def test_recordings_that_do_not_do(tmp_path):
    recordings(tmp_path)
    wrong = tmp_path / "left/person0/0.npy"
    for rows, words in (
        (np.zeros((0, 4)), "has no events"),
        (np.array([[-1, 0, 0, 0], [1, 0, 0, 9]]), "event at x = -1"),
    ):
        np.save(wrong, rows)
        with pytest.raises(RecordingError, match=words):
            Own(tmp_path, Options()).open()
    recordings(tmp_path)
    with pytest.raises(RecordingError, match=r"less than two steps.*is the unit of time us\?"):
        Own(tmp_path, Options(bin=80.0)).open()


NET = """
import torch
from lapilli.slayer import block

neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1, tau_grad=0.1)

def make(shape, classes):
    assert shape == (2, 8, 8), shape
    return torch.nn.Sequential(block.cuba.Flatten(), block.cuba.Dense(neuron, 128, classes))

def wrong(shape, classes):
    return torch.nn.Sequential(block.cuba.Flatten(), block.cuba.Dense(neuron, 128, 9))

def other(shape, classes):
    return block.cuba.Dense(neuron, 128, classes)

def streaming(shape, classes):
    kept = neuron | dict(persistent_state=True)
    return torch.nn.Sequential(block.cuba.Flatten(), block.cuba.Dense(kept, 128, classes))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recordings(tmp_path / "bars")
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


ARGUMENTS = ["train", "bars", "--steps", "10", "--epochs", "4", "--net", "net.py:make"]


def test_training(here, capsys):
    assert main([*ARGUMENTS, "--out", "run"]) == 0
    said = capsys.readouterr()
    assert "16 training and 4 test recordings of 2 classes; 2 x 8 x 8 inputs, 10 steps" in said.err
    report = json.loads(Path("run/report.json").read_text())
    assert report["classes"] == ["left", "right"]
    assert report["dataset"] == "bars"
    assert report["neurons"] == [128, 128, 2]
    assert Path("run/bars.net").exists()
    page = Path("run/report.html").read_text()
    assert "<th>left</th><th>right</th>" in page


def test_the_networks_of_recordings(here):
    own = Own(Path("bars"), Options(steps=10))
    data = own.open()
    assert own.network()(data.train.take(torch.tensor([0])).spikes).shape == (1, 2, 10)
    for path in Path("bars").rglob("*.npy"):
        np.save(path, np.load(path)[:, [0, 2, 3]])  # without y
    own = Own(Path("bars"), Options(steps=10))
    data = own.open()
    spikes = data.train.take(torch.tensor([0])).spikes
    assert spikes.shape == (1, 16, 10)
    assert own.network()(spikes).shape == (1, 2, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "digits", "--steps", "9"], "--steps is for recordings of your own"),
        (["train", "bars", "--data", "."], "leave --data out"),
        (["train", "net.py"], "is no folder and no table"),
        (["train", "bars", "--time-unit", "weeks"], "unknown time unit 'weeks'; there are: us, ms"),
        (["train", "bars", "--camera", "DVS"], "unknown camera 'DVS'; there are: DVS128, DAVIS240"),
        (["train", "bars", "--test-share", "2"], "share of test samples is 2.0"),
        (["train", "bars", "--bin", "-1"], "is '-1'; expected a number above 0"),
        (["train", "bars", "--net", "net.py"], r"expected FILE\.py:FUNCTION"),
        (["train", "bars", "--net", "nothing.py:make"], "there is no file 'nothing.py'"),
        (["train", "bars", "--device", "tpu"], r"'tpu' .*torch knows no device.*available: cpu"),
        (["train", "bars", "--net", "net.py:none"], "has no function 'none'"),
        (["train", "bars", "--net", "net.py:wrong"], r"expected \[1, 2, time\]"),
        (["train", "bars", "--net", "net.py:other"], "expected a torch.nn.Sequential"),
        (["train", "bars", "--net", "net.py:streaming"], "1.neuron: keeps its state from one call"),
        (["train", "digits", "--net", "net.py:make"], r"AssertionError: \(64,\)"),
        (["train", "bars", "--batch-size", "17"], "too few for a batch of 17"),
    ],
)
def test_wrong_input(arguments, words, here, capsys):
    before = sorted(here.iterdir())
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"lapilli: error: [^\n]+\n", err)
    assert re.search(words, err)
    assert sorted(p for p in here.iterdir() if p.name != "__pycache__") == before


def test_a_broken_file_is_named(here, capsys):
    Path("bars/left/person1/1.npy").write_text("nothing")
    assert main(["train", "bars"]) == 2
    assert re.search(r"error: bars/left/person1/1\.npy cannot be read", capsys.readouterr().err)


def test_the_page_names_the_formats():
    page = (Path(__file__).parents[2] / "docs/own-data.md").read_text()
    for kind in FORMATS:
        assert f"`{kind}`" in page
