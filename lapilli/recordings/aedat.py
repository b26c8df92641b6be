"""AEDAT 2.0 and 3.1, the files of jAER and cAER, read as events.

AEDAT 2.0: lines of text that start with ``#``, then 8 bytes an event, big-endian: an address and a
time in microseconds, 32 bits each. What the bits of an address mean depends on the camera:

    DVS128           0 polarity (0 is on)   1-7 x     8-14 y                15, 31 other events
    DAVIS240 to 640  11 polarity (1 is on)  12-21 x   22-30 y   10 external events, 31 frames, IMU

x counts from the right edge, y from the lower one. Times wrap around after 2^32 us.

AEDAT 3.1: lines of text to ``#!END-HEADER``, then packets, little-endian: a header of 28 bytes and
events of one type. A polarity event takes 8 bytes and means the same for every camera: 32 bits of
data (0 valid, 1 polarity, 2-16 y, 17-31 x, from the upper left corner) and 31 of time, which the
header's counter of overflows extends.

Sources: iniVation, AEDAT file formats; jAER, DVS128.java, DavisChip.java and DavisBaseCamera.java,
for the edges, and for the polarity of DVS128, where iniVation's page has it the other way round;
libcaer, events/common.h and events/polarity.h.
"""

import os
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import SmallerCameraWarning

__all__ = ["CAMERAS", "is_version_2", "read", "version", "warn_of_smaller"]

_END_2 = re.compile(rb"#\s*end of ascii header", re.IGNORECASE)
_END_3 = b"#!END-HEADER"
_CHIP = re.compile(rb"#\s*AEChip:\s*(.*)")
_SOURCE = re.compile(rb"#\s*Source\s+\d+:\s*(\S+)")
_LARGEST = 4096, 4096  # pixels that a camera of an unknown name may have
_EVENT_2 = np.dtype([("address", ">u4"), ("time", ">u4")])
_EVENT_3 = np.dtype([("data", "<u4"), ("time", "<i4")])
_PLACES = (8, 4)  # of this, its size and the byte where the time starts
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1  # type of packets
_X_3, _Y_3 = (17, 15), (2, 15)  # first bit and number of bits
_OVERFLOW = 31  # bits of a time that the counter of overflows is above
_RESET = 1_000_000  # us; where times go back further, the clock was set back
_HELP = "jAER and DV convert between versions"


@dataclass(frozen=True)
class _Camera:
    """A camera's size, and the bits of its addresses in AEDAT 2.0.

    Attributes
    ----------
    chips
        Classes of jAER that stand for it, the last part of the name in small letters.
    x, y
        First bit and number of bits.
    polarity
        Bit of the polarity.
    on
        Its value where it got brighter.
    other
        Bits of which one or more are set in what is no polarity event.
    unused
        Bits that are never set in a polarity event.
    """

    width: int
    height: int
    chips: tuple[str, ...]
    x: tuple[int, int]
    y: tuple[int, int]
    polarity: int
    on: int
    other: int
    unused: int


def _davis(width: int, height: int, *chips: str) -> _Camera:
    return _Camera(width, height, chips, (12, 10), (22, 9), 11, 1, 1 << 31 | 1 << 10, 0x3FF)


CAMERAS = {
    "DVS128": _Camera(128, 128, ("dvs128",), (1, 7), (8, 7), 0, 0, 1 << 31 | 1 << 15, 0x7FFF0000),
    "DAVIS240": _davis(240, 180, "davis240", "davis240a", "davis240b", "davis240c"),
    "DAVIS346": _davis(
        346, 260, "davis346", "davis346b", "davis346blue", "davis346red", "davis346cbsi"
    ),
    "DAVIS640": _davis(640, 480, "davis640"),
}


def version(path: str | os.PathLike[str]) -> str:
    """Return the version of an AEDAT file, ``2.0`` for instance.

    Raises
    ------
    ValueError
        If the file does not start as one.
    """
    with Path(path).open("rb") as file:
        found = re.match(rb"#!AER-DAT(\d\.\d)\r?\n", file.read(16))
    if not found:
        raise ValueError(
            "it does not start with #!AER-DAT and a version, so it is AEDAT 1.0 or no AEDAT; "
            f"expected AEDAT 2.0, 3.1 or 4.0. {_HELP}"
        )
    return found[1].decode()


def is_version_2(path: Path) -> bool:
    """Whether a file is AEDAT 2.0, the version whose addresses depend on the camera."""
    return path.suffix.lower() == ".aedat" and version(path) == "2.0"


