"""Recordings of one's own: a folder of classes, or a table of files, as a data set.

    FOLDER/<class>/...        a folder a class; the files of a folder below it are one group
    FOLDER/train/<class>/...  with FOLDER/test/<class>/...: the split is given
    TABLE.csv                 columns file and label, and if wanted group and split (train or test);
                              files are relative to the table

A group, a person or a session for instance, is never split between training and test samples.
"""

import csv
import dataclasses
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lapilli import io
from lapilli.data import SPLIT_SEED, Dataset
from lapilli.extras import require
from lapilli.io import Event

from .sets import MissingDataError, Recordings

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}  # milliseconds
STEPS = 100
_CAMERAS = (".aedat", ".aedat4", ".dat", ".es", ".raw")  # read by faery
FORMATS = (".npy", ".npz", ".h5", ".hdf5", ".bin", ".bs1", *_CAMERAS)
_NAMES = {"x": ("x",), "y": ("y",), "p": ("p", "on", "polarity"), "t": ("t", "ts", "timestamp")}
_SPLITS = ("train", "test")


class RecordingError(MissingDataError):
    """A file or folder of recordings cannot be used; the message says why."""


@dataclass(frozen=True)
class Options:
    """How recordings become spikes.

    Attributes
    ----------
    time_unit
        Unit of times in ``.npy``, ``.npz`` and ``.h5``: ``us``, ``ms`` or ``s``. The other formats
        have their own.
    steps
        Time steps of a sample.
    bin
        Milliseconds a step; None: the longest recording fills the steps.
    shrink
        Pixels in each direction that become one.
    merge
        Put both polarities into one channel.
    test
        Share of the samples that is held out, where the split is not given.
    """

    time_unit: str = "us"
    steps: int = STEPS
    bin: float | None = None
    shrink: int = 1
    merge: bool = False
    test: float = 0.2

    def __post_init__(self) -> None:
        if self.time_unit not in UNITS:
            raise ValueError(f"unknown time unit {self.time_unit!r}; there are: {', '.join(UNITS)}")
        if not 0 < self.test < 1:
            raise ValueError(f"the share of test samples is {self.test}; expected 0..1, without")
        if self.bin is not None and not 0 < self.bin < math.inf:
            raise ValueError(f"the time step is {self.bin} ms; expected more than 0")


@dataclass(frozen=True)
class File:
    """A recording: where, of which class and group, and its part where that is given."""

    path: Path
    label: str
    group: str
    split: str | None = None


def find(root: Path) -> list[File]:
    """List the recordings of a folder or a table, in a fixed order.

    Raises
    ------
    RecordingError
        If there are none, or the table is wrong.
    """
    files = _of_table(root) if root.suffix.lower() == ".csv" else _of_folder(root)
    labels = {file.label for file in files}
    if len(labels) < 2:
        raise RecordingError(
            f"there are {len(files)} recordings of {len(labels)} classes in {str(root)!r}; "
            f"expected a folder for each of two or more classes, with files {', '.join(FORMATS)}"
        )
    return files


def _of_folder(root: Path) -> list[File]:
    parts = {entry.name.lower(): entry for entry in root.iterdir() if entry.is_dir()}
    if set(parts) == set(_SPLITS):
        return [
            dataclasses.replace(file, split=split, group=f"{split}/{file.group}")
            for split in _SPLITS
            for file in _of_classes(parts[split])
        ]
    return _of_classes(root)


def _of_classes(root: Path) -> list[File]:
    found = []
    for path in sorted(root.rglob("*")):
        where = path.relative_to(root).parts
        if len(where) < 2 or path.suffix.lower() not in FORMATS or path.name.startswith("."):
            continue
        # files right in the folder of a class belong to no group but their own
        group = "/".join(where[1:-1]) or "/".join(where)
        found.append(File(path, where[0], group))
    return found


def _of_table(table: Path) -> list[File]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{table} is no table of text ({error})") from None
    found = []
    for line, row in enumerate(rows, 2):
        path, label = (row.get("file") or "").strip(), (row.get("label") or "").strip()
        split = (row.get("split") or "").strip().lower() or None
        if not path or not label:
            raise RecordingError(
                f"{table}, line {line}: expected columns file and label, and something in them; "
                f"the columns are {', '.join(map(str, row))}"
            )
        if split not in (None, *_SPLITS):
            raise RecordingError(
                f"{table}, line {line}: split is {split!r}; expected train or test"
            )
        where = table.parent / path
        if not where.is_file():
            raise RecordingError(f"{table}, line {line}: there is no file {str(where)!r}")
        found.append(File(where, label, (row.get("group") or "").strip() or path, split))
    given = {file.split is None for file in found}
    if len(given) > 1:
        raise RecordingError(
            f"{table}: some lines have a split and others none; expected all or none"
        )
    return found


