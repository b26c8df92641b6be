"""Warps that run together: their registers, their places in the code, their accesses and copies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .memory import Fault, Watched
from .program import BARRIER, BRANCH, NEXT
from .schedule import SHARED_BASE, TENSOR_BITS, WARP, Array, Mask
from .text import PtxError

if TYPE_CHECKING:
    from .machine import Machine


@dataclass
class Copies:
    """Asynchronous copies of one instruction that are on their way."""

    rows: Array
    groups: Array  # that each thread counts them in
    source: list[tuple[Watched, Array, Array]]  # memory, which of the rows, offsets
    offsets: Array
    width: int
    found: Array
    sizes: Array


class Gang:
    """Warps that run together: the same ones of all programs."""

    def __init__(self, machine: "Machine", first: int, last: int):
        self.machine = machine
        programs = len(machine.programs)
        self.count = (last - first) * programs * WARP
        begin = first * programs * WARP
        self.rows = np.arange(begin, begin + self.count)
        self.part = slice(begin, begin + self.count)
        warp, program, lane = np.unravel_index(
            self.rows, (machine.warps, programs, WARP)
        )  # the programs of a warp lie side by side
        self.slot = program  # place of the program in this machine
        self.program = np.asarray(machine.programs)[program]
        self.thread = warp * WARP + lane
        self.threads = (self.program * machine.threads + self.thread).astype(np.int32)
        self.warp_of = self.rows // WARP
        self.where: dict[int, Mask] = {0: None}
        self.waiting = np.full(self.count, -1)
        self.registers = [self._register(*slot) for slot in machine.program.slots]

    def _register(self, what: str, name: Any, kind: Any) -> Any:
        if what == "constant":
            return name
        if what == "special":
            return self._special(name)
        return self.machine.storage[name][self.part].view(kind)

    def _special(self, name: str) -> Array:
        grid = self.machine.grid
        if name == "%tid.x":
            return self.thread.astype(np.uint32)
        if name == "%laneid":
            return (self.thread % WARP).astype(np.uint32)
        if name.startswith("%ctaid"):
            x, rest = self.program % grid[0], self.program // grid[0]
            return {"x": x, "y": rest % grid[1], "z": rest // grid[1]}[name[-1]].astype(np.uint32)
        size = {
            "%ntid.x": self.machine.threads, "%ntid.y": 1, "%ntid.z": 1, "%tid.y": 0, "%tid.z": 0,
            "%nctaid.x": grid[0], "%nctaid.y": grid[1], "%nctaid.z": grid[2],
        }[name]  # fmt: skip
        return np.full(self.count, size, np.uint32)

    def run(self) -> None:
        """Run until every thread waits at the barrier or has ended."""
        steps, registers, executed = (
            self.machine.program.steps,
            self.registers,
            self.machine.executed,
        )
        where = self.where
        warps = self.count // WARP
        while where:
            at = min(where)
            mask = where.pop(at)
            while True:
                if where and at in where:
                    mask = self._joined(mask, where.pop(at))
                step = steps[at]
                now = mask
                if step.guard is not None:
                    guard = registers[step.guard]
                    guard = ~guard if step.negated else guard
                    now = guard if mask is None else mask & guard
                    if now.all():
                        now = None
                if now is None:
                    executed[at] += warps
                else:
                    executed[at] += np.count_nonzero(now.reshape(-1, WARP).any(1))
                self.machine.at = at
                if step.kind == NEXT:
                    if now is None or now.any():
                        step.run(self, now)  # type: ignore[misc]
                    at += 1
                    continue
                if step.kind == BRANCH:
                    if now is None or (mask is not None and (now == mask).all()):
                        at = step.target
                        self.machine.spend()
                    elif not now.any():
                        at += 1
                    else:
                        stay = ~now if mask is None else mask & ~now
                        self._send(step.target, now.copy())  # it may be a register
                        self._send(at + 1, stay)
                        break
                    if where and min(where) < at:
                        self._send(at, mask)
                        break
                    continue
                if step.kind == BARRIER:
                    self.whole_warps(now)
                    self.waiting[slice(None) if now is None else now] = at
                elif now is not None and (mask is None or (now != mask).any()):
                    raise PtxError(f"a return for a part of the threads: {step.instruction}")
                break

    def _send(self, at: int, mask: Mask) -> None:
        self.where[at] = self._joined(mask, self.where[at]) if at in self.where else mask

    @staticmethod
    def _joined(a: Mask, b: Mask) -> Mask:
        if a is None or b is None:
            return None
        union = a | b
        return None if union.all() else union

    def whole_warps(self, mask: Mask) -> None:
        """Check that all threads of a warp execute an instruction, or none."""
        if mask is None:
            return
        warps = mask.reshape(-1, WARP)
        if (warps.any(1) != warps.all(1)).any():
            raise Fault("divergent", "an instruction of whole warps, by a part of one")

    def put(self, slots: list[int], values: list[Array], mask: Mask, whole: bool = False) -> None:
        """Write ``[warps, 32]`` to registers; ``whole``: only of the warps that take part."""
        for slot, value in zip(slots, values, strict=True):
            register = self.registers[slot]
            if mask is None:
                register[...] = value.reshape(-1)
            elif whole:
                register[mask] = value.reshape(-1)
            else:
                np.copyto(register, value.reshape(-1), where=mask)

    # Memory

    def _rows(self, mask: Mask) -> Any:
        return slice(None) if mask is None else mask

    def _targets(self, space: str, place: Array, rows: Any) -> list[tuple[Watched, Any, Array]]:
        """Return memory, which of the accesses go there (a slice or indices), and offsets."""
        place = place[rows] if place.ndim else np.broadcast_to(place, self.count)[rows]
        if space == "shared":
            offsets = place - SHARED_BASE
            size = self.machine.shared_size
            bad = (offsets < 0) | (offsets >= size)
            if bad.any():
                raise Fault(
                    "outside", f"shared memory has {size} bytes; byte {offsets[bad][0]} is accessed"
                )
            return [
                (self.machine.shared, slice(None), offsets + self.slot[rows] * self.machine.stride)
            ]
        tensor = (place >> np.uint64(TENSOR_BITS)).astype(np.int64)
        offsets = (place & np.uint64((1 << TENSOR_BITS) - 1)).astype(np.int64)
        known = self.machine.tensors
        if len(tensor) and (tensor == tensor[0]).all():
            if tensor[0] not in known:
                raise Fault("outside", f"address {int(place[0]):#x} is in no tensor of the launch")
            return [(known[tensor[0]], slice(None), offsets)]
        found = []
        for one in np.unique(tensor):
            which = np.flatnonzero(tensor == one)
            if one not in known:
                raise Fault(
                    "outside", f"address {int(place[which[0]]):#x} is in no tensor of the launch"
                )
            found.append((known[one], which, offsets[which]))
        return found

    def _times(self, rows: Any) -> Array:
        return self.machine.times[self.slot[rows]]

    def load(
        self, space: str, place: Array, width: int, size: int, mask: Mask, matrix: bool = False
    ) -> list[Array]:
        """Return ``width / size`` values of each thread that takes part."""
        rows = self._rows(mask)
        threads, times = self.threads[rows], self._times(rows)
        parts = [np.empty(len(threads), f"u{size}") for _ in range(width // size)]
        for memory, which, offsets in self._targets(space, place, rows):
            found = memory.granules(offsets, width)
            memory.read(found, threads[which], times[which])
            for k, part in enumerate(parts):
                part[which] = memory.load(offsets + k * size, size)
            self._count(space, self.warp_of[rows][which], offsets, width, matrix, load=True)
        return parts

    def store(
        self, space: str, place: Array, width: int, size: int, values: list[Array], mask: Mask,
        matrix: bool = False,
    ) -> None:  # fmt: skip
        """Store values of all threads, of those that take part."""
        rows = self._rows(mask)
        threads, times = self.threads[rows], self._times(rows)
        for memory, which, offsets in self._targets(space, place, rows):
            found = memory.granules(offsets, width)
            given = [value[rows][which] for value in values]
            same = np.ones(len(offsets), bool)
            for k, value in enumerate(given):
                same &= memory.load(offsets + k * size, size) == value
            memory.write(found, threads[which], times[which], same & memory.written[found].all(1))
            for k, value in enumerate(given):
                memory.store(offsets + k * size, size, value)
            self._count(space, self.warp_of[rows][which], offsets, width, matrix, load=False)

    def _count(
        self, space: str, warps: Array, offsets: Array, width: int, matrix: bool, load: bool
    ) -> None:
        counts = self.machine.counts
        if not self.machine.counting:
            return
        if space == "global":
            moved = len(offsets) * width
            counts.loaded += moved * load
            counts.stored += moved * (not load)
            counts.sectors += len(np.unique((warps << 40) | (offsets >> 5)))
            return
        # a pass moves 128 bytes: of the threads of a warp, of half of them, of a quarter
        phases = max(1, width // 4)
        lanes = np.arange(len(offsets))
        if len(warps):
            starts = np.r_[0, np.flatnonzero(np.diff(warps)) + 1]
            lanes = lanes - np.repeat(starts, np.diff(np.r_[starts, len(warps)]))
        phase = (warps * phases + lanes * phases // WARP)[:, None]
        words = (offsets[:, None] + np.arange(0, max(width, 4), 4)) // 4
        distinct = np.unique((phase << 32) | words)
        banks = np.unique((distinct >> 32 << 5) | (distinct & 31), return_counts=True)
        most: dict[int, int] = {}
        for key, count in zip((banks[0] >> 5).tolist(), banks[1].tolist(), strict=True):
            most[key] = max(most.get(key, 0), count)
        counts.conflicts += sum(most.values()) - len(most)

    # Copies in flight

    def copy(self, to: Array, source: Array, width: int, sizes: Array, mask: Mask) -> None:
        """Issue copies; what is beyond ``sizes`` of them is filled with zeros."""
        machine = self.machine
        rows = self._rows(mask)
        sizes = sizes[rows]
        if ((sizes != 0) & (sizes != width)).any():
            raise PtxError("a copy of a part of its width")
        threads, times = self.threads[rows], self._times(rows)
        ((shared, _, offsets),) = self._targets("shared", to, rows)
        found = shared.granules(offsets, width)
        shared.write(found, threads, times)  # nobody else may touch it from here on
        shared.in_flight[found] = True
        wanted = np.flatnonzero(sizes)
        own = self.rows[rows]
        copies = Copies(own, machine.groups[own], [], offsets, width, found,
                         sizes)  # fmt: skip
        if len(wanted):
            picked = np.arange(self.count)[rows][wanted]
            for memory, which, places in self._targets("global", source, picked):
                granules = memory.granules(places, width)
                memory.read(granules, threads[wanted][which], times[wanted][which])
                copies.source.append((memory, wanted[which], places))
                self._count("global", self.warp_of[picked][which], places, width, False, load=True)
        if machine.schedule.copies == "early":
            machine.arrive(copies, np.ones(len(offsets), bool))
        machine.pending.append(copies)

    def commit(self, mask: Mask) -> None:
        """Close the group of copies of each thread."""
        self.machine.groups[self.rows[self._rows(mask)]] += 1

    def wait(self, mask: Mask, left: int) -> None:
        """Wait until at most ``left`` groups of each thread are in flight."""
        machine = self.machine
        inside = np.zeros(len(machine.groups), bool)
        inside[self.rows[self._rows(mask)]] = True
        kept = []
        for copies in machine.pending:
            done = inside[copies.rows] & (copies.groups < machine.groups[copies.rows] - left)
            if not done.any():
                kept.append(copies)
                continue
            if machine.schedule.copies == "late":
                machine.arrive(copies, done)
            found = copies.found[done]
            machine.shared.in_flight[found] = False
            machine.shared.write_time[found] = machine.times_of(copies.rows[done])[:, None]
            if not done.all():
                kept.append(_left(copies, ~done))
        machine.pending = kept


def _left(copies: Copies, some: Array) -> Copies:
    """Return some of the copies of an instruction."""
    place = np.cumsum(some) - 1
    source = [
        (memory, place[which[some[which]]], places[some[which]])
        for memory, which, places in copies.source
    ]
    return Copies(
        copies.rows[some], copies.groups[some], source, copies.offsets[some], copies.width,
        copies.found[some], copies.sizes[some],
    )  # fmt: skip
