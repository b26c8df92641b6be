"""A grid of programs on the CPU: waves of 64 lanes, each with its place in the code and its mask.

Waves run up to the next barrier one after the other, in an order that is chosen, or all at once. A
register that a load will fill is not to be touched before the load is waited for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptx.machine import LONGEST, TENSOR_BITS, Counts, Schedule
from ptx.memory import Fault, Watched

from .arithmetic import PACKED, SCALAR, TYPES, VECTOR, rounded
from .text import EXEC, VCC, GcnError, Instruction, Kernel, Operand

Array = NDArray[Any]

WAVE = 64
ARGUMENTS = 1 << 20  # number of the allocation that holds the arguments
FILL = 0xDEADBEEF  # what registers hold before they are written
_LANES = np.arange(WAVE)
_SETTINGS = {  # of the processor, with which instructions mean what they do here
    "float_round_mode_32": 0, "float_denorm_mode_32": 3, "ieee_mode": 1, "dx10_clamp": 1,
    "private_segment_fixed_size": 0, "system_sgpr_workgroup_id_x": 1,
    "system_vgpr_workitem_id": 0,
}  # fmt: skip
_BRANCHES = ("s_branch", "s_cbranch_execz", "s_cbranch_execnz", "s_cbranch_scc0",
             "s_cbranch_scc1", "s_cbranch_vccz", "s_cbranch_vccnz")  # fmt: skip
_LOADS = {"s_load_dword": 1, "s_load_dwordx2": 2, "s_load_dwordx4": 4, "s_load_dwordx8": 8}
_ACCESSES = ("global_load_dword", "global_store_dword", "ds_read_b32", "ds_write_b32")


@dataclass
class _Step:
    """An instruction made ready."""

    run: Callable[["Machine", Any], None] | None
    instruction: Instruction
    target: int
    vectors: list[int]  # numbers of the registers that it touches
    scalars: list[int]


@dataclass
class _Flight:
    """An access that was issued: its number in each wave, from 1; 0 in waves that did not."""

    numbers: Array
    kind: str  # vector or scalar registers, or none
    registers: list[int]


class Program:
    """A kernel made ready."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        for name, value in _SETTINGS.items():
            if kernel.settings[name] != value:
                raise GcnError(f".amdhsa_{name} is {kernel.settings[name]}; expected {value}")
        self.text = "\n".join([*(i.text for i in kernel.code), *map(str, kernel.labels.items())])
        self.steps = [self._step(i) for i in kernel.code]

    def _step(self, i: Instruction) -> _Step:
        target, run = 0, None
        if i.target:
            if i.op not in _BRANCHES:
                raise GcnError(f"unknown instruction: {i}")
            target = self.kernel.labels[i.target]
        elif i.op not in ("s_barrier", "s_endpgm", "s_nop"):
            run = self._make(i)
        touched: dict[str, list[int]] = {"v": [], "s": []}
        for o in i.operands:
            if o.kind in touched:
                touched[o.kind] += range(o.number, o.number + o.count)
        return _Step(run, i, target, touched["v"], touched["s"])

    def _make(self, i: Instruction) -> Callable[["Machine", Any], None]:
        name = i.op.removesuffix("_e32").removesuffix("_e64")
        if i.op == "s_waitcnt":
            return lambda m, rows: m.wait(rows, i.modifiers)
        if i.op in _LOADS:
            return _scalar_load(i)
        if i.op in _ACCESSES:
            return _access(i)
        if i.op.endswith("saveexec_b64"):
            return _save_mask(i)
        if name in SCALAR:
            return _scalar(i, name)
        if name in PACKED or name == "v_pk_mov_b32":
            return _packed(i, name)
        if name in ("v_readfirstlane_b32", "v_readlane_b32"):
            return _read_lane(i)
        if name == "v_fmac_f32":
            to, a, b = i.operands
            return _vector(i, "v_fma_f32", (to, a, b, to))
        if name.removesuffix("_dpp") in VECTOR:
            return _vector(i, name.removesuffix("_dpp"), i.operands)
        raise GcnError(f"unknown instruction: {i}")


# Instructions as functions of a machine and the waves that execute them


def _allow(i: Instruction, *modifiers: str) -> None:
    unknown = i.modifiers.keys() - set(modifiers)
    if unknown:
        raise GcnError(f"modifier {', '.join(sorted(unknown))} of: {i}")


