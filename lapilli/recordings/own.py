"""Recordings of one's own: a folder of classes, or a table of files, as a data set.

    FOLDER/<class>/...        a folder a class; the files of a folder below it are one group
    FOLDER/train/<class>/...  with FOLDER/test/<class>/...: the split is given
    TABLE.csv                 columns file and label, and if wanted group and split (train or test);
                              files are relative to the table

A group, a person or a session for instance, is never split between training and test samples.
"""

import dataclasses
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lapilli.data import Dataset, Recordings
from lapilli.io import Event

from . import aedat
from .aedat import CAMERAS
from .errors import RecordingError, SmallerCameraWarning
from .formats import FORMATS, UNITS, read
from .lists import File, divide, find

__all__ = ["FORMATS", "File", "Options", "Own", "RecordingError", "divide", "find", "read"]

STEPS = 100
_SHORT = 0.1  # share of the recordings that may be shorter than two steps without a word


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
    camera
        ``DVS128``, ``DAVIS240``, ``DAVIS346`` or ``DAVIS640``, for files of AEDAT 2.0 that do not
        name theirs.

    Examples
    --------
    >>> from lapilli.recordings.own import Options
    >>> Options(steps=50, shrink=2).time_unit
    'us'
    """

    time_unit: str = "us"
    steps: int = STEPS
    bin: float | None = None
    shrink: int = 1
    merge: bool = False
    test: float = 0.2
    camera: str | None = None

    def __post_init__(self) -> None:
        if self.time_unit not in UNITS:
            raise ValueError(f"unknown time unit {self.time_unit!r}; there are: {', '.join(UNITS)}")
        if self.camera not in (None, *CAMERAS):
            raise ValueError(f"unknown camera {self.camera!r}; there are: {', '.join(CAMERAS)}")
        if not 0 < self.test < 1:
            raise ValueError(
                f"the share of test samples is {self.test}; expected a number between 0 and 1"
            )
        if self.bin is not None and not 0 < self.bin < math.inf:
            raise ValueError(f"the time step is {self.bin} ms; expected more than 0")


@dataclass
class Own:
    """A data set of one's own; ``open`` fills what is unknown before the files are read.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> for name in ("left", "right"):
    ...     for k in range(5):
    ...         path = Path("recordings") / name / f"{k}.npy"
    ...         path.parent.mkdir(parents=True, exist_ok=True)
    ...         np.save(path, [[k, 0, 1, 0], [3, 2, 0, 90_000]])  # rows x, y, polarity, us
    >>> from lapilli.recordings.own import Options, Own
    >>> data = Own("recordings", Options(steps=10)).open()
    >>> len(data.train), len(data.test), data.classes
    (8, 2, 2)
    """

    root: str | os.PathLike[str]
    options: Options
    train: list[File] = dataclasses.field(init=False)
    test: list[File] = dataclasses.field(init=False)
    classes: list[str] = dataclasses.field(init=False)
    shape: tuple[int, int, int, int] = (0, 0, 0, 0)
    step: float = 0.0

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        files = find(self.root)
        self.train, self.test = divide(files, self.options.test)
        self.classes = sorted({file.label for file in files}, key=_natural)

    def open(self) -> Dataset:
        """Read all files once, for their sizes and lengths, and return the data set."""
        options = self.options
        last = {"c": 0, "y": 0, "x": 0}
        lengths: list[float] = []
        events, column, row = 0, math.inf, math.inf  # of the camera that is given
        for file in (*self.train, *self.test):
            event = self._read(file)
            if not len(event):
                raise RecordingError(f"{file.path} has no events")
            if options.camera is not None and aedat.is_version_2(file.path):
                assert event.y is not None  # cameras have rows
                events += len(event)
                column, row = min(column, event.x.min()), min(row, event.y.min())
            for name in last:
                values = getattr(event, name)
                if values is not None:
                    if values.min() < 0:
                        raise RecordingError(f"{file.path} has an event at {name} = {values.min()}")
                    last[name] = max(last[name], int(values.max()))
            lengths.append(float(event.t.max()))
        longest = max(lengths)
        step = options.bin or longest / max(options.steps - 1, 1)
        if longest < 2 * step or step <= 0:
            raise RecordingError(
                f"the longest recording takes {longest:g} ms, less than two steps of {step:g} ms; "
                f"is the unit of time {options.time_unit}? Give --time-unit us, ms or s, or --bin"
            )
        short = sum(length < 2 * step for length in lengths)
        if short > _SHORT * len(lengths):
            warnings.warn(
                f"{short} of {len(lengths)} recordings take less than two steps of {step:g} ms, "
                f"the longest takes {longest:g} ms; is the unit of time {options.time_unit} in all "
                "of them? See --time-unit and --bin",
                stacklevel=2,
            )
        if options.camera is not None and events:
            aedat.warn_of_smaller(options.camera, events, int(column), int(row))
        channels = 1 if options.merge else last["c"] + 1
        height, width = (last[n] // options.shrink + 1 for n in ("y", "x"))
        self.shape, self.step = (channels, height, width, options.steps), step
        return Dataset(self._part(self.train), self._part(self.test), len(self.classes))

    def _part(self, files: list[File]) -> Recordings:
        def reader(number: int) -> Event:
            event = self._read(files[number])
            if self.options.merge:
                event.c = np.zeros_like(event.c)
            return event

        labels = torch.tensor([self.classes.index(file.label) for file in files])
        flat = self.shape[1] == 1
        return Recordings(reader, labels, self.shape, self.step, self.options.shrink, flat)

    def _read(self, file: File) -> Event:
        """Read a recording; whether the camera is a smaller one, ``open`` tells of all together."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmallerCameraWarning)
            return read(file.path, self.options.time_unit, self.options.camera)

    def network(self) -> torch.nn.Sequential:
        """Make a network: dense layers for one line of inputs, else convolutions."""
        from .networks import convolutions, dense_layers

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
