"""A grid of programs on the CPU: waves of 64 lanes, each with its place in the code and its mask.

Waves run up to the next barrier one after the other, in an order that is chosen, or all at once. A
register that a load will fill is not to be touched before the load is waited for.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ptx.memory import Fault, Watched
from ptx.schedule import LONGEST, TENSOR_BITS, Counts, Schedule

from .arithmetic import TYPES
from .program import LOADS, Program
from .text import EXEC, VCC, GcnError, Operand
from .waves import ARGUMENTS, FILL, LANES, WAVE, Array, from_bits


@dataclass
class _Flight:
    """An access that was issued: its number in each wave, from 1; 0 in waves that did not."""

    numbers: Array
    kind: str  # vector or scalar registers, or none
    registers: list[int]


class Machine:
    """Programs of a grid that run side by side, which do not know of each other."""

    def __init__(
        self, program: Program, grid: tuple[int, int, int], programs: range, threads: int,
        arguments: Array, tensors: dict[int, Watched], shared_size: int, schedule: Schedule,
        counts: Counts,
    ):  # fmt: skip
        self.program, self.schedule, self.counts = program, schedule, counts
        self.arguments, self.tensors = arguments.view(np.uint32), tensors
        self.waves, self.programs = threads // WAVE, len(programs)
        count = self.waves * self.programs  # waves of a number lie side by side
        self.V = np.full((256, count, WAVE), FILL, np.uint32)
        self.S = np.full((128, count), FILL, np.uint32)
        self.condition = np.zeros(count, bool)
        self.live = np.ones((count, WAVE), bool)
        self.wave_of, self.slot = np.divmod(np.arange(count), self.programs)
        first = np.asarray(programs)[self.slot] * threads + self.wave_of * WAVE
        self.threads = (first[:, None] + LANES).astype(np.int32)
        self.V[0] = self.wave_of[:, None] * WAVE + LANES
        self.S[EXEC : EXEC + 2] = 0xFFFFFFFF
        settings = program.kernel.settings
        self.S[0], self.S[1] = 0, ARGUMENTS << TENSOR_BITS - 32
        preloaded = settings["user_sgpr_kernarg_preload_length"]
        early = bool(preloaded) and schedule.copies == "early"
        if early:  # by the firmware, which then leaves out the first instructions
            self.S[2 : 2 + preloaded] = self.arguments[:preloaded, None]
        self.S[settings["user_sgpr_count"]] = np.asarray(programs)[self.slot] % grid[0]
        if grid[1:] != (1, 1):
            raise GcnError(f"a grid of {grid}")
        self.stride = -(-shared_size // 256) * 256
        self.shared_size = shared_size
        self.shared = Watched(
            np.full(max(self.stride * self.programs, 256), 0xCC, np.uint8), 4, "shared memory",
            threads,
        )  # fmt: skip
        self.times = np.zeros(self.programs, np.int32)
        self.issued = {name: np.zeros(count, np.int64) for name in ("vmcnt", "lgkmcnt")}
        self.flights: dict[str, list[_Flight]] = {"vmcnt": [], "lgkmcnt": []}
        self.flying = {
            "vector": np.zeros((256, count), bool),
            "scalar": np.zeros((128, count), bool),
        }
        self.places = np.full(count, self._start() if early else 0)
        self.waiting = np.zeros(count, bool)
        self.ended = np.zeros(count, bool)
        self.executed = [0] * len(program.steps)
        self.at, self.left = 0, LONGEST

    def _start(self) -> int:
        """Return the place behind the instructions that load arguments."""
        for step in self.program.steps:
            if step.instruction.op == "s_branch":
                return step.target
            if step.instruction.op not in ("s_waitcnt", *LOADS):
                break
        raise GcnError("arguments are preloaded, and the code does not begin with their loads")

    # Registers

    def vector(self, o: Operand, kind: str, rows: Any) -> Array:
        """Read an operand of lanes ``[waves, 64]``, or what can be broadcast to that."""
        if o.kind == "v":
            value = self.V[o.number][rows]
            if TYPES[kind] in (np.uint64, np.int64):
                if o.count != 2:
                    raise GcnError(f"one register, for 64 bits: v{o.number}")
                value = value | self.V[o.number + 1][rows].astype(np.uint64) << np.uint64(32)
            elif o.count != 1:
                raise GcnError(f"several registers, for 32 bits: v{o.number}")
            value = value.view(TYPES[kind])
        elif kind == "mask":
            return from_bits(self.scalar(o, "u64", rows))
        else:
            value = self.scalar(o, kind, rows)[:, None]
        if o.absolute:
            value = np.abs(value)
        return -value if o.negated else value

    def scalar(self, o: Operand, kind: str, rows: Any) -> Array:
        """Read an operand of waves."""
        wide = TYPES[kind] in (np.uint64, np.int64)
        if o.kind == "constant":
            if wide and (o.is_float or not -16 <= o.number <= 64):
                raise GcnError(f"a constant of 64 bits: {o.number}")
            bits = o.number & ((1 << (64 if wide else 32)) - 1)
            value = np.full(1, bits, np.uint64 if wide else np.uint32)
        elif o.kind != "s" or o.count != 1 + wide:
            raise GcnError(f"{o} as {kind}")
        else:
            value = self.S[o.number][rows]
            if wide:
                value = value | self.S[o.number + 1][rows].astype(np.uint64) << np.uint64(32)
        return value.view(TYPES[kind])

    def put_vector(self, o: Operand, value: Array, live: Array, rows: Any) -> None:
        """Write the lanes that are live."""
        if o.kind != "v":
            raise GcnError(f"{o} as a vector register")
        value = np.broadcast_to(np.asarray(value), live.shape)
        wide = value.dtype.itemsize == 8
        if o.count != 1 + wide:
            raise GcnError(f"{o}, for {8 * value.dtype.itemsize} bits")
        parts = np.ascontiguousarray(value)[..., None].view(np.uint32)
        for k in range(o.count):
            register = self.V[o.number + k][rows]
            np.copyto(register, parts[..., k], where=live)
            self.V[o.number + k][rows] = register

    def put_scalar(self, o: Operand, value: Array, rows: Any) -> None:
        """Write a value of each wave."""
        value = np.asarray(value)
        if o.kind != "s" or o.count != value.dtype.itemsize // 4:
            raise GcnError(f"{o}, for {8 * value.dtype.itemsize} bits")
        parts = np.ascontiguousarray(value)[..., None].view(np.uint32)
        for k in range(o.count):
            self.S[o.number + k][rows] = parts[..., k]
        if o.number in (EXEC, EXEC + 1):
            self.live[rows] = from_bits(self.scalar(Operand("s", EXEC, 2), "u64", rows))

    # Memory

    def access(
        self, at: Array, value: Array | None, live: Array, rows: Any, shared: bool
    ) -> Array | None:
        """Load words, or store ``value``, at addresses of the live lanes."""
        threads = self.threads[rows][live]
        slots = np.broadcast_to(self.slot[rows][:, None], live.shape)[live]
        times = self.times[slots]
        found = np.empty(len(at), np.uint32)
        for memory, which, offsets in self._targets(at, slots, shared):
            granules = memory.granules(offsets, 4)
            if value is None:
                memory.read(granules, threads[which], times[which])
                found[which] = memory.load(offsets, 4)
            else:
                same = (memory.load(offsets, 4) == value[which]) & memory.written[granules].all(1)
                memory.write(granules, threads[which], times[which], same)
                memory.store(offsets, 4, value[which])
        return found if value is None else None

    def _targets(self, at: Array, slots: Array, shared: bool) -> list[tuple[Watched, Any, Array]]:
        if shared:
            bad = (at < 0) | (at > self.shared_size - 4)
            if bad.any():
                raise Fault("outside", f"byte {at[bad][0]} of {self.shared_size} shared ones")
            return [(self.shared, slice(None), at + slots * self.stride)]
        tensor = (at >> np.uint64(TENSOR_BITS)).astype(np.int64)
        offsets = (at & np.uint64((1 << TENSOR_BITS) - 1)).astype(np.int64)
        found = []
        for one in np.unique(tensor):
            which = np.flatnonzero(tensor == one)
            if one not in self.tensors:
                raise Fault("outside", f"address {int(at[which[0]]):#x} is in no tensor")
            found.append((self.tensors[one], which, offsets[which]))
        return found

    def issue(self, counter: str, kind: str, registers: Any, rows: Any) -> None:
        """Note that an access is on its way."""
        self.issued[counter][rows] += 1
        numbers = np.zeros(len(self.places), np.int64)
        numbers[rows] = self.issued[counter][rows]
        self.flights[counter].append(_Flight(numbers, kind, list(registers)))
        if kind != "none":
            for r in registers:
                self.flying[kind][r, rows] = True

    def wait(self, rows: Any, counts: dict[str, tuple[int, ...]]) -> None:
        """Wait until at most so many accesses of each wave are on their way, the last ones."""
        inside = np.zeros(len(self.places), bool)
        inside[rows] = True
        for counter, (left,) in counts.items():
            kept = []
            for flight in self.flights[counter]:
                done = inside & (flight.numbers > 0)
                if flight.kind == "scalar" and left:
                    done[:] = False  # these return in any order
                done &= flight.numbers <= self.issued[counter] - left
                if flight.kind != "none":
                    for r in flight.registers:
                        self.flying[flight.kind][r, done] = False
                flight.numbers[done] = 0
                if flight.numbers.any():
                    kept.append(flight)
            self.flights[counter] = kept

    # Execution

    def run(self) -> None:
        """Run the programs to their end."""
        order = np.random.default_rng(0)
        try:
            with np.errstate(all="ignore"):
                while not self.ended.all():
                    if self.schedule.warps == "together":
                        self._run(np.ones(len(self.places), bool))
                    else:
                        turn = list(range(self.waves))
                        if self.schedule.warps == "backward":
                            turn.reverse()
                        elif self.schedule.warps == "shuffled":
                            turn = list(order.permutation(self.waves))
                        for wave in turn:
                            self._run(self.wave_of == wave)
                    self._release()
        except Fault as fault:
            instruction = self.program.steps[self.at].instruction
            raise Fault(fault.kind, f"{str(fault).partition(': ')[2]}; at {instruction}") from None
        finally:
            steps = enumerate(zip(self.program.steps, self.executed, strict=True))
            idle = {f"{k}: {step.instruction.text}" for k, (step, times) in steps if not times}
            before = set(self.counts.never) if self.counts.instructions else idle
            self.counts.never = sorted(idle & before)
            self.counts.instructions += sum(self.executed)
            for step, times in zip(self.program.steps, self.executed, strict=True):
                op = step.instruction.op
                self.counts.operations[op] = self.counts.operations.get(op, 0) + times

    def _run(self, some: Array) -> None:
        """Run some waves until each waits or has ended."""
        while True:
            active = some & ~self.waiting & ~self.ended
            if not active.any():
                return
            here = active & (self.places == self.places[active].min())
            self._advance(int(self.places[here][0]), here, active)

    def _advance(self, at: int, here: Array, active: Array) -> None:
        """Run the waves at a place until they part, meet others or stop."""
        rows = slice(None) if here.all() else np.flatnonzero(here)
        number = int(here.sum())
        others = self.places[active & ~here]
        meet = int(others.min()) if len(others) else -1
        while True:
            step = self.program.steps[at]
            self.at = at
            self.executed[at] += number
            for kind, registers in (("vector", step.vectors), ("scalar", step.scalars)):
                if registers and self.flying[kind][registers][:, rows].any():
                    raise Fault("in flight", "a register that a load has not filled yet")
            if step.run is not None:
                step.run(self, rows)
                at += 1
            elif step.instruction.op == "s_nop":
                at += 1
            elif step.instruction.op == "s_endpgm":
                self.ended[rows] = True
                return
            elif step.instruction.op == "s_barrier":
                for flight in self.flights["lgkmcnt"]:
                    if flight.kind == "none" and flight.numbers[rows].any():
                        raise Fault("in flight", "a barrier before shared memory was written")
                self.waiting[rows] = True
                self.places[rows] = at + 1
                return
            else:
                taken = self._taken(step.instruction.op, rows)
                self.left -= 1
                if self.left < 0:
                    raise Fault("endless", "the kernel does not end")
                if taken.any() != taken.all():
                    self.places[rows] = np.where(taken, step.target, at + 1)
                    return
                at = step.target if taken.any() else at + 1
            if meet >= 0 and at >= meet:
                self.places[rows] = at
                return

    def _taken(self, op: str, rows: Any) -> Array:
        if op == "s_branch":
            return np.ones(1, bool)
        if op.startswith("s_cbranch_scc"):
            return self.condition[rows] == (op[-1] == "1")
        number = EXEC if "exec" in op else VCC
        zero = self.scalar(Operand("s", number, 2), "u64", rows) == 0
        return zero if op.endswith(("vccz", "execz")) else ~zero

    def _release(self) -> None:
        """Let the waves go on that wait at a barrier."""
        waiting = self.waiting.reshape(self.waves, self.programs)
        if (waiting.any(0) != waiting.all(0)).any():
            raise Fault("barrier", "some waves of a program wait at a barrier, others do not")
        self.times[waiting.any(0)] += 1
        self.waiting[:] = False