def _scalar(i: Instruction, name: str) -> Callable[["Machine", Any], None]:
    _allow(i)
    operation = SCALAR[name]
    kinds = [k for k in operation.operands if k != "condition"]
    condition = "condition" in operation.operands
    results = list(operation.results)
    sets = results[-1] == "mask"
    values = results[:-1] if sets else results
    if len(i.operands) != len(values) + len(kinds):
        raise GcnError(f"operands of: {i}")
    targets, sources = i.operands[: len(values)], i.operands[len(values) :]

    def run(m: "Machine", rows: Any) -> None:
        given = [m.scalar(o, k, rows) for o, k in zip(sources, kinds, strict=True)]
        found = operation.function(*given, *([m.condition[rows]] if condition else []))
        found = found if isinstance(found, tuple) else (found,)
        for o, value in zip(targets, found, strict=False):
            m.put_scalar(o, value, rows)
        if sets:
            m.condition[rows] = found[-1]

    return run


def _save_mask(i: Instruction) -> Callable[["Machine", Any], None]:
    _allow(i)
    functions = {"s_and_saveexec_b64": lambda a, e: a & e, "s_or_saveexec_b64": lambda a, e: a | e,
                 "s_andn2_saveexec_b64": lambda a, e: a & ~e}  # fmt: skip
    if i.op not in functions:
        raise GcnError(f"unknown instruction: {i}")
    to, source = i.operands
    mask = Operand("s", EXEC, 2)

    def run(m: "Machine", rows: Any) -> None:
        old, value = m.scalar(mask, "u64", rows).copy(), m.scalar(source, "u64", rows)
        found = functions[i.op](value, old)
        m.put_scalar(to, old, rows)
        m.put_scalar(mask, found, rows)
        m.condition[rows] = found != 0

    return run


