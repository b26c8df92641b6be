"""Data sets as spikes.

Spikes are ``[samples, channels, T]`` float32 to the user, and lie in memory as
``[samples, T, channels]``: the rows that the first layer multiplies.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

from .extras import require

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


def rate_code(intensity: Tensor, steps: int, max_rate: float = 1.0) -> Tensor:
    """Turn intensities into evenly spaced spikes.

    Parameters
    ----------
    intensity
        ``[N, channels]``, 0..1.
    steps
        Number of time steps T.
    max_rate
        Rate of intensity 1, spikes a step, 0..1.

    Returns
    -------
    Tensor
        ``[N, channels, T]`` of 0 and 1; a channel spikes ``floor(intensity * max_rate * steps)``
        times. Deterministic.

    Raises
    ------
    ValueError
        If an intensity or the rate is out of range.
    """
    if not 0 <= max_rate <= 1:
        raise ValueError(f"max_rate is {max_rate}; expected 0..1 spikes a step")
    if intensity.numel():
        low, high = (float(v) for v in intensity.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"intensities are {low:g}..{high:g}; expected 0..1. Scale them first.")
    time = torch.arange(steps + 1, dtype=torch.float64, device=intensity.device)
    # spikes due before each step; the first difference is 1 where one more has become due
    due = (intensity.double().mul(max_rate).unsqueeze(1) * time.unsqueeze(-1)).floor()
    return due.diff(dim=1).float().movedim(1, -1)


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
        return Samples(rate_code(images / 16, steps, max_rate=0.5), labels.long())

    return Dataset(
        samples(train_images, train_labels), samples(test_images, test_labels), classes=10
    )