def divide(files: list[File], share: float) -> tuple[list[File], list[File]]:
    """Hold out a share of the recordings, always the same one; groups stay together.

    Where each recording is a group of its own, each class gives its share.

    Raises
    ------
    RecordingError
        If a class would have no recording to train with, or none to test.
    """
    if files[0].split is not None:
        parts = tuple([file for file in files if file.split == split] for split in _SPLITS)
    else:
        held: set[str] = set()
        draw = random.Random(SPLIT_SEED)
        alone = len({file.group for file in files}) == len(files)
        labels = sorted({file.label for file in files}) if alone else [None]
        for label in labels:
            mine = [file for file in files if label in (None, file.label)]
            groups = sorted({file.group for file in mine})
            draw.shuffle(groups)
            count = 0
            for group in groups[:-1]:
                if count >= share * len(mine):
                    break
                held.add(group)
                count += sum(file.group == group for file in mine)
        parts = tuple(
            [file for file in files if (file.group in held) == out] for out in (False, True)
        )
    for name, part in zip(("training", "test"), parts, strict=True):
        lacking = {file.label for file in files} - {file.label for file in part}
        if lacking:
            raise RecordingError(
                f"class {sorted(lacking)[0]!r} has no {name} recording; give more recordings or "
                "groups, or the split: folders train and test, or a column split"
            )
    return parts[0], parts[1]


