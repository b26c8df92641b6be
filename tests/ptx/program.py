"""A kernel made ready: each instruction as a function of the registers of a gang."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import products
from .arithmetic import OPERATIONS, REDUCTIONS, SHUFFLES, TYPES, neighbour
from .schedule import SHARED_BASE, WARP, Mask
from .text import SIZES, Address, Instruction, Kernel, Operand, PtxError

NEXT, BRANCH, BARRIER, EXIT = range(4)
_ALL = (1 << 64) - 1


@dataclass
class _Step:
    """An instruction made ready."""

    kind: int
    run: Callable[..., Any] | None
    guard: int | None  # slot of the predicate
    negated: bool
    instruction: Instruction
    target: int = 0


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
        elif i.op in REDUCTIONS:
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
        found = MATRIX_ACCESSES.get(i.op)
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
        found = SHUFFLES.get(i.op)
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
        to, function = self._slot("register", target, np.int32), REDUCTIONS[i.op]

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
MATRIX_ACCESSES = {
    f"{way}.sync.aligned.m8n8.x{n}{t}.shared.b16": (n, bool(t))
    for way in ("ldmatrix", "stmatrix")
    for n in (1, 2, 4)
    for t in ("", ".trans")
}