def read(path: str | os.PathLike[str], camera: str | None = None) -> dict[str, np.ndarray]:
    """Read the polarity events of a file of AEDAT 2.0 or 3.1; other events are left out.

    Parameters
    ----------
    path
        The file.
    camera
        One of ``CAMERAS``, for files of AEDAT 2.0 that do not name theirs. Those of 3.1 need none.

    Returns
    -------
    dict
        Arrays of a value an event: ``x``, the column from the left, and ``y``, the row from the
        top, from 0; ``p``, True where it got brighter; ``t``, microseconds by the camera's clock.

    Raises
    ------
    ValueError
        If the file is cut off or damaged, of another version or camera, names no camera and none
        is given, or holds more than one recording; the message says which.

    Warns
    -----
    SmallerCameraWarning
        Where the events fit a smaller camera than the given one.
    """
    if camera not in (None, *CAMERAS):
        raise ValueError(f"unknown camera {camera!r}; there are: {', '.join(CAMERAS)}")
    found = version(path)
    content = Path(path).read_bytes()
    if found == "2.0":
        return _read_2(content, camera)
    if found == "3.1":
        return _read_3(content)
    raise ValueError(f"it is AEDAT {found}; expected AEDAT 2.0, 3.1 or 4.0. {_HELP}")


def _header(content: bytes) -> tuple[list[bytes], int]:
    """Return the lines of text, and the place of the first byte behind them."""
    first = content.index(b"\n")
    mark = b"\r\n" if content[first - 1] == ord("\r") else b"\n"  # the former, by the format
    lines, start = [], 0
    while content.startswith(b"#", start):
        end = content.find(mark, start)
        line = content[start:end]
        # the first byte of an event is a # too if y is 140 to 143, and then there is a byte of 0
        # before any mark, since the lowest bits of an address of a DAVIS are 0
        if end < 0 or min(line) < ord("\t"):
            break
        lines.append(line)
        start = end + len(mark)
        if line == _END_3 or _END_2.match(line):
            break
    return lines, start