def read(path: Path, time_unit: str = "us") -> Event:
    """Read a recording; times in ms from its first event on, polarities 0 and 1.

    Parameters
    ----------
    path
        File in one of ``FORMATS``. Arrays of ``.npy`` have the columns x, y, p, t (or x, p, t), or
        fields of these names; ``.npz`` and ``.h5`` have arrays of these names, in ``.h5`` also in
        one group, or ``spikes/units`` and ``spikes/times``.
    time_unit
        Unit of times in ``.npy``, ``.npz`` and ``.h5``.

    Raises
    ------
    RecordingError
        If the file cannot be read as such, with the reason.
    MissingExtraError
        If a camera's format needs the package faery.
    """
    kind = path.suffix.lower()
    try:
        if kind in (".bin", ".bs1"):
            high, low, p, t = io._read_records(path)
            x, y = (high, low) if kind == ".bin" else (high << 8 | low, None)
            return _event(x, y, p, t)
        if kind in _CAMERAS:
            return _event(*_by_name(_camera(path), path), scale=UNITS["us"])
        reader = {".npy": _npy, ".npz": _npz}.get(kind, _h5)
        return _event(*reader(path), scale=UNITS[time_unit])
    except RecordingError:
        raise
    except (OSError, ValueError, KeyError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise RecordingError(f"{path} cannot be read as {kind}: {reason}") from None


def _event(x: Any, y: Any, p: Any, t: Any, scale: float = 1.0) -> Event:
    ms = np.asarray(t, np.float64) * scale
    ms -= ms.min(initial=math.inf) if len(ms) else 0
    return Event(x, y, np.asarray(p) > 0, ms, shift_channel=False)


def _by_name(values: Any, path: Path) -> tuple[Any, Any, Any, Any]:
    """Pick x, y, p and t of a mapping or of an array with fields."""
    names = values.dtype.names if isinstance(values, np.ndarray) else list(values)
    found = {}
    for key, known in _NAMES.items():
        name = next((name for name in known if name in names), None)
        found[key] = None if name is None else np.asarray(values[name])
    missing = [key for key in ("x", "t") if found[key] is None]
    if missing:
        raise RecordingError(
            f"{path} has {', '.join(map(str, names))}; expected x, y, p and t, of which y and p "
            "may be left out"
        )
    if found["p"] is None:
        found["p"] = np.ones_like(found["t"], bool)
    return found["x"], found["y"], found["p"], found["t"]


def _npy(path: Path) -> tuple[Any, Any, Any, Any]:
    rows = np.load(path, allow_pickle=False)
    if rows.dtype.names:
        return _by_name(rows, path)
    if rows.ndim != 2 or rows.shape[1] not in (3, 4):
        raise RecordingError(
            f"{path} has shape {rows.shape}; expected [events, 4] (x, y, p, t), [events, 3] (x, p, "
            "t), or fields x, y, p, t"
        )
    x, *y, p, t = rows.T
    return x, y[0] if y else None, p, t


def _npz(path: Path) -> tuple[Any, Any, Any, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return _by_name(arrays, path)


def _h5(path: Path) -> tuple[Any, Any, Any, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        if "spikes/units" in file:
            units, times = file["spikes/units"][()], file["spikes/times"][()]
            if units.dtype == object:
                raise RecordingError(
                    f"{path} holds {len(units)} samples, as the Spiking Heidelberg Digits: that is "
                    "lapilli train shd --data FOLDER; here a file is one recording"
                )
            return units, None, np.ones(len(units), bool), times
        groups = [file, *(entry for entry in file.values() if isinstance(entry, h5py.Group))]
        holder = next((group for group in groups if "t" in group or "ts" in group), file)
        return _by_name({name: entry[()] for name, entry in holder.items() if name in _ALL}, path)


_ALL = [name for names in _NAMES.values() for name in names]


def _camera(path: Path) -> np.ndarray:
    """Read a camera's file; errors of the package are of many kinds."""
    faery = require("faery", "faery", extra="cameras")
    try:
        return faery.events_stream_from_file(path).to_array()
    except Exception as error:
        raise RecordingError(f"faery cannot read {path}: {' '.join(str(error).split())}") from None


@dataclass
class Own:
    """A data set of one's own; ``open`` fills what is unknown before the files are read."""

    root: Path
    options: Options
    train: list[File] = dataclasses.field(init=False)
    test: list[File] = dataclasses.field(init=False)
    classes: list[str] = dataclasses.field(init=False)
    shape: tuple[int, int, int, int] = (0, 0, 0, 0)
    step: float = 0.0

    def __post_init__(self) -> None:
        files = find(self.root)
        self.train, self.test = divide(files, self.options.test)
        self.classes = sorted({file.label for file in files}, key=_natural)

    def open(self) -> Dataset:
        """Read all files once, for their sizes and lengths, and return the data set."""
        options = self.options
        last = {"c": 0, "y": 0, "x": 0}
        longest = 0.0
        for file in (*self.train, *self.test):
            event = read(file.path, options.time_unit)
            if not len(event):
                raise RecordingError(f"{file.path} has no events")
            for name in last:
                values = getattr(event, name)
                if values is not None:
                    if values.min() < 0:
                        raise RecordingError(f"{file.path} has an event at {name} = {values.min()}")
                    last[name] = max(last[name], int(values.max()))
            longest = max(longest, float(event.t.max()))
        step = options.bin or longest / max(options.steps - 1, 1)
        if longest < 2 * step or step <= 0:
            raise RecordingError(
                f"the longest recording takes {longest:g} ms, less than two steps of {step:g} ms; "
                f"is the unit of time {options.time_unit}? Give --time-unit us, ms or s, or --bin"
            )
        channels = 1 if options.merge else last["c"] + 1
        height, width = (last[n] // options.shrink + 1 for n in ("y", "x"))
        self.shape, self.step = (channels, height, width, options.steps), step
        return Dataset(self._part(self.train), self._part(self.test), len(self.classes))

    def _part(self, files: list[File]) -> Recordings:
        def reader(number: int) -> Event:
            event = read(files[number].path, self.options.time_unit)
            if self.options.merge:
                event.c = np.zeros_like(event.c)
            return event

        labels = torch.tensor([self.classes.index(file.label) for file in files])
        flat = self.shape[1] == 1
        return Recordings(reader, labels, self.shape, self.step, self.options.shrink, flat)

    def network(self) -> torch.nn.Sequential:
        """Make a network: dense layers for one line of inputs, else convolutions."""
        from lapilli.program.recipes import convolutions, dense_layers

        channels, height, width, _ = self.shape
        if height == 1:
            return dense_layers(channels * width, len(self.classes))
        return convolutions(channels, height, width, len(self.classes))

    def __str__(self) -> str:
        channels, height, width, steps = self.shape
        return (
            f"{len(self.train)} training and {len(self.test)} test recordings of "
            f"{len(self.classes)} classes; {channels} x {height} x {width} inputs, {steps} steps "
            f"of {self.step:g} ms"
        )


def _natural(label: str) -> tuple[bool, float, str]:
    """Sort numbers as numbers, before words."""
    return (False, float(label), label) if label.isdecimal() else (True, 0.0, label)


Network = Callable[[tuple[int, ...], int], torch.nn.Module]


def network_of_file(given: str) -> Network:
    """Load ``FILE.py:FUNCTION``: from the shape of a sample and the number of classes to a network.

    Raises
    ------
    RecordingError
        If there is no such file or function, or the file raises.
    """
    import importlib.util

    name, colon, function = given.rpartition(":")
    path = Path(name)
    if not colon or path.suffix != ".py" or not path.is_file():
        raise RecordingError(
            f"--net is {given!r}; expected FILE.py:FUNCTION, of a file that is there"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RecordingError(f"--net {given}: {_said(error)}") from None
    make = getattr(module, function, None)
    if not callable(make):
        raise RecordingError(f"--net {given}: {path.name} has no function {function!r}")
    return make


def checked(make: Network, given: str, sample: torch.Tensor, classes: int) -> torch.nn.Sequential:
    """Make the network of a user and run it on a sample ``[1, channels..., T]``.

    Raises
    ------
    RecordingError
        If it cannot be made, is no chain, or gives something else than ``[1, classes, T]``.
    """
    shape = tuple(sample.shape[1:-1])
    try:
        net = make(shape, classes)
        if not isinstance(net, torch.nn.Sequential):
            raise TypeError(f"returned a {type(net).__name__}; expected torch.nn.Sequential")
        net.to(sample.device)
        with torch.no_grad():
            output = net.eval()(sample)
        net.train()
    except Exception as error:
        raise RecordingError(
            f"--net {given}, called with {shape} and {classes}: {_said(error)}"
        ) from None
    if output.ndim != 3 or output.shape[1] != classes:
        raise RecordingError(
            f"--net {given}: the network gives {tuple(output.shape)} for {tuple(sample.shape)}; "
            f"expected [1, {classes}, time]"
        )
    return net


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
