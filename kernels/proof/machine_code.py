"""What the machine code of a compiled kernel says: its loops, and what a thread does in one pass.

Instructions are read from the disassembly (NVIDIA, by the tools that come with Triton) or the
assembly (AMD). Loops are natural loops of the control flow, because ranges of addresses are not
enough: the AMD backend moves parts of a loop in front of it or behind it.
"""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import triton

# SASS names the width of an access, 4 bytes if it does not; AMD's accesses always do
_BYTES = {"128": 16, "96": 12, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
_AMD_BYTES = {
    "dwordx4": 16, "dwordx3": 12, "dwordx2": 8, "dword": 4, "ushort": 2, "sshort": 2, "short": 2,
    "ubyte": 1, "sbyte": 1, "byte": 1,
}  # fmt: skip


class Instruction(NamedTuple):
    """An instruction; ``control`` are NVIDIA's bits for stalls and scoreboards."""

    op: str
    operands: str
    conditional: bool = False
    control: int = 0

    @property
    def load(self) -> int:
        """Bytes a thread reads from global memory."""
        if self.op.startswith("LDG"):
            return _width(self.op)
        return _amd_width(self.op, "load")

    @property
    def store(self) -> int:
        """Bytes a thread writes to global memory."""
        if self.op.startswith("STG"):
            return _width(self.op)
        return _amd_width(self.op, "store")

    @property
    def products(self) -> int:
        """Multiply-adds of a matrix instruction, of all threads of the warp."""
        if found := re.match(r"[HI]MMA\.(16)(8)(8|16|32)\b", self.op):
            return int(found[1]) * int(found[2]) * int(found[3])
        if found := re.match(r"v_mfma_\w+?_(\d+)x(\d+)x(\d+)", self.op):
            return int(found[1]) * int(found[2]) * int(found[3])
        return 0

    @property
    def operand(self) -> str:
        """Type that a matrix instruction multiplies, by its size."""
        if re.search(r"IMMA|_i8", self.op):
            return "8 bits"
        return "32 bits" if re.search(r"TF32|x\d+_x?f32", self.op) else "16 bits"


def _width(op: str) -> int:
    return next((_BYTES[m] for m in op.split(".") if m in _BYTES), 4)


def _amd_width(op: str, kind: str) -> int:
    found = re.match(rf"(?:global|buffer|flat)_{kind}_([a-z]+\d?)(?![a-z0-9])", op)
    return _AMD_BYTES[found[1]] if found else 0


@dataclass(frozen=True)
class Code:
    """The instructions of a kernel, and which may follow each."""

    instructions: list[Instruction]
    successors: list[tuple[int, ...]]  # first the one that follows where all lanes are live
    amd: bool

    @cached_property
    def loops(self) -> dict[int, set[int]]:
        """Natural loops: the instructions of each, by the one that it starts at."""
        predecessors: list[list[int]] = [[] for _ in self.instructions]
        ends: list[tuple[int, int]] = []
        opened, closed = {0}, set()
        path = [(0, iter(self.successors[0]))]
        while path:
            here, rest = path[-1]
            for there in rest:
                predecessors[there].append(here)
                if there in closed:
                    continue
                if there in opened:  # still on the path: the edge closes a loop
                    ends.append((here, there))
                    continue
                opened.add(there)
                path.append((there, iter(self.successors[there])))
                break
            else:
                closed.add(here)
                path.pop()
        found: dict[int, set[int]] = {}
        for end, start in ends:
            body, work = found.setdefault(start, {start}), [end]
            while work:
                k = work.pop()
                if k not in body:
                    body.add(k)
                    work += predecessors[k]
        return found

    @cached_property
    def main(self) -> int | None:
        """Start of the loop over time: the one that stores most; None without loops."""

        def size(start: int) -> tuple[int, int]:
            body = self.loops[start]
            return sum(bool(self.instructions[k].store) for k in body), len(body)

        return max(self.loops, key=size, default=None)

    def passes(self, products: int, whole: bool = False) -> list[Instruction]:
        """Return one pass in which matrix units multiply as often as they have to.

        Parameters
        ----------
        products
            Multiply-adds of matrix instructions that a warp executes in a pass of the main loop,
            with loops inside of it; these settle how often the inner loops run, of which the
            compiler may have peeled a pass.
        whole
            A pass is all of the kernel, which has no loop over time.

        Raises
        ------
        ValueError
            If no number of passes gives so many.
        """
        once, twice = (sum(i.products for i in self.one_pass(k, whole)) for k in (1, 2))
        more, rest = divmod(products - once, (twice - once) or 1)
        if rest or more < 0 or (more and twice == once):
            raise ValueError(
                f"a pass of the main loop has {once} matrix products, {twice - once} of them in "
                f"inner loops; no number of passes gives {products}"
            )
        return self.one_pass(1 + more, whole)

    def one_pass(self, inner: int = 1, whole: bool = False) -> list[Instruction]:
        """Return what a thread executes in one pass of the main loop, in order; all lanes live.

        Parameters
        ----------
        inner
            Passes of each loop inside the main loop.
        whole
            A pass is all of the kernel: branches go to its loops, until each has run.

        Returns
        -------
        list[Instruction]
            Of a kernel without loops, all that it executes.
        """
        whole = whole or self.main is None
        start = 0 if self.main is None or whole else self.main
        body = set(range(len(self.instructions))) if whole else self.loops[start]
        inside = {k for k, b in self.loops.items() if k != start and b < body}
        ahead = {k: self._ways_to(k) for k in inside} if whole else {}
        done: Counter[int] = Counter()
        trace, k = [], start
        while True:
            trace.append(self.instructions[k])
            ways = [j for j in self.successors[k] if j in body]
            again = next((j for j in ways if j in inside and k in self.loops[j]), None)
            if again is not None:
                done[again] += 1
                if done[again] < inner:
                    k = again
                    continue
                done[again] = 0
                ways.remove(again)
                ahead.pop(again, None)
            if not ways or ways[0] == start:
                return trace
            k = next((j for j in ways for loop in ahead.values() if j in loop), ways[0])

    def _ways_to(self, loop: int) -> set[int]:
        """Return the instructions from which a loop can be reached."""
        before: dict[int, list[int]] = {}
        for k, ways in enumerate(self.successors):
            for j in ways:
                before.setdefault(j, []).append(k)
        found, work = {loop}, [loop]
        while work:
            for j in before.get(work.pop(), ()):
                if j not in found:
                    found.add(j)
                    work.append(j)
        return found


def read(compiled: Any) -> Code:
    """Read the code of a kernel that Triton has compiled."""
    if "cubin" in compiled.asm:
        return read_nvidia(run_tool("nvdisasm", compiled.asm["cubin"], "-ndf", "-c", "-hex"))
    return read_amd(compiled.asm["amdgcn"])


def run_tool(tool: str, cubin: bytes, *options: str) -> str:
    """Run one of the CUDA tools that come with Triton."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [path, *options, file]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


_SASS = re.compile(
    r"\s+/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)(.*?);\s+/\* 0x[0-9a-f]{16} \*/"
)
_UPPER_HALF = re.compile(r"\s+/\* 0x([0-9a-f]{16}) \*/")


def read_nvidia(text: str) -> Code:
    """Parse what ``nvdisasm -ndf -c -hex`` prints."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if found := re.match(r"(\.L_x_\w+):", line):
            labels[found[1]] = len(code)
        elif found := _SASS.match(line):
            # a branch can also name its condition after the opcode
            conditional = bool(found[1]) or bool(re.match(r"\s+!?U?P\d", found[3]))
            code.append(Instruction(found[2], found[3], conditional))
        elif found := _UPPER_HALF.match(line):
            code[-1] = code[-1]._replace(control=int(found[1], 16) >> 41)

    def after(k: int) -> tuple[int, ...]:
        op, operands, conditional, _ = code[k]
        ways = (k + 1,) if k + 1 < len(code) else ()
        target = re.search(r"\.L_x_\w+", operands)
        if op.startswith("BRA") and target:
            return (*ways, labels[target[0]]) if conditional else (labels[target[0]],)
        return () if op.startswith(("EXIT", "RET")) and not conditional else ways

    return Code(code, [after(k) for k in range(len(code))], amd=False)


_GCN = re.compile(r"\s+((?:[vs]|global|buffer|ds|flat|scratch)_\w+)([^;]*)")


def read_amd(text: str) -> Code:
    """Parse the assembly of an AMD target."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if found := re.match(r"(\.LBB\w+):", line):
            labels[found[1]] = len(code)
        elif found := _GCN.match(line):
            conditional = found[1].startswith("s_cbranch")
            code.append(Instruction(found[1], found[2].strip(), conditional))

    def after(k: int) -> tuple[int, ...]:
        op, operands, conditional, _ = code[k]
        ways = (k + 1,) if k + 1 < len(code) else ()
        target = re.search(r"\.LBB\w+", operands)
        if op == "s_branch" and target:
            return (labels[target[0]],)
        if conditional and target:
            ways = (*ways, labels[target[0]])
            return ways[::-1] if op == "s_cbranch_execnz" else ways
        return () if op == "s_endpgm" else ways

    return Code(code, [after(k) for k in range(len(code))], amd=True)


# Multiply-adds a cycle and scheduler of the matrix units, from the peak rates that are published
# for A100 (624 TOPS of int8 are 512 at 1.41 GHz on 108 units), H100 and MI300X
_RATES = {
    "sm_80": {"8 bits": 512, "16 bits": 256, "32 bits": 128},
    "sm_90": {"8 bits": 1024, "16 bits": 512, "32 bits": 256},
    "amd": {"8 bits": 512, "16 bits": 256, "32 bits": 64},
}


def issue_slots(trace: list[Instruction], target: str, amd: bool) -> float:
    """Return how often a warp takes its scheduler in a pass, or its matrix unit if that is longer.

    On NVIDIA every instruction counts. On AMD vector instructions do, slow ones fourfold; scalar
    ones and accesses have ports of their own.
    """
    if amd:
        return sum(_amd_issue(i) for i in trace if i.op.startswith("v_")) / _ISSUE
    rates = _RATES.get(target, _RATES["sm_80"])
    return max(len(trace), sum(i.products / rates[i.operand] for i in trace if i.products))


# How long one warp takes alone, in order. The cycles are those of published timings and
# manuals that rank code, not of a measurement.

_PASSES = 6  # simulated; the first ones fill the scoreboards
_SCOREBOARD = (  # cycles until a result that has a scoreboard is there
    (re.compile(r"LDS|LDSM|STS|ATOMS|SHFL"), 30),
    (re.compile(r"MUFU|F2I|I2F|FRND|POPC|FLO"), 20),
    (re.compile(r"[HI]MMA"), 34),
)
_OTHER = 10
_OPERANDS_READ = 12  # cycles until a store or load has read its registers


def warp_cycles(trace: list[Instruction], memory: float, amd: bool) -> float:
    """Return the cycles of one pass of a loop for one warp alone, which issues in order.

    Parameters
    ----------
    trace
        Instructions of a pass, in order.
    memory
        Cycles until a load from global memory returns.
    amd
        Whether they are AMD's.
    """
    ends = (_amd_ends if amd else _nvidia_ends)(trace, memory)
    return (ends[-1] - ends[2]) / (_PASSES - 3)


def _nvidia_ends(trace: list[Instruction], memory: float) -> list[float]:
    """Follow stall counts and scoreboards, which release when the last of their users is done."""
    ready = [0.0] * 8
    time, ends = 0.0, []
    latencies = [_nvidia_latency(i.op, memory) for i in trace]
    for _ in range(_PASSES):
        for instruction, latency in zip(trace, latencies, strict=True):
            control = instruction.control
            stall, written, operands, waits = (
                control & 15, control >> 5 & 7, control >> 8 & 7, control >> 11 & 63,
            )  # fmt: skip
            time = max(time, *(ready[b] * (waits >> b & 1) for b in range(6)))
            ready[written] = max(ready[written], time + latency)  # 7 is none, and never waited for
            ready[operands] = max(ready[operands], time + _OPERANDS_READ)
            time += max(1, stall)
        ends.append(time)
    return ends


def _nvidia_latency(op: str, memory: float) -> float:
    if op.startswith(("LDG", "ATOMG")):
        return memory
    return next((cycles for pattern, cycles in _SCOREBOARD if pattern.match(op)), _OTHER)


_ISSUE = 4  # cycles between two instructions of a wave of 64 lanes, which 16 lanes execute
_SLOW = re.compile(r"v_(mul_lo_u32|mul_hi|mad_[ui]64|exp|log|rcp|rsq|sqrt|sin|cos|\w+_f64)")
_SHARED = 64  # cycles until shared memory returns


def _amd_issue(instruction: Instruction) -> float:
    """Cycles for which an AMD instruction occupies its unit."""
    if instruction.products:
        return instruction.products / _RATES["amd"][instruction.operand]
    return 4 * _ISSUE if _SLOW.match(instruction.op) else _ISSUE


def _amd_ends(trace: list[Instruction], memory: float) -> list[float]:
    """Follow the counters of outstanding accesses, which return in order."""
    pending: dict[str, list[float]] = {"vmcnt": [], "lgkmcnt": []}
    time, ends = 0.0, []
    for _ in range(_PASSES):
        for instruction in trace:
            op, operands = instruction.op, instruction.operands
            if op == "s_waitcnt":
                for name, queue in pending.items():
                    if found := re.search(rf"{name}\((\d+)\)", operands):
                        while len(queue) > int(found[1]):
                            time = max(time, queue.pop(0))
            elif op.startswith(("global_", "buffer_", "flat_", "scratch_")):
                # a write is done when the cache has it: half the way, an assumption
                pending["vmcnt"].append(time + (memory / 2 if instruction.store else memory))
            elif op.startswith(("ds_", "s_load")):
                pending["lgkmcnt"].append(time + _SHARED)
            if op == "s_nop":
                time += int(operands or "0", 0) + 1
            else:
                time += _amd_issue(instruction)
        ends.append(time)
    return ends
