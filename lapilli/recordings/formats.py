"""Recordings in the formats of cameras and of NumPy, HDF5 and lava-dl, read as events."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from lapilli.errors import in_plain_words
from lapilli.extras import require
from lapilli.io import Event
from lapilli.io.files import read_records

from . import aedat
from .errors import RecordingError

__all__ = ["FORMATS", "UNITS", "read"]

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}  # milliseconds
_CAMERAS = (".aedat", ".aedat4", ".dat", ".es", ".raw")
FORMATS = (".npy", ".npz", ".h5", ".hdf5", ".bin", ".bs1", *_CAMERAS)
_NAMES = {"x": ("x",), "y": ("y",), "p": ("p", "on", "polarity"), "t": ("t", "ts", "timestamp")}


def read(path: str | os.PathLike[str], time_unit: str = "us", camera: str | None = None) -> Event:
    """Read a recording; times in ms from its first event on, polarities 0 and 1.

    Parameters
    ----------
    path
        File in one of ``FORMATS``. Arrays of ``.npy`` have the columns x, y, p, t (or x, p, t), or
        fields of these names; ``.npz`` and ``.h5`` have arrays of these names, in ``.h5`` also in
        one group, or ``spikes/units`` and ``spikes/times``.
    time_unit
        Unit of times in ``.npy``, ``.npz`` and ``.h5``.
    camera
        One of ``aedat.CAMERAS``, for files of AEDAT 2.0 that do not name theirs.

    Raises
    ------
    RecordingError
        If the file cannot be read as such, with the reason.
    MissingExtraError
        If a camera's format needs the package faery.

    Examples
    --------
    >>> import numpy as np
    >>> from lapilli.recordings.own import read
    >>> np.save("a.npy", [[3, 2, 1, 5000], [4, 2, 0, 7500]])  # rows x, y, polarity, us
    >>> event = read("a.npy")
    >>> event.x.tolist(), event.t.tolist()
    ([3, 4], [0.0, 2.5])
    """
    path = Path(path)
    kind = path.suffix.lower()
    try:
        if kind in (".bin", ".bs1"):
            high, low, p, t = read_records(path)
            x, y = (high, low) if kind == ".bin" else (high << 8 | low, None)
            return _event(x, y, p, t)
        if kind in _CAMERAS:
            return _event(*_by_name(_camera(path, camera), path), scale=UNITS["us"])
        reader = {".npy": _npy, ".npz": _npz}.get(kind, _h5)
        return _event(*reader(path), scale=UNITS[time_unit])
    except RecordingError:
        raise
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RecordingError(f"{path} cannot be read as {kind}: {in_plain_words(error)}") from None


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
    try:
        rows = np.load(path, allow_pickle=False)
    except ValueError:  # which speaks of pickled objects, whatever the file is
        raise ValueError(
            "it is not a file of one array of numbers; write it with numpy.save"
        ) from None
    if not isinstance(rows, np.ndarray):
        raise ValueError("it holds several arrays; give it the ending .npz")
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

    opened: Any = h5py.File(path, "r")
    with opened as file:
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


def _camera(path: Path, camera: str | None) -> Any:
    """Read a camera's file: older AEDAT here, all else by faery, whose errors are of many kinds."""
    if path.suffix.lower() == ".aedat" and not aedat.version(path).startswith("4."):
        return aedat.read(path, camera)
    faery = require("faery", "faery", extra="cameras")
    try:
        return faery.events_stream_from_file(path).to_array()
    except Exception as error:
        raise RecordingError(f"faery cannot read {path}: {' '.join(str(error).split())}") from None
