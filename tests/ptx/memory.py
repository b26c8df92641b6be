"""Memory that is watched: bounds, alignment, width, bytes never written, races, copies in flight.

What is watched is kept for each granule: an element of a tensor, or the narrowest access of shared
memory in the kernel. Accesses are aligned, so that each covers whole granules.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NOBODY, SEVERAL = -1, -2


class Fault(Exception):
    """What a kernel must not do; ``kind`` names it in a word or two."""

    def __init__(self, kind: str, text: str):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Watched:
    """Bytes in granules, and who touched each last.

    Parameters
    ----------
    data
        The bytes, uint8.
    granule
        Bytes of a granule.
    name
        For messages.
    allowed
        Bytes that may be touched, of bool; None: all.
    written
        Granules that hold something, of bool.
    threads
        Of a program; a thread is its number in the program plus this times the program's.
    shared_by_programs
        Whether all programs of the grid reach it. Nothing orders their accesses.
    """

    def __init__(
        self, data: Array, granule: int, name: str, threads: int,
        allowed: Array | None = None, written: Array | None = None,
        shared_by_programs: bool = False,
    ):  # fmt: skip
        count = len(data) // granule
        self.data, self.granule, self.name, self.threads = data, granule, name, threads
        self.words = {w: data[: len(data) // w * w].view(f"u{w}") for w in (1, 2, 4, 8)}
        self.size = len(data)
        self.allowed = None if allowed is None else allowed[: count * granule : granule]
        self.written = np.zeros(count, bool) if written is None else written
        self.writer = np.full(count, NOBODY, np.int32)
        self.write_time = np.zeros(count, np.int32)
        self.reader = np.full(count, NOBODY, np.int32)
        self.read_time = np.zeros(count, np.int32)
        self.reading_program = np.full(count, NOBODY, np.int32) if shared_by_programs else None
        self.in_flight = np.zeros(count, bool)

    def granules(self, offsets: Array, width: int) -> Array:
        """Return the granules ``[access, granule]`` of accesses, after checking where they lie."""
        bad = offsets % width != 0
        if bad.any():
            raise Fault("misaligned", f"{width} bytes of {self.name} at byte {offsets[bad][0]}")
        bad = (offsets < 0) | (offsets > self.size - width)
        if bad.any():
            raise Fault(
                "outside",
                f"{self.name} has {self.size} bytes; {width} are accessed at {offsets[bad][0]}",
            )
        if width < self.granule:
            raise Fault(
                "width", f"{width} bytes of {self.name}, whose elements have {self.granule}"
            )
        each = width // self.granule
        first = offsets // self.granule
        found = first[:, None] + np.arange(each) if each > 1 else first[:, None]
        if self.allowed is not None and not self.allowed[found].all():
            raise Fault("outside", f"between the tensors that lie in {self.name}")
        return found

    def read(self, found: Array, threads: Array, times: Array) -> None:
        """Watch a read by ``threads``, each at the time of its program's barriers."""
        if not self.written[found].all():
            raise Fault("unwritten", f"a read of {self.name} where nothing was written")
        if self.in_flight[found].any():
            raise Fault("in flight", f"a read of {self.name} that a copy may not have reached")
        threads, times = threads[:, None], times[:, None]
        self._check(found, threads, times, self.writer, self.write_time, "written")
        reader = self.reader[found]
        same = (self.read_time[found] == times) & (reader != NOBODY) & (reader != threads)
        if self.reading_program is not None:
            same &= (reader == SEVERAL) | (reader // self.threads == threads // self.threads)
            program = threads // self.threads
            before = self.reading_program[found]
            mixed = (before != NOBODY) & (before != program)
            self._note(self.reading_program, found, np.where(mixed, SEVERAL, program))
        self.read_time[found] = times
        self._note(self.reader, found, np.where(same, SEVERAL, threads))

    def write(self, found: Array, threads: Array, times: Array, same: Array | None = None) -> None:
        """Watch a write; ``same`` says which accesses write what is there already.

        A tile that several threads hold is written by each of them, which is no race.
        """
        if self.in_flight[found].any():
            raise Fault("in flight", f"a write to {self.name} while a copy is on its way there")
        threads, times = threads[:, None], times[:, None]
        news = slice(None) if same is None else ~same
        self._check(
            found[news], threads[news], times[news], self.writer, self.write_time, "written"
        )
        self._check(found, threads, times, self.reader, self.read_time, "read")
        if self.reading_program is not None:
            program = self.reading_program[found]
            if ((program != NOBODY) & (program != threads // self.threads)).any():
                raise Fault("race", f"{self.name} is read and written by several programs")
        self.writer[found] = threads
        self.write_time[found] = times
        self.written[found] = True

    @staticmethod
    def _note(who: Array, found: Array, value: Array) -> None:
        """Note who touched what; several where one instruction has several of them."""
        who[found] = value
        crowded = (who[found] != value) | (value == SEVERAL)
        if crowded.any():
            who[found[np.broadcast_to(crowded, found.shape)]] = SEVERAL

    def _check(
        self, found: Array, threads: Array, times: Array, who: Array, when: Array, what: str
    ) -> None:
        other = who[found]
        conflict = (other != threads) & (other != NOBODY) & (when[found] == times)
        if self.reading_program is not None and what == "written":
            foreign = (other >= 0) & (other // self.threads != threads // self.threads)
            if foreign.any():
                raise Fault("race", f"{self.name} is written by several programs")
        if conflict.any():
            at = tuple(np.argwhere(conflict)[0])
            raise Fault(
                "race",
                f"thread {np.broadcast_to(threads, found.shape)[at]} touches granule "
                f"{found[at]} of {self.name}, {what} by "
                f"{'several threads' if other[at] == SEVERAL else f'thread {other[at]}'}"
                " with no barrier between",
            )

    def load(self, offsets: Array, width: int) -> Array:
        """Return what stands at offsets, as unsigned integers."""
        return self.words[width][offsets // width]

    def store(self, offsets: Array, width: int, values: Array) -> None:
        """Put values at offsets."""
        words, at = self.words[width], offsets // width
        words[at] = values
        if (words[at] != values).any():
            raise Fault("race", f"threads write to the same place of {self.name} at once")