def _scalar_load(i: Instruction) -> Callable[["Machine", Any], None]:
    _allow(i)
    count = _LOADS[i.op]
    to, base, offset = i.operands
    if to.count != count or base.count != 2 or offset.kind != "constant":
        raise GcnError(f"operands of: {i}")

    def run(m: "Machine", rows: Any) -> None:
        place = m.scalar(base, "u64", rows) + np.uint64(offset.number)
        if (place >> np.uint64(TENSOR_BITS) != ARGUMENTS).any():
            raise Fault("outside", "a scalar load from what are not the arguments")
        at = (place & np.uint64((1 << TENSOR_BITS) - 1)).astype(np.int64)
        if (at % 4 != 0).any() or (at + 4 * count > m.arguments.nbytes).any():
            raise Fault("outside", f"arguments have {m.arguments.nbytes} bytes")
        for k in range(count):
            m.S[to.number + k][rows] = m.arguments[at // 4 + k]
        m.issue("lgkmcnt", "scalar", range(to.number, to.number + count), rows)

    return run


def _vector(
    i: Instruction, name: str, operands: tuple[Operand, ...]
) -> Callable[["Machine", Any], None]:
    operation = VECTOR[name]
    dpp = i.op.endswith("_dpp")
    _allow(i, *(("row_shr", "row_bcast", "quad_perm", "row_mask", "bank_mask", "bound_ctrl")
                if dpp else ()))  # fmt: skip
    count = len(operation.results)
    targets, sources = operands[:count], list(operands[count:])
    if len(sources) != len(operation.operands) or len(targets) != count:
        raise GcnError(f"operands of: {i}")
    floats = [k == "f32" for k in operation.operands]
    if any((o.negated or o.absolute) and not f for o, f in zip(sources, floats, strict=True)):
        raise GcnError(f"signs of: {i}")
    other, allowed = _lanes_of(i) if dpp else (None, None)
    vcc = Operand("s", VCC, 2)

    def run(m: "Machine", rows: Any) -> None:
        live = m.live[rows]
        given = [m.vector(o, k, rows) for o, k in zip(sources, operation.operands, strict=True)]
        if operation.reads_vcc:
            given.append(m.vector(vcc, "mask", rows))
        if dpp:
            inside = (other >= 0) & live[:, other]
            moved = np.broadcast_to(given[0], live.shape)[:, other]
            given[0] = np.where(inside, moved, given[0].dtype.type(0))
            live = live & allowed
            if not i.modifiers.get("bound_ctrl", (0,))[0]:
                live = live & inside
        found = operation.function(*given)
        found = found if isinstance(found, tuple) else (found,)
        for o, kind, value in zip(targets, operation.results, found, strict=True):
            if operation.approximate:
                value = rounded(value, int(np.sign(m.schedule.steps)))
            if kind == "mask":
                m.put_scalar(o, to_bits(np.broadcast_to(value, live.shape) & live), rows)
            else:
                m.put_vector(o, value, live, rows)

    return run


def _lanes_of(i: Instruction) -> tuple[Array, Array]:
    """Return the lane that each reads, -1 for none, and whether it is written."""
    row = _LANES // 16
    m = i.modifiers
    if "row_shr" in m:
        other = np.where(m["row_shr"][0] <= _LANES % 16, _LANES - m["row_shr"][0], -1)
    elif m.get("row_bcast") == (15,):
        other = np.where(row > 0, 16 * row - 1, -1)
    elif m.get("row_bcast") == (31,):
        other = np.where(_LANES > 31, 31, -1)
    elif "quad_perm" in m:
        other = _LANES // 4 * 4 + np.array(m["quad_perm"])[_LANES % 4]
    else:
        raise GcnError(f"lanes of: {i}")
    rows, banks = m["row_mask"][0], m["bank_mask"][0]
    return other, (rows >> row & 1 == 1) & (banks >> (_LANES % 16 // 4) & 1 == 1)


def _packed(i: Instruction, name: str) -> Callable[["Machine", Any], None]:
    """Make an instruction of two float32 that lie in neighbouring registers."""
    _allow(i, "op_sel", "op_sel_hi", "neg_lo", "neg_hi")
    to, a, b = i.operands
    moves = name == "v_pk_mov_b32"
    kind = "u32" if moves else "f32"
    picks = [i.modifiers.get("op_sel", (0, 0)), i.modifiers.get("op_sel_hi", (1, 1))]
    signs = [i.modifiers.get("neg_lo", (0, 0)), i.modifiers.get("neg_hi", (0, 0))]
    if to.count != 2 or any(o.negated or o.absolute for o in i.operands):
        raise GcnError(f"operands of: {i}")

    def half(o: Operand, pick: int) -> Operand:
        if o.kind == "constant":
            if pick:
                raise GcnError(f"the upper half of a constant: {i}")
            return o
        return Operand(o.kind, o.number + pick)

    if moves:  # its second half is that of the second operand
        halves = [(half(a, picks[0][0]),), (half(b, picks[0][1]),)]
    else:
        halves = [(half(a, p[0]), half(b, p[1])) for p in picks]

    def run(m: "Machine", rows: Any) -> None:
        live, found = m.live[rows], []
        for operands, sign in zip(halves, signs, strict=True):
            given = [m.vector(o, kind, rows) for o in operands]
            if moves:
                found.append(given[0])
            else:
                given = [-x if s else x for x, s in zip(given, sign, strict=True)]
                found.append(PACKED[name](*given))
        for k, value in enumerate(found):
            m.put_vector(Operand("v", to.number + k), value, live, rows)

    return run


def _read_lane(i: Instruction) -> Callable[["Machine", Any], None]:
    _allow(i)
    to, source, *which = i.operands
    if source.kind != "v" or (which and which[0].kind != "constant"):
        raise GcnError(f"operands of: {i}")

    def run(m: "Machine", rows: Any) -> None:
        value = m.vector(source, "u32", rows)
        lane = which[0].number if which else m.live[rows].argmax(1)  # 0 if none is live
        m.put_scalar(to, value[np.arange(len(value)), lane], rows)

    return run


def _access(i: Instruction) -> Callable[["Machine", Any], None]:
    _allow(i, "offset")
    offset = i.modifiers.get("offset", (0,))[0]
    loads = "load" in i.op or "read" in i.op
    to, place = (i.operands[0], i.operands[1]) if loads else (i.operands[1], i.operands[0])
    register = to.number
    if i.op.startswith("ds_"):
        counter, base = "lgkmcnt", None
        if len(i.operands) != 2 or place.count != 1:
            raise GcnError(f"operands of: {i}")
    else:
        counter, base = "vmcnt", i.operands[2]
        if base.kind not in ("off", "s") or place.count != (2 if base.kind == "off" else 1):
            raise GcnError(f"operands of: {i}")

    def run(m: "Machine", rows: Any) -> None:
        live = m.live[rows]
        if base is None:
            at = m.vector(place, "u32", rows).astype(np.int64) + offset
        elif base.kind == "off":
            at = m.vector(place, "u64", rows) + np.uint64(offset)
        else:
            at = m.scalar(base, "u64", rows)[:, None] + m.vector(place, "u32", rows) + np.uint64(
                offset
            )  # fmt: skip
        value = None if loads else m.vector(to, "u32", rows)[live]
        found = m.access(at[live], value, live, rows, shared=base is None)
        if loads:
            whole = np.zeros(live.shape, np.uint32)
            whole[live] = found
            m.put_vector(Operand("v", register), whole, live, rows)
        m.issue(counter, "vector" if loads else "none", [register], rows)

    return run


def to_bits(mask: Array) -> Array:
    """Return masks of 64 lanes as numbers."""
    return np.packbits(mask, axis=1, bitorder="little").view(np.uint64)[:, 0]


def from_bits(bits: Array) -> Array:
    """Return numbers as masks of 64 lanes."""
    parts = np.ascontiguousarray(bits)[:, None].view(np.uint8)
    return np.unpackbits(parts, axis=1, bitorder="little").astype(bool)


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
        self.threads = (first[:, None] + _LANES).astype(np.int32)
        self.V[0] = self.wave_of[:, None] * WAVE + _LANES
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
            if step.instruction.op not in ("s_waitcnt", *_LOADS):
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
