"""Data sets of recorded events, read from disk in their published formats.

    nmnist       N-MNIST: Train/<digit>/*.bin and Test/<digit>/*.bin
    shd          Spiking Heidelberg Digits: shd_train.h5 and shd_test.h5
    dvsgesture   IBM DVS128 Gesture as tonic unpacks it: ibmGestureTrain/<user>/<class>.npy, ...Test

They may also lie in the subfolder that the package tonic makes (NMNIST, SHD, DVSGesture). Samples
are turned into spikes batch by batch; what is in memory is one batch.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lapilli.data import Dataset, Recordings
from lapilli.extras import require
from lapilli.io import Event, read_2d_spikes, read_np_spikes

from .errors import MissingDataError

__all__ = ["dvsgesture", "load", "nmnist", "shd"]


def _folder(root: str | os.PathLike[str], needed: Sequence[str], subfolder: str, name: str) -> Path:
    """Return the folder that holds what is needed: ``root`` or its subfolder."""
    for folder in (Path(root), Path(root, subfolder)):
        if all((folder / entry).exists() for entry in needed):
            return folder
    raise MissingDataError(
        f"{name} is not in {str(root)!r}: expected {' and '.join(needed)} there or in its "
        f"subfolder {subfolder}. Give the folder with --data, or get the data with --download."
    )


def _of_files(files: list[Path], classes: list[int], folder: Path) -> Tensor:
    """Return the labels, and raise if there are no files."""
    if not files:
        raise MissingDataError(f"there are no recordings in {str(folder)!r}")
    return torch.tensor(classes)


def nmnist(root: str | os.PathLike[str], train: bool) -> Recordings:
    """Open N-MNIST: 34 x 34 pixels, two polarities, 300 steps of 1 ms, 10 digits."""
    part = "Train" if train else "Test"
    folder = _folder(root, ("Train", "Test"), "NMNIST", "N-MNIST") / part
    files = sorted(folder.glob("[0-9]/*.bin"))
    labels = _of_files(files, [int(file.parent.name) for file in files], folder)
    return Recordings(lambda i: read_2d_spikes(files[i]), labels, (2, 34, 34, 300), 1)


def dvsgesture(root: str | os.PathLike[str], train: bool) -> Recordings:
    """Open DVS128 Gesture: 32 x 32 of 4 x 4 pixels, 150 steps of 10 ms, 11 gestures."""
    part = "ibmGestureTrain" if train else "ibmGestureTest"
    needed = ("ibmGestureTrain", "ibmGestureTest")
    folder = _folder(root, needed, "DVSGesture", "DVS128 Gesture") / part
    files = sorted(folder.glob("*/[0-9]*.npy"))
    labels = _of_files(files, [int(file.stem) for file in files], folder)
    return Recordings(
        lambda i: read_np_spikes(files[i]), labels, (2, 32, 32, 150), 10, shrink=4, flat=False
    )


def shd(root: str | os.PathLike[str], train: bool) -> Recordings:
    """Open the Spiking Heidelberg Digits: 700 channels, 250 steps of 4 ms, 20 classes."""
    import h5py  # loaded where a file is read

    name = "shd_train.h5" if train else "shd_test.h5"
    needed = ("shd_train.h5", "shd_test.h5")
    file: Any = h5py.File(_folder(root, needed, "SHD", "SHD") / name, "r")
    units, times = file["spikes/units"], file["spikes/times"]

    def read(i: int) -> Event:
        # in float64: a float16, which the file holds, has no milliseconds beyond 1 s
        ms = 1e3 * times[i].astype(np.float64)
        return Event(units[i], None, np.zeros(len(ms), np.int64), ms)

    labels = torch.from_numpy(file["labels"][()].astype(np.int64))
    return Recordings(read, labels, (1, 1, 700, 250), 4)


_OPEN = {"nmnist": (nmnist, 10), "shd": (shd, 20), "dvsgesture": (dvsgesture, 11)}
_TONIC = {"nmnist": "NMNIST", "shd": "SHD", "dvsgesture": "DVSGesture"}  # classes of tonic.datasets


def load(name: str, root: str | os.PathLike[str], download: bool = False) -> Dataset:
    """Open a data set of recorded events.

    Parameters
    ----------
    name
        ``nmnist``, ``shd`` or ``dvsgesture``.
    root
        Folder that holds it.
    download
        Let the package tonic get it first, where it is not there.

    Raises
    ------
    MissingDataError
        If it is not there.
    MissingExtraError
        If tonic is wanted and not installed.
    """
    opened, classes = _OPEN[name]
    if download:
        source = getattr(require("tonic.datasets", "tonic", extra="events"), _TONIC[name])
        for train in (True, False):
            source(save_to=str(root), train=train)
    return Dataset(opened(root, train=True), opened(root, train=False), classes)
