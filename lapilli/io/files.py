"""Files of spike events.

Records of 5 bytes, big-endian: place, polarity p and time t in microseconds.

    1-D (.bs1)    x 16 bits               p 1 bit   t 23 bits
    2-D (.bin)    x 8 bits   y 8 bits     p 1 bit   t 23 bits
"""

import os

import numpy as np

from .event import Event

Path = str | os.PathLike[str]

_RECORD = 5  # bytes
_LAST_TIME = (1 << 23) - 1  # microseconds


def read_records(filename: Path) -> tuple[np.ndarray, ...]:
    """Return the two bytes of the place, polarity and time in milliseconds of each event."""
    raw = np.fromfile(filename, np.uint8)
    if raw.size % _RECORD:
        raise ValueError(
            f"{os.fspath(filename)} has {raw.size} bytes; expected a multiple of {_RECORD}, the "
            "bytes of an event. The file is cut off, or no file of events."
        )
    high, low, *time = raw.reshape(-1, _RECORD).T.astype(np.int64)
    micros = (time[0] & 0x7F) << 16 | time[1] << 8 | time[2]
    return high, low, time[0] >> 7, micros / 1000


def _write_records(filename: Path, td_event: Event, dim: int) -> None:
    if td_event.dim != dim or td_event.graded:
        kind = "graded" if td_event.graded else "binary"
        raise ValueError(
            f"expected binary events of {dim} dimensions; got {kind} ones of {td_event.dim}"
        )
    c, y, x = td_event._places()
    micros = np.round(1000 * td_event.t).astype(np.int64)
    limit = 255 if dim == 2 else 65535
    limits = {"x": (x, limit), "y": (y, limit), "c": (c, 1), "1000 t": (micros, _LAST_TIME)}
    for name, (values, last) in limits.items():
        if values.size and not (values.min() >= 0 and values.max() <= last):
            raise ValueError(
                f"{name} is {values.min()}..{values.max()}; the file holds 0..{last}. Leave the "
                "events outside out, or use encode_np_spikes."
            )
    place = (x, y) if dim == 2 else (x >> 8, x & 0xFF)
    columns = (*place, c << 7 | micros >> 16, micros >> 8 & 0xFF, micros & 0xFF)
    np.stack(columns, 1).astype(np.uint8).tofile(filename)


def read_1d_spikes(filename: Path) -> Event:
    """Read events of one dimension (``.bs1``).

    Raises
    ------
    ValueError
        If the file ends within an event.

    Examples
    --------
    >>> from lapilli.slayer import io
    >>> io.encode_1d_spikes("a.bin", io.Event([3, 5], None, [0, 1], [1.0, 4.0]))
    >>> io.read_1d_spikes("a.bin").t.tolist()
    [1.0, 4.0]
    """
    high, low, p, t = read_records(filename)
    return Event(high << 8 | low, None, p, t)


def encode_1d_spikes(filename: Path, td_event: Event) -> None:
    """Write events of one dimension (``.bs1``); times are rounded to microseconds.

    Raises
    ------
    ValueError
        For graded events, other dimensions, or what the file cannot hold: x to 65535, channels 0
        and 1, times to 8388.607 ms.

    Examples
    --------
    >>> from lapilli.slayer import io
    >>> io.encode_1d_spikes("a.bin", io.Event([3, 5], None, [0, 1], [1.0, 4.0]))
    >>> io.read_1d_spikes("a.bin").t.tolist()
    [1.0, 4.0]
    """
    _write_records(filename, td_event, 1)


def read_2d_spikes(filename: Path) -> Event:
    """Read events of two dimensions (``.bin``, as in N-MNIST).

    Raises
    ------
    ValueError
        If the file ends within an event.

    Examples
    --------
    >>> from lapilli.slayer import io
    >>> io.encode_2d_spikes("a.bin", io.Event([3, 5], [7, 7], [0, 1], [1.0, 4.0]))
    >>> io.read_2d_spikes("a.bin").t.tolist()
    [1.0, 4.0]
    """
    x, y, p, t = read_records(filename)
    return Event(x, y, p, t)


def encode_2d_spikes(filename: Path, td_event: Event) -> None:
    """Write events of two dimensions (``.bin``); times are rounded to microseconds.

    Raises
    ------
    ValueError
        For graded events, other dimensions, or what the file cannot hold: x and y to 255, channels
        0 and 1, times to 8388.607 ms.

    Examples
    --------
    >>> from lapilli.slayer import io
    >>> io.encode_2d_spikes("a.bin", io.Event([3, 5], [7, 7], [0, 1], [1.0, 4.0]))
    >>> io.read_2d_spikes("a.bin").t.tolist()
    [1.0, 4.0]
    """
    _write_records(filename, td_event, 2)


def _check_format(fmt: str) -> None:
    if fmt != "xypt":
        raise ValueError(f"fmt is {fmt!r}; expected 'xypt'")


def read_np_spikes(filename: Path, fmt: str = "xypt", time_unit: float = 1e-3) -> Event:
    """Read events from NumPy's ``.npy``: rows of x, p, t or of x, y, p, t, of any type.

    Parameters
    ----------
    filename
        The file.
    fmt
        Order of the columns: ``xypt``.
    time_unit
        Seconds a unit of time.

    Raises
    ------
    ValueError
        For another order, or another number of columns.

    Examples
    --------
    >>> from lapilli.slayer import io
    >>> io.encode_np_spikes("a.npy", io.Event([3, 5], [7, 7], [0, 1], [1.0, 4.0]))
    >>> io.read_np_spikes("a.npy").t.tolist()
    [1.0, 4.0]
    """
    _check_format(fmt)
    rows = np.load(filename, allow_pickle=False)
    if rows.ndim != 2 or rows.shape[1] not in (3, 4):
        raise ValueError(
            f"{os.fspath(filename)} has shape {rows.shape}; expected [events, 3] (x, p, t) or "
            "[events, 4] (x, y, p, t)"
        )
    x, *y, p, t = rows.T
    return Event(x, y[0] if y else None, p, t * time_unit * 1e3)


def encode_np_spikes(
    filename: Path, td_event: Event, fmt: str = "xypt", time_unit: float = 1e-3
) -> None:
    """Write events as NumPy's ``.npy``, in float64: the columns that ``read_np_spikes`` reads.

    Parameters
    ----------
    filename
        The file; ``.npy`` is appended where it is missing.
    td_event
        Binary events.
    fmt
        Order of the columns: ``xypt``.
    time_unit
        Seconds a unit of time.

    Raises
    ------
    ValueError
        For another order, or graded events.

    Examples
    --------
    >>> from lapilli.slayer import io
    >>> io.encode_np_spikes("a.npy", io.Event([3, 5], [7, 7], [0, 1], [1.0, 4.0]))
    >>> io.read_np_spikes("a.npy").t.tolist()
    [1.0, 4.0]
    """
    _check_format(fmt)
    if td_event.graded:
        raise ValueError("expected binary events; these are graded, and the file has no payload")
    places = (td_event.x,) if td_event.y is None else (td_event.x, td_event.y)
    columns = (*places, td_event.c, td_event.t / (time_unit * 1e3))
    np.save(filename, np.stack(columns, 1).astype(np.float64))
