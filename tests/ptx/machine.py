"""A grid of programs on the CPU: all threads as arrays, with masks where they part.

Threads of a warp run together and meet again as early as the order of the code allows (gang.py).
Warps run up to the next barrier one after the other, in an order that is chosen, or all at once.
Asynchronous copies arrive when they are issued, or as late as the waits allow.
"""

from typing import Any

import numpy as np

from .arithmetic import TYPES
from .gang import Copies, Gang
from .memory import Fault, Watched
from .program import Program
from .schedule import LONGEST, WARP, Array, Counts, Schedule


class Machine:
    """Programs of a grid that run side by side, which do not know of each other."""

    def __init__(
        self, program: Program, grid: tuple[int, int, int], programs: range, parameters: list[Any],
        tensors: dict[int, Watched], shared_size: int, schedule: Schedule, counts: Counts,
        counting: bool = False,
    ):  # fmt: skip
        kernel = program.kernel
        self.program, self.grid, self.programs = program, grid, programs
        self.parameters, self.tensors, self.schedule = parameters, tensors, schedule
        self.counts, self.counting = counts, counting
        self.threads = kernel.threads
        self.warps = self.threads // WARP
        rows = self.threads * len(programs)
        names = {name for what, name, _ in program.slots if what == "register"}
        self.storage = {}
        for name in names:
            kind = np.dtype(TYPES[kernel.register_type(name)])
            # what a register holds before it is written is not zero
            garbage = (
                True
                if kind == np.bool_
                else kind.type(0xDEADBEEFDEADBEEF >> (64 - 8 * kind.itemsize))
            )
            self.storage[name] = np.full(rows, garbage, kind)
        granule = program.narrowest
        self.shared_size = shared_size
        self.stride = -(-shared_size // 256) * 256
        data = np.full(max(self.stride * len(programs), 256), 0xCC, np.uint8)
        self.shared = Watched(data, granule, "shared memory", self.threads)
        self.times = np.zeros(len(programs), np.int32)
        self.groups = np.zeros(rows, np.int64)
        self.pending: list[Copies] = []
        self.executed = [0] * len(program.steps)
        self.at = 0
        self.left = LONGEST

    def spend(self) -> None:
        """Count branches that were taken."""
        self.left -= 1
        if self.left < 0:
            raise Fault("endless", "the kernel does not end")

    def times_of(self, rows: Array) -> Array:
        """Return the time of the programs of rows."""
        return self.times[rows // WARP % len(self.programs)]

    def arrive(self, copies: Copies, some: Array) -> None:
        """Carry out some of the copies of an instruction."""
        size = min(copies.width, 8)
        for k in range(0, copies.width, size):
            values = np.zeros(len(copies.offsets), f"u{size}")
            for memory, which, places in copies.source:
                values[which] = memory.load(places + k, size)
            self.shared.store(copies.offsets[some] + k, size, values[some])

    def run(self) -> None:
        """Run the programs to their end."""
        parts = (
            [(0, self.warps)]
            if self.schedule.warps == "together"
            else [(w, w + 1) for w in range(self.warps)]
        )
        gangs = [Gang(self, *part) for part in parts]
        order = np.random.default_rng(0)
        try:
            with np.errstate(all="ignore"):
                while True:
                    turn = gangs
                    if self.schedule.warps == "backward":
                        turn = gangs[::-1]
                    elif self.schedule.warps == "shuffled":
                        turn = [gangs[k] for k in order.permutation(len(gangs))]
                    for gang in turn:
                        gang.run()
                    if not self._release(gangs):
                        break
            if any(len(copies.rows) for copies in self.pending):
                raise Fault("in flight", "a program ends while copies are on their way")
        except Fault as fault:
            instruction = self.program.steps[self.at].instruction
            raise Fault(fault.kind, f"{str(fault).partition(': ')[2]}; at {instruction}") from None
        finally:
            counts = self.counts
            texts = [step.instruction.text for step in self.program.steps]
            idle = {t for t, times in zip(texts, self.executed, strict=True) if not times}
            counts.never = sorted(idle & set(counts.never) if counts.instructions else idle)
            for step, times in zip(self.program.steps, self.executed, strict=True):
                op = step.instruction.op
                counts.instructions += int(times)
                counts.operations[op] = counts.operations.get(op, 0) + int(times)

    def _release(self, gangs: list[Gang]) -> bool:
        """Let all threads go on that wait at the barrier; whether there are any."""
        waiting = np.concatenate([g.waiting for g in gangs])
        waiting = waiting.reshape(self.warps, len(self.programs), WARP)
        first = waiting[0, :, 0]
        if (waiting != first[None, :, None]).any():
            raise Fault("barrier", "some threads of a program wait at a barrier, others do not")
        if (first < 0).all():
            return False
        self.times[first >= 0] += 1
        for gang in gangs:
            for at in np.unique(gang.waiting[gang.waiting >= 0]):
                some = gang.waiting == at
                gang.where[int(at) + 1] = None if some.all() else some
            gang.waiting[:] = -1
        return True
