# ruff: noqa: T201 (prints what it finds)
"""Load damaged network files; run as a process of its own, because a crash is a result too.

    python reader_fuzz.py FOLDER FIRST LAST FILE.net...

Prints one line for each of the files FIRST to LAST that gives anything but a network or a
NetworkFileError, takes longer than two seconds, or needs more memory than it may.
"""

import faulthandler
import random
import resource
import sys
import time
from pathlib import Path

SECONDS = 2
ROOM = 64 << 20  # bytes that may be allocated on top of what the process has

_NUMBERS = (b"\xff" * 8, b"\0" * 8, *((1 << n).to_bytes(8, "little") for n in (31, 32, 40, 62)))


def damaged(sources: list[bytes], seed: int) -> bytes:
    """One of the sources with a few bytes, numbers or stretches replaced, or cut off."""
    chance = random.Random(seed)
    data = bytearray(chance.choice(sources))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.choice((0, 127, 128, 255))
            case 2:
                data[at : at + 8] = chance.randbytes(8)
            case 3:
                data[at : at + 8] = chance.choice(_NUMBERS)
            case 4:
                start, length = chance.randrange(len(data)), chance.randrange(64)
                data[at : at + length] = data[start : start + length]
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.05 else data)


def main(folder: str, first: str, last: str, *files: str) -> None:
    from lapilli import export

    sources = [Path(f).read_bytes() for f in files]
    for source in files:  # everything is imported before memory is counted
        export.load(source)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    path = Path(folder) / f"{first}.net"
    for seed in range(int(first), int(last)):
        path.write_bytes(damaged(sources, seed))
        faulthandler.dump_traceback_later(60 * SECONDS, exit=True)  # for one that waits
        start = time.process_time()  # others may be at work
        try:
            export.load(path)
        except export.NetworkFileError as error:
            if "MemoryError" in repr(error.__context__):
                print(f"{seed}: {error}")
        except BaseException as error:
            print(f"{seed}: {error!r}")
        taken = time.process_time() - start
        if taken > SECONDS:
            print(f"{seed}: {taken:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
