"""A kernel made ready: its instructions as functions of a machine and of its waves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ptx.memory import Fault
from ptx.schedule import TENSOR_BITS

from .arithmetic import PACKED, SCALAR, VECTOR, rounded
from .text import EXEC, VCC, GcnError, Instruction, Kernel, Operand
from .waves import ARGUMENTS, LANES, Array, to_bits

if TYPE_CHECKING:
    from .machine import Machine

SETTINGS = {  # of the processor, with which instructions mean what they do here
    "float_round_mode_32": 0, "float_denorm_mode_32": 3, "ieee_mode": 1, "dx10_clamp": 1,
    "private_segment_fixed_size": 0, "system_sgpr_workgroup_id_x": 1,
    "system_vgpr_workitem_id": 0,
}  # fmt: skip
_BRANCHES = ("s_branch", "s_cbranch_execz", "s_cbranch_execnz", "s_cbranch_scc0",
             "s_cbranch_scc1", "s_cbranch_vccz", "s_cbranch_vccnz")  # fmt: skip
LOADS = {"s_load_dword": 1, "s_load_dwordx2": 2, "s_load_dwordx4": 4, "s_load_dwordx8": 8}
ACCESSES = ("global_load_dword", "global_store_dword", "ds_read_b32", "ds_write_b32")


@dataclass
class _Step:
    """An instruction made ready."""

    run: Callable[["Machine", Any], None] | None
    instruction: Instruction
    target: int
    vectors: list[int]  # numbers of the registers that it touches
    scalars: list[int]


class Program:
    """A kernel made ready."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        for name, value in SETTINGS.items():
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
        if i.op in LOADS:
            return _scalar_load(i)
        if i.op in ACCESSES:
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
    count = LOADS[i.op]
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
    lanes: Any = _lanes_of(i) if dpp else (None, None)
    other, allowed = lanes
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
    row = LANES // 16
    m = i.modifiers
    if "row_shr" in m:
        other = np.where(m["row_shr"][0] <= LANES % 16, LANES - m["row_shr"][0], -1)
    elif m.get("row_bcast") == (15,):
        other = np.where(row > 0, 16 * row - 1, -1)
    elif m.get("row_bcast") == (31,):
        other = np.where(LANES > 31, 31, -1)
    elif "quad_perm" in m:
        other = LANES // 4 * 4 + np.array(m["quad_perm"])[LANES % 4]
    else:
        raise GcnError(f"lanes of: {i}")
    rows, banks = m["row_mask"][0], m["bank_mask"][0]
    return other, (rows >> row & 1 == 1) & (banks >> (LANES % 16 // 4) & 1 == 1)


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
        found: Any = m.access(at[live], value, live, rows, shared=base is None)
        if loads:
            whole = np.zeros(live.shape, np.uint32)
            whole[live] = found
            m.put_vector(Operand("v", register), whole, live, rows)
        m.issue(counter, "vector" if loads else "none", [register], rows)

    return run
