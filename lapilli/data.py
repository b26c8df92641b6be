"""Data sets as spikes.

Spikes are ``[samples, channels, T]`` float32 to the user, and lie in memory as
``[samples, T, channels]``: the rows that the first layer multiplies.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

import numpy as np
import torch
from torch import Tensor

from . import encode
from .extras import MissingExtraError, require

if TYPE_CHECKING:
    from .recordings import Recordings

SPLIT_SEED = 0  # which samples are held out never changes, so that accuracies can be compared


@dataclass(frozen=True)
class Samples:
    """Spikes ``[N, channels, T]`` and labels ``[N]`` int64."""

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
class Dataset:
    """Samples to train with, samples held out, and the number of classes."""

    train: Union[Samples, "Recordings"]
    test: Union[Samples, "Recordings"]
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
