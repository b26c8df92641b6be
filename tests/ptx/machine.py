"""A grid of programs on the CPU: all threads as arrays, with masks where they part.

Threads of a warp run together and meet again as early as the order of the code allows. Warps run
up to the next barrier one after the other, in an order that is chosen, or all at once. Asynchronous
copies arrive when they are issued, or as late as the waits allow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import products
from .arithmetic import OPERATIONS, TYPES, neighbour
from .memory import Fault, Watched
from .text import SIZES, Address, Instruction, Kernel, Operand, PtxError

Array = NDArray[Any]
Mask = Array | None  # None: all threads

WARP = 32
SHARED_BASE = 1024  # of the addresses of shared memory
TENSOR_BITS = 36  # of an address that are the offset in an allocation
LONGEST = 1 << 18  # branches that are taken, beyond which a kernel is taken to run forever

NEXT, BRANCH, BARRIER, EXIT = range(4)
_ALL = (1 << 64) - 1


@dataclass(frozen=True)
class Schedule:
    """What hardware is free to choose."""

    warps: Literal["together", "forward", "backward", "shuffled"] = "together"
    copies: Literal["early", "late"] = "late"
    steps: int = 0  # by which approximate results lie beside the correctly rounded ones


@dataclass
class Counts:
    """What a launch did, exactly."""

    instructions: int = 0  # of warps; of all of them, and by their names
    loaded: int = 0  # bytes of global memory
    stored: int = 0
    sectors: int = 0  # of 32 bytes that the accesses of warps touch
    conflicts: int = 0  # passes of shared memory beyond the first, for want of other banks
    operations: dict[str, int] = field(default_factory=dict)
    never: list[str] = field(default_factory=list)  # texts of instructions that did not run, AMD's
    # with their place


@dataclass
class _Step:
    """An instruction made ready."""

    kind: int
    run: Callable[..., Any] | None
    guard: int | None  # slot of the predicate
    negated: bool
    instruction: Instruction
    target: int = 0


@dataclass
class _Copies:
    """Asynchronous copies of one instruction that are on their way."""

    rows: Array
    groups: Array  # that each thread counts them in
    source: list[tuple[Watched, Array, Array]]  # memory, which of the rows, offsets
    offsets: Array
    width: int
    found: Array
    sizes: Array


class Program:
    """A kernel made ready: every instruction as a function of the registers of a gang."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        labels = sorted((at, name) for name, at in kernel.labels.items() if "tmp" not in name)
        self.text = "\n".join([*(i.text for i in kernel.code), *map(str, labels)])
        self.slots: list[tuple[str, Any, Any]] = []  # (what, name or value, type)
        self._known: dict[Any, int] = {}
        self.narrowest = 16  # access of shared memory
        self.steps = [self._step(i) for i in kernel.code]

    # Operands

    def _slot(self, what: str, name: Any, kind: Any) -> int:
        key = (what, name.tobytes() if what == "constant" else name, np.dtype(kind).str)
        if key not in self._known:
            self._known[key] = len(self.slots)
            self.slots.append((what, name, kind))
        return self._known[key]

    def _read(self, operand: Operand, kind: str) -> int:
        """Return the slot of what an instruction reads, as a type."""
        if isinstance(operand, int):
            width = np.dtype(TYPES[kind]).itemsize
            bits = np.uint64(operand & ((1 << 8 * width) - 1)).astype(f"u{width}")
            return self._slot("constant", bits.view(TYPES[kind]), TYPES[kind])
        if not isinstance(operand, str):
            raise PtxError(f"operand {operand}")
        if operand in _SPECIAL:
            return self._slot("special", operand, np.uint32)
        if operand == "global_smem":
            return self._read(SHARED_BASE, kind)
        if not operand.startswith("%"):
            raise PtxError(f"symbol {operand}")
        declared = self.kernel.register_type(operand)
        if SIZES[declared] != np.dtype(TYPES[kind]).itemsize:
            raise PtxError(f"{operand} is {declared} and read as {kind}")
        return self._slot("register", operand, TYPES[kind])

    def _write(self, operand: Operand) -> int:
        assert isinstance(operand, str)
        return self._slot("register", operand, TYPES[self.kernel.register_type(operand)])

    # Instructions

    def _step(self, i: Instruction) -> _Step:
        guard = None if i.guard is None else self._read(i.guard, "pred")
        base = i.op.split(".")[0]
        kind, run, target = NEXT, None, 0
        if i.op in ("bra", "bra.uni"):
            kind, target = BRANCH, self.kernel.labels[str(i.operands[0])]
        elif i.op == "ret":
            kind = EXIT
        elif i.op == "bar.sync":
            if i.operands != (0,):
                raise PtxError(f"barrier: {i}")
            kind = BARRIER
        elif i.op.startswith("mov.b") and any(isinstance(o, tuple) for o in i.operands):
            run = self._pack(i)
        elif i.op in OPERATIONS:
            run = self._compute(i)
        elif i.op.startswith("ld.param."):
            run = self._parameter(i)
        elif base in ("ld", "st"):
            run = self._access(i)
        elif i.op in products.PRODUCTS:
            run = self._matrix_product(i)
        elif base in ("ldmatrix", "stmatrix"):
            run = self._matrix_access(i)
        elif base == "shfl":
            run = self._shuffle(i)
        elif i.op in _REDUCTIONS:
            run = self._reduce(i)
        elif i.op in ("cp.async.ca.shared.global", "cp.async.cg.shared.global"):
            run = self._copy(i)
        elif i.op == "cp.async.commit_group":
            run = lambda gang, mask: gang.commit(mask)  # noqa: E731
        elif i.op == "cp.async.wait_group":
            run = lambda gang, mask, n=i.operands[0]: gang.wait(mask, n)  # noqa: E731
        else:
            raise PtxError(f"unknown instruction: {i}")
        return _Step(kind, run, guard, i.negated, i, target)

    def _compute(self, i: Instruction) -> Callable[..., Any]:
        target, *sources = i.operands
        three = f"{i.op}, three" if len(sources) == 3 else ""
        operation = OPERATIONS.get(three, OPERATIONS[i.op])
        function = operation.function
        if len(sources) != len(operation.operands):
            raise PtxError(f"operands of: {i}")
        kinds, result = list(operation.operands), TYPES[operation.result]
        if i.op.startswith("cvt."):
            # a conversion reads the low bits of its operand, and fills its result up
            if operation.operands[0][0] in "su" and isinstance(sources[0], str):
                bits = self.kernel.register_type(sources[0])
                narrow, kinds = TYPES[kinds[0]], [bits]
                function = lambda x, f=function, d=narrow: f(x.astype(d))  # noqa: E731
            if operation.result[0] in "su":
                kind = "s" if operation.result[0] == "s" else "u"
                wide = TYPES[kind + self.kernel.register_type(str(target))[1:]]
                function = lambda x, f=function, d=wide: f(x).astype(d)  # noqa: E731
                result = wide
        slots = [self._read(o, k) for o, k in zip(sources, kinds, strict=True)]
        at = self._slot("register", target, result)
        approximate = operation.approximate
        if isinstance(function, np.ufunc) and len(slots) == 2:
            a, b = slots

            def run(gang: Any, mask: Mask) -> None:
                R = gang.registers
                if mask is None:
                    function(R[a], R[b], out=R[at])
                else:
                    np.copyto(R[at], function(R[a], R[b]), where=mask)

            return run

        def general(gang: Any, mask: Mask) -> None:
            R = gang.registers
            value = function(*[R[s] for s in slots])
            if approximate and gang.machine.schedule.steps:
                value = neighbour(value, gang.machine.schedule.steps)
            if mask is None:
                R[at][...] = value
            else:
                np.copyto(R[at], value, where=mask)

        return general

    def _pack(self, i: Instruction) -> Callable[..., Any]:
        """Make a move between one register and several narrower ones, the lowest bits first."""
        target, source = i.operands
        wide = i.op.removeprefix("mov.")
        parts = target if isinstance(target, tuple) else source
        assert isinstance(parts, tuple)
        narrow = TYPES[f"b{8 * SIZES[wide] // len(parts)}"]
        if isinstance(target, tuple):
            outs, one = (
                [None if o == "_" else self._write(o) for o in parts],
                self._read(source, wide),
            )

            def unpack(gang: Any, mask: Mask) -> None:
                value = np.broadcast_to(gang.registers[one], gang.count)
                pieces = np.ascontiguousarray(value).view(narrow).reshape(gang.count, -1)
                for k, out in enumerate(outs):
                    if out is not None:
                        gang.put([out], [pieces[:, k]], mask)

            return unpack
        kind = f"b{8 * np.dtype(narrow).itemsize}"
        slots, at = [self._read(o, kind) for o in parts], self._write(target)

        def pack(gang: Any, mask: Mask) -> None:
            values = [np.broadcast_to(gang.registers[s], gang.count) for s in slots]
            gang.put([at], [np.stack(values, -1).view(TYPES[wide])], mask)

        return pack

    def _parameter(self, i: Instruction) -> Callable[..., Any]:
        target, address = i.operands
        assert isinstance(address, Address)
        names = [name for name, _ in self.kernel.params]
        at, index = self._write(target), names.index(address.base)
        if address.offset:
            raise PtxError(f"parameter: {i}")

        def run(gang: Any, mask: Mask) -> None:
            value = gang.machine.parameters[index]
            if mask is None:
                gang.registers[at][...] = value
            else:
                np.copyto(gang.registers[at], value, where=mask)

        return run

    def _address(self, operand: Operand, space: str) -> tuple[int, int]:
        if not isinstance(operand, Address):
            raise PtxError(f"address {operand}")
        kind = "u64" if space == "global" else "u32"
        return self._read(operand.base, kind), operand.offset

    def _access(self, i: Instruction) -> Callable[..., Any]:
        way, space, *rest = i.op.split(".")
        kind, modifiers = rest[-1], rest[:-1]
        many = 1
        for modifier in modifiers:
            if modifier in ("v2", "v4"):
                many = int(modifier[1])
            elif modifier not in _HINTS:
                raise PtxError(f"modifier .{modifier}: {i}")
        if space not in ("global", "shared") or kind not in ("b8", "b16", "b32", "b64"):
            raise PtxError(f"unknown instruction: {i}")
        where, what = i.operands if way == "st" else i.operands[::-1]
        items = what if isinstance(what, tuple) else (what,)
        if len(items) != many:
            raise PtxError(f"operands of: {i}")
        at, offset = self._address(where, space)
        size = np.dtype(TYPES[kind]).itemsize
        if space == "shared":
            self.narrowest = min(self.narrowest, size * many)
        if way == "ld":
            outs = [self._write(o) for o in items]

            def load(gang: Any, mask: Mask) -> None:
                place = gang.registers[at] + np.uint64(offset & _ALL) if space == "global" else (
                    gang.registers[at].astype(np.int64) + offset
                )  # fmt: skip
                found = gang.load(space, place, size * many, size, mask)
                for k, out in enumerate(outs):
                    register = gang.registers[out]
                    if mask is None:
                        register[...] = found[k]
                    else:
                        register[mask] = found[k]

            return load
        ins = []
        for o in items:
            declared = f"b{8 * size}" if isinstance(o, int) else self.kernel.register_type(str(o))
            ins.append(self._read(o, declared))
        narrow = TYPES[kind]

        def store(gang: Any, mask: Mask) -> None:
            R = gang.registers
            place = R[at] + np.uint64(offset & _ALL) if space == "global" else (
                R[at].astype(np.int64) + offset
            )  # fmt: skip
            values = [np.broadcast_to(R[s], gang.count).astype(narrow, copy=False) for s in ins]
            gang.store(space, place, size * many, size, values, mask)

        return store

    def _matrix_product(self, i: Instruction) -> Callable[..., Any]:
        multiply = products.PRODUCTS[i.op]
        outs, *ins = i.operands
        slots = [[self._read(o, "b32") for o in part] for part in ins]  # type: ignore[union-attr]
        to = [self._write(o) for o in outs]  # type: ignore[union-attr]

        def run(gang: Any, mask: Mask) -> None:
            gang.whole_warps(mask)
            R = gang.registers
            found = multiply(*[[R[s].reshape(-1, WARP) for s in part] for part in slots])
            gang.put(to, found, mask)

        return run

    def _matrix_access(self, i: Instruction) -> Callable[..., Any]:
        found = _MATRIX.get(i.op)
        if found is None:
            raise PtxError(f"unknown instruction: {i}")
        many, transposed = found
        self.narrowest = min(self.narrowest, 16)
        loads = i.op.startswith("ldmatrix")
        where, what = i.operands[::-1] if loads else i.operands
        assert isinstance(what, tuple)
        if len(what) != many:
            raise PtxError(f"operands of: {i}")
        at, offset = self._address(where, "shared")
        slots = [self._write(o) if loads else self._read(o, "b32") for o in what]

        def run(gang: Any, mask: Mask) -> None:
            gang.whole_warps(mask)
            R = gang.registers
            rows = np.zeros(gang.count, bool).reshape(-1, WARP)
            rows[:, : 8 * many] = True  # the threads that give addresses
            rows = rows.reshape(-1) if mask is None else rows.reshape(-1) & mask
            place = R[at].astype(np.int64) + offset
            if loads:
                parts = gang.load("shared", place, 16, 8, rows, matrix=True)
                data = np.stack(parts, -1).view(np.uint16).reshape(-1, many, 8, 8)
                found = products.to_fragments(data, transposed)
                gang.put(slots, found, mask, whole=True)
                return
            registers = [R[s].reshape(-1, WARP) for s in slots]
            data = products.from_fragments(registers, transposed)
            data = np.ascontiguousarray(data).view(np.uint64).reshape(-1, 8 * many, 2)
            values = np.zeros((2, gang.count // WARP, WARP), np.uint64)
            values[:, :, : 8 * many] = data.transpose(2, 0, 1)
            gang.store("shared", place, 16, 8, list(values.reshape(2, -1)), rows, matrix=True)

        return run

    def _shuffle(self, i: Instruction) -> Callable[..., Any]:
        found = _SHUFFLES.get(i.op)
        if found is None:
            raise PtxError(f"unknown instruction: {i}")
        target, value, lane, clamp, members = i.operands
        out, _, also = str(target).partition("|")
        slots = [self._read(o, "b32") for o in (value, lane, clamp, members)]
        to = self._write(out)
        valid = self._write(also) if also else None

        def run(gang: Any, mask: Mask) -> None:
            gang.whole_warps(mask)
            a, b, c, everybody = (
                np.broadcast_to(gang.registers[s], gang.count).reshape(-1, WARP) for s in slots
            )
            if (everybody != 0xFFFFFFFF).any():
                raise PtxError(f"a shuffle of a part of a warp: {i}")
            own = np.arange(WARP)
            b, c = b.astype(np.int64) & 31, c.astype(np.int64)
            segment, limit = (c >> 8) & 31, c & 31
            last = (own & segment) | (limit & ~segment)
            other, inside = found(own, b, last, segment)
            other = np.where(inside, other, own)
            value = np.take_along_axis(a, other & 31, 1)
            gang.put([to], [value], mask)
            if valid is not None:
                gang.put([valid], [inside], mask)

        return run

    def _reduce(self, i: Instruction) -> Callable[..., Any]:
        target, value, members = i.operands
        at, everybody = self._read(value, "s32"), self._read(members, "u32")
        to, function = self._slot("register", target, np.int32), _REDUCTIONS[i.op]

        def run(gang: Any, mask: Mask) -> None:
            gang.whole_warps(mask)
            if (gang.registers[everybody] != 0xFFFFFFFF).any():
                raise PtxError(f"a reduction of a part of a warp: {i}")
            values = np.broadcast_to(gang.registers[at], gang.count).reshape(-1, WARP)
            found = function(values, axis=1, keepdims=True)
            gang.put([to], [np.broadcast_to(found, values.shape)], mask)

        return run

    def _copy(self, i: Instruction) -> Callable[..., Any]:
        to, source, width, *size = i.operands
        assert isinstance(width, int)
        if width not in (4, 8, 16) or (".cg." in i.op and width != 16):
            raise PtxError(f"width: {i}")
        self.narrowest = min(self.narrowest, width)
        at, offset = self._address(to, "shared")
        from_, from_offset = self._address(source, "global")
        read = self._read(size[0] if size else width, "u32")

        def run(gang: Any, mask: Mask) -> None:
            R = gang.registers
            gang.copy(
                R[at].astype(np.int64) + offset, R[from_] + np.uint64(from_offset & _ALL), width,
                np.broadcast_to(R[read], gang.count), mask,
            )  # fmt: skip

        return run


_SPECIAL = {
    *(f"%{what}.{axis}" for what in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"),
    "%laneid",
}  # fmt: skip
# where a cache keeps what was accessed: nothing that a result depends on
_HINTS = ("L1::evict_first", "L1::evict_last", "L1::no_allocate", "ca", "cg", "cs", "wb")
_MATRIX = {
    f"{way}.sync.aligned.m8n8.x{n}{t}.shared.b16": (n, bool(t))
    for way in ("ldmatrix", "stmatrix")
    for n in (1, 2, 4)
    for t in ("", ".trans")
}
_REDUCTIONS = {"redux.sync.max.s32": np.max, "redux.sync.min.s32": np.min}
_SHUFFLES: dict[str, Callable[..., Any]] = {
    "shfl.sync.up.b32": lambda own, b, last, _: (own - b, own - b >= last),
    "shfl.sync.down.b32": lambda own, b, last, _: (own + b, own + b <= last),
    "shfl.sync.bfly.b32": lambda own, b, last, _: (own ^ b, (own ^ b) <= last),
    "shfl.sync.idx.b32": lambda own, b, last, segment: (
        (own & segment) | (b & ~segment), ((own & segment) | (b & ~segment)) <= last,
    ),
}  # fmt: skip


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
        copies = _Copies(own, machine.groups[own], [], offsets, width, found,
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


def _left(copies: _Copies, some: Array) -> _Copies:
    """Return some of the copies of an instruction."""
    place = np.cumsum(some) - 1
    source = [
        (memory, place[which[some[which]]], places[some[which]])
        for memory, which, places in copies.source
    ]
    return _Copies(
        copies.rows[some], copies.groups[some], source, copies.offsets[some], copies.width,
        copies.found[some], copies.sizes[some],
    )  # fmt: skip


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
        self.pending: list[_Copies] = []
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

    def arrive(self, copies: _Copies, some: Array) -> None:
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