def _field(values: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    first, bits = place
    return (values >> first & (1 << bits) - 1).astype(np.int64)


def _read_2(content: bytes, given: str | None) -> dict[str, np.ndarray]:
    lines, start = _header(content)
    name = _camera(lines, given)
    camera = CAMERAS[name]
    size = len(content) - start
    if size % _EVENT_2.itemsize:
        raise ValueError(
            f"it has {size} bytes of events, no multiple of {_EVENT_2.itemsize}; the file is cut "
            "off or damaged"
        )
    events = np.frombuffer(content, _EVENT_2, offset=start)
    address, time = events["address"].astype(np.uint32), events["time"].astype(np.uint32)
    kept = address & camera.other == 0
    if given is not None and len(kept) and not kept.any():
        raise ValueError(
            f"of its {len(kept)} events none is a polarity event of a {name}; the file is of "
            "another camera"
        )
    address, time = address[kept], time[kept]
    x, y = _field(address, camera.x), _field(address, camera.y)
    wrong = (address & camera.unused != 0) | (x >= camera.width) | (y >= camera.height)
    if wrong.any():
        raise ValueError(
            f"it has an event with the address {address[wrong][0]:#010x}, which a {name} with its "
            f"{camera.width} x {camera.height} pixels does not send; the file is damaged, or of "
            "another camera"
        )
    x, y = camera.width - 1 - x, camera.height - 1 - y
    if given is not None and len(x):
        warn_of_smaller(name, len(x), int(x.min()), int(y.min()))
    # the shorter way around from each time to the next: forward past a wrap, or a little back
    steps = np.diff(time, prepend=time[:1]).view(np.int32)
    return {
        "x": x,
        "y": y,
        "p": (address >> camera.polarity & 1) == camera.on,
        "t": _ascending(time[:1].sum(dtype=np.int64) + np.cumsum(steps, dtype=np.int64)),
    }


def warn_of_smaller(name: str, events: int, x: int, y: int) -> None:
    """Warn where all events lie within the pixels of a smaller camera with the same addresses.

    Parameters
    ----------
    name
        The camera that a user has given for files that name none.
    events
        Number of events.
    x, y
        Their least column and row. Addresses count from the lower right corner, so that the
        pictures of a smaller camera lie there.
    """
    camera = CAMERAS[name]
    for other, smaller in CAMERAS.items():
        fits = camera.width - x <= smaller.width and camera.height - y <= smaller.height
        if fits and smaller.x == camera.x and smaller.width < camera.width:
            warnings.warn(
                f"all {events} events are within {smaller.width} x {smaller.height} pixels, as "
                f"those of a {other}, and the camera is given as {name}, of {camera.width} x "
                f"{camera.height}. If it is a {other}, give that: else its picture is moved",
                SmallerCameraWarning,
                stacklevel=2,
            )
            return


def _camera(lines: list[bytes], given: str | None) -> str:
    """Return the name of the camera that the header names, or else of the given one."""
    chips = [found[1].decode("latin-1").strip() for line in lines if (found := _CHIP.match(line))]
    if not chips:
        if given is None:
            raise ValueError(
                "it is AEDAT 2.0 and its header names no camera (# AEChip), without which its "
                f"addresses mean nothing; give --camera {', '.join(CAMERAS)}, or camera= in a "
                "script"
            )
        return given
    short = chips[0].rpartition(".")[2].lower()
    named = next((name for name, camera in CAMERAS.items() if short in camera.chips), None)
    if named is None:
        raise ValueError(
            f"it is of the camera {chips[0]!r}; of AEDAT 2.0, the cameras "
            f"{', '.join(CAMERAS)} are read, without colour. {_HELP}"
        )
    if given not in (None, named):
        raise ValueError(
            f"its header names the camera {chips[0]}, and --camera says {given}; leave it out"
        )
    return named


def _read_3(content: bytes) -> dict[str, np.ndarray]:
    lines, at = _header(content)
    if _END_3 not in lines:
        raise ValueError(f"it has no line {_END_3.decode()}; the file is cut off or damaged")
    if b"#Format: RAW" not in lines:
        formats = [line.decode("latin-1") for line in lines if line.startswith(b"#Format")]
        raise ValueError(
            f"its packets have the form {', '.join(formats) or 'that no line names'}; expected "
            f"#Format: RAW. {_HELP}"
        )
    data, times = [np.empty(0, np.uint32)], [np.empty(0, np.int64)]
    sources, types = set(), set()
    while at < len(content):
        kind, source, overflow, events, at = _packet(content, at)
        types.add(kind)
        if kind != _POLARITY:
            continue
        sources.add(source)
        valid = events["data"] & 1 == 1
        data.append(events["data"][valid].astype(np.uint32))
        times.append(events["time"][valid].astype(np.int64) + (overflow << _OVERFLOW))
    if len(sources) > 1:
        raise ValueError(
            f"it has events of {len(sources)} cameras (sources {sorted(sources)}); expected one. "
            "Write a file for each"
        )
    if types and _POLARITY not in types:
        raise ValueError(
            f"it has packets of the types {sorted(types)} and none of type {_POLARITY}, polarity "
            "events"
        )
    address, t = np.concatenate(data), np.concatenate(times)
    if (t < 0).any():
        raise ValueError("it has an event at a time below 0; the file is damaged")
    x, y = _field(address, _X_3), _field(address, _Y_3)
    name, width, height = _source(lines)
    wrong = (x >= width) | (y >= height)
    if wrong.any():
        raise ValueError(
            f"it has an event at column {x[wrong][0]} and row {y[wrong][0]}; expected less than "
            f"the {width} x {height} pixels of {name}. The file is damaged"
        )
    return {"x": x, "y": y, "p": address >> 1 & 1 == 1, "t": _ascending(t)}


def _source(lines: list[bytes]) -> tuple[str, int, int]:
    """Return the camera that the header names, and its size; of an unknown one a generous one."""
    named = [found[1].decode("latin-1") for line in lines if (found := _SOURCE.match(line))]
    for camera in CAMERAS.values() if len(named) == 1 else ():
        if named[0].lower() in camera.chips:
            return f"a {named[0]}", camera.width, camera.height
    return "any camera", *_LARGEST


def _packet(content: bytes, at: int) -> tuple[int, int, int, np.ndarray, int]:
    """Return the type, source, overflows and polarity events of a packet, and where it ends."""
    where = f"the packet at byte {at}"
    if len(content) - at < _PACKET.size:
        raise ValueError(
            f"{where} has {len(content) - at} bytes, its header alone takes {_PACKET.size}; the "
            "file is cut off"
        )
    fields = _PACKET.unpack_from(content, at)
    kind, source, size, offset, overflow, capacity, number, valid = fields
    if min(fields) < 0 or not valid <= number <= capacity:
        raise ValueError(
            f"{where} has the header {', '.join(map(str, fields))}; expected a type, source, size, "
            "offset and overflows of 0 or more, and then capacity, events and valid events, none "
            "more than the one before. The file is damaged"
        )
    if kind == _POLARITY and (size, offset) != _PLACES:
        raise ValueError(
            f"{where} has polarity events of {size} bytes with the time at byte {offset}; expected "
            "8 bytes and byte 4. The file is damaged"
        )
    start = at + _PACKET.size
    end = start + capacity * size
    if end > len(content):
        raise ValueError(
            f"{where} takes {end - at} bytes and the file has {len(content) - at} there; the file "
            "is cut off or damaged"
        )
    events = np.frombuffer(content, _EVENT_3, number if kind == _POLARITY else 0, start)
    return kind, source, overflow, events, end


def _ascending(t: np.ndarray) -> np.ndarray:
    """Return the times, or raise where the clock was set back within the file."""
    back = np.diff(t)
    if back.size and back.min() <= -_RESET:
        event = int(back.argmin())
        raise ValueError(
            f"its time goes back by {-int(back[event]) / 1e6:g} s after event {event}, where the "
            "camera's clock was set back; cut the recording there"
        )
    return t
