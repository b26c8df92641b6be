"""Data sets as spikes.

Spikes are ``[samples, channels, T]`` float32 to the user, and lie in memory as
``[samples, T, channels]``: the rows that the first layer multiplies.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import encode
from .extras import MissingExtraError, require
from .io import Event
from .kernels.executors.memory import empty

__all__ = ["SPLIT_SEED", "Dataset", "Recordings", "Samples", "digits", "series"]

SPLIT_SEED = 0  # which samples are held out never changes, so that accuracies can be compared


@dataclass(frozen=True)
class Samples:
    """Spikes ``[N, channels, T]`` and labels ``[N]`` int64.

    Examples
    --------
    >>> import torch
    >>> from lapilli.data import Samples
    >>> samples = Samples(torch.rand(5, 3, 10), labels=torch.arange(5))
    >>> samples.take(torch.tensor([4, 0])).labels
    tensor([4, 0])
    """

    spikes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Samples":
        """Copy the samples at ``index`` [n] int64, in that order."""
        index = index.to(self.labels.device)
        # of the rows as they lie in memory: indexing the time-last view is 500 times slower
        rows = self.spikes.movedim(-1, 1).index_select(0, index)
        return Samples(rows.movedim(1, -1), self.labels.index_select(0, index))

    def to(self, device: torch.device | str) -> "Samples":
        """Move spikes and labels."""
        return Samples(self.spikes.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Recordings:
    """Samples that are read when they are asked for.

    Attributes
    ----------
    read
        From a sample's number to its events, times in ms.
    labels : Tensor
        ``[N]`` int64.
    shape
        Channels, height, width and time steps of a sample; what is outside is left out.
    sampling_time
        Milliseconds a step.
    shrink
        Pixels in each direction that become one.
    flat
        Spikes are ``[n, channels * height * width, T]``, not ``[n, channels, height, width, T]``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.data import Recordings
    >>> from lapilli.io import Event
    >>> def read(number):
    ...     return Event([number, 1], [0, 1], [0, 1], [0.0, 2.0])  # x, y, polarity, ms
    >>> samples = Recordings(read, torch.tensor([0, 1]), shape=(2, 4, 4, 3), sampling_time=1.0)
    >>> samples.take(torch.tensor([1])).spikes.sum()
    tensor(2.)
    """

    read: Callable[[int], Event]
    labels: Tensor
    shape: tuple[int, int, int, int]
    sampling_time: float
    shrink: int = 1
    flat: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Samples:
        """Read the samples at ``index`` [n] int64, in that order."""
        C, H, W, T = self.shape
        labels = self.labels.index_select(0, index.to(self.labels.device))
        spikes = empty((len(index), T, C, H, W), torch.float32, self.labels).zero_()
        at = []  # in the memory of the spikes
        for sample, number in enumerate(index.tolist()):
            event = self.read(number)
            if self.shrink > 1:
                event.x = event.x // self.shrink
                event.y = None if event.y is None else event.y // self.shrink
            c, y, x, t = event.bins(self.shape, self.sampling_time)
            at.append((((sample * T + t) * C + c) * H + y) * W + x)
        # the places travel to the device, not the spikes
        places = torch.from_numpy(np.concatenate(at)).to(spikes.device)
        spikes.view(-1).index_fill_(0, places, 1)
        return Samples((spikes.flatten(2) if self.flat else spikes).movedim(1, -1), labels)

    def to(self, device: torch.device | str) -> "Recordings":
        """Return the same samples, whose batches come to ``device``."""
        return dataclasses.replace(self, labels=self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Samples to train with, samples held out, and the number of classes.

    Examples
    --------
    >>> from lapilli import data
    >>> digits = data.digits(steps=4)
    >>> len(digits.train), len(digits.test), digits.classes
    (1437, 360, 10)
    """

    train: Samples | Recordings
    test: Samples | Recordings
    classes: int

    def to(self, device: torch.device | str) -> "Dataset":
        """Move all samples."""
        return Dataset(self.train.to(device), self.test.to(device), self.classes)


def digits(steps: int = 32) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, as spikes.

    One fifth is held out, stratified, always the same. The package holds the images: nothing is
    downloaded.

    Parameters
    ----------
    steps
        Number of time steps. With 32, a pixel of grey level k (0..16) spikes k times.

    Returns
    -------
    Dataset
        64 channels, 10 classes.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.

    Examples
    --------
    >>> from lapilli import data
    >>> data.digits(steps=32).test.spikes.shape
    torch.Size([360, 64, 32])
    """
    datasets = require("sklearn.datasets", "scikit-learn")
    selection = require("sklearn.model_selection", "scikit-learn")
    images, labels = datasets.load_digits(return_X_y=True)
    parts = selection.train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=SPLIT_SEED
    )
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, parts)

    def samples(images: Tensor, labels: Tensor) -> Samples:
        return Samples(encode.rate(images / 16, steps, max_rate=0.5), labels.long())

    return Dataset(
        samples(train_images, train_labels), samples(test_images, test_labels), classes=10
    )


def series(name: str, part: str) -> tuple[list[np.ndarray], list[str]]:
    """Read recorded sequences that the package sktime brings along, or the package aeon.

    Their files are read as text from the folder of the package; it is not imported, and nothing is
    downloaded.

    Parameters
    ----------
    name
        Name of the data set, as ``JapaneseVowels`` or ``BasicMotions``.
    part
        ``TRAIN`` or ``TEST``.

    Returns
    -------
    recordings : list of numpy.ndarray
        Each ``[channels, samples]`` float64; they may have unequal lengths.
    labels : list of str
        The label of each recording, as it stands in the file.

    Raises
    ------
    MissingExtraError
        If neither package is installed.
    FileNotFoundError
        If the package has no such data set.

    Examples
    --------
    >>> from lapilli.data import series
    >>> recordings, labels = series("JapaneseVowels", "TRAIN")
    >>> len(recordings), recordings[0].shape, labels[0]
    (270, (12, 20), '1')
    """
    for package in ("sktime", "aeon"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent / "datasets" / "data" / name
            return _read_series(folder / f"{name}_{part}.ts")
    raise MissingExtraError(
        "sktime is not installed; get it with: pip install sktime (or in a clone of lapilli: "
        "pip install '.[sequences]')"
    )


def _read_series(file: Path) -> tuple[list[np.ndarray], list[str]]:
    """Read a file of the archive's format: a recording a line, channels and label by colons."""
    recordings, labels = [], []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#@":
            *channels, label = line.split(":")
            values = [channel.split(",") for channel in channels]
            recordings.append(np.array(values, dtype=np.float64))
            labels.append(label)
    return recordings, labels
