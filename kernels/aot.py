"""Compile kernels ahead of time, without a GPU, and read what their machine code uses.

What a kernel is called with is not written down a second time: ``launches`` runs a public kernel
function and records, instead of running, what it launches.

    for launch in launches(lambda: cuba(x, decay, decay, 1.0, 4096)):
        print(resources(compile_launch(launch, "sm_90")))
"""

import contextlib
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import recurrent, recurrent_triton
from .dispatch import execute, launch_options
from .rows import BLOCK, CHUNK

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}

_POINTERS = {
    torch.float32: "*fp32", torch.int32: "*i32", torch.int8: "*i8", torch.bfloat16: "*bf16",
}  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """A kernel and what it was given, as ``dispatch.execute`` gets it."""

    kernel: Any
    args: tuple[Any, ...]
    constants: tuple[Any, ...]
    threads: int = BLOCK


def launches(call: Callable[[], Any]) -> list[Launch]:
    """Return what ``call`` launches through ``execute``, without running any of it.

    Only modules that are imported by now are recorded.
    """
    recorded: list[Launch] = []

    def record(kernel, loop, sizes, args, constants=()):
        recorded.append(Launch(kernel, (*args, *sizes), (*constants, CHUNK, BLOCK)))

    users = [m for m in sys.modules.values() if getattr(m, "execute", None) is execute]
    with contextlib.ExitStack() as patches:
        for module in users:
            if module.__name__ != execute.__module__:  # from there others may import it meanwhile
                patches.enter_context(mock.patch.object(module, "execute", record))
        call()
    return recorded


def recurrent_launches(call: Callable[[], Any]) -> list[Launch]:
    """Return what ``call`` of ``kernels.recurrent`` launches on a GPU, running none of it."""
    recorded: list[Launch] = []

    def record(kernel, grid, args, constants, threads):
        recorded.append(Launch(kernel, args, constants, threads))

    with (
        mock.patch.object(recurrent_triton, "launch", record),
        mock.patch.object(recurrent, "executor", return_value="triton"),
    ):
        call()
    return recorded


def compile_launch(launch: Launch, target: str) -> Any:
    """Compile the kernel of a launch for one of ``TARGETS``, for the types that it was given."""
    values = dict(zip(launch.kernel.arg_names, (*launch.args, *launch.constants), strict=True))
    flags = set(launch.kernel.arg_names[len(launch.args) :])
    constants = {n: v for n, v in values.items() if v is None or n in flags}
    types = {n: _type(v) for n, v in values.items() if n not in constants}
    return compile_kernel(launch.kernel, types, constants, target, launch.threads)


def _type(value: Tensor | float | int) -> str:
    if isinstance(value, Tensor):
        return _POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def compile_kernel(
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any],
    target: str,
    threads: int = BLOCK,
) -> Any:
    """Compile a kernel for one of ``TARGETS``.

    Parameters
    ----------
    kernel
        Function decorated with ``jit``.
    signature
        Triton type of each argument, e.g. ``{"x_ptr": "*fp32", "T": "i32"}``. Pointers are taken to
        be aligned to 16 bytes, as torch allocates; sizes to be anything.
    constants
        Values of the other arguments: the flags, and None for each absent tensor.
    target
        Name of the architecture.
    threads
        Threads of a program.

    Returns
    -------
    triton.compiler.CompiledKernel
        With the stages of the compilation in ``asm``.
    """
    names = kernel.arg_names
    types = {n: signature.get(n, "constexpr") for n in names}
    aligned = {
        (k,): [["tt.divisibility", 16]] for k, n in enumerate(names) if types[n].startswith("*")
    }
    architecture = TARGETS[target]
    return triton.compile(
        ASTSource(kernel, types, constants, aligned),
        target=architecture,
        options=launch_options(architecture.backend, threads),
    )


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel uses."""

    registers: int  # a thread
    spills: int  # accesses (NVIDIA) or registers (AMD) that went to memory for want of registers
    shared: int  # bytes
    loads: dict[int, int]  # instructions by bytes a thread
    stores: dict[int, int]
    loop: int  # instructions in the main loop
    late_loads: int | None  # loads behind a store of that loop; None if its order is not known
    doubles: int  # float64 instructions
    long_products: int  # 64-bit integer products inside loops


def resources(compiled: Any) -> Resources:
    """Read the resources from the machine code of a compiled kernel."""
    if "cubin" in compiled.asm:
        return _nvidia(compiled)
    return _amd(compiled)


_BYTES = {"128": 16, "96": 12, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}  # SASS; default 4
_DWORDS = {"dwordx4": 16, "dwordx3": 12, "dwordx2": 8, "dword": 4}


def _nvidia(compiled: Any) -> Resources:
    cubin = compiled.asm["cubin"]
    usage = _run("cuobjdump", "--dump-resource-usage", cubin)
    registers = re.search(r"\bREG:(\d+)", usage)
    assert registers is not None
    instruction = r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)"
    code, labels = _parse(_run("nvdisasm", "-c", cubin), r"^(\.L_x_\w+):", instruction)

    def width(op: str) -> int:
        return next((_BYTES[m] for m in op.split(".") if m in _BYTES), 4)

    ops = [op for op, _ in code]
    first, last = _main_loop(code, labels)
    body = ops[first : last + 1]
    stores = [k for k, op in enumerate(body) if op.startswith("STG")]
    return Resources(
        registers=int(registers.group(1)),
        spills=sum(op.startswith(("LDL", "STL")) for op in ops),
        shared=compiled.metadata.shared,
        loads=Counter(width(op) for op in ops if op.startswith("LDG")),
        stores=Counter(width(op) for op in ops if op.startswith("STG")),
        loop=len(body),
        late_loads=sum(op.startswith("LDG") for op in body[stores[0] :]) if stores else 0,
        doubles=sum(bool(re.match(r"D(ADD|MUL|FMA|SETP|MNMX)|.*(F64|64H)", op)) for op in ops),
        long_products=_long_products(compiled.asm["ttgir"]),
    )


def _amd(compiled: Any) -> Resources:
    text = compiled.asm["amdgcn"]
    instruction = r"^\s+((?:[vs]|global|buffer|ds|flat|scratch)_\w+)(.*)"
    code, labels = _parse(text, r"^(\.LBB\w+):", instruction)

    def field(name: str) -> int:
        found = re.search(rf"\.{name}:\s*(\d+)", text)
        assert found is not None
        return int(found.group(1))

    def widths(kind: str) -> dict[int, int]:
        found = (re.match(rf"(?:global|buffer|flat)_{kind}_(\w+)", op) for op, _ in code)
        return Counter(_DWORDS[m.group(1)] for m in found if m)

    first, last = _main_loop(code, labels)
    return Resources(
        registers=field("vgpr_count"),
        spills=field("vgpr_spill_count") + field("sgpr_spill_count"),
        shared=compiled.metadata.shared,
        loads=widths("load"),
        stores=widths("store"),
        loop=last + 1 - first,
        late_loads=None,  # the compiler rotates the loop
        doubles=sum("_f64" in op for op, _ in code),
        long_products=_long_products(compiled.asm["ttgir"]),
    )


def _run(tool: str, option: str, cubin: bytes) -> str:
    """Run one of the CUDA tools that come with Triton."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [path, option, file]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _parse(text: str, label: str, instruction: str) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Return opcodes with their operands, and where each label points."""
    code: list[tuple[str, str]] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if found := re.match(label, line):
            labels[found.group(1)] = len(code)
        elif found := re.match(instruction, line):
            code.append((found.group(1), found.group(2)))
    return code, labels


def _main_loop(code: list[tuple[str, str]], labels: dict[str, int]) -> tuple[int, int]:
    """Return the longest stretch that a branch at its end repeats."""

    def backward_branches() -> Iterator[tuple[int, int]]:
        for k, (op, operands) in enumerate(code):
            target = re.search(r"\.L\w+", operands)
            if target and re.match(r"BRA|s_c?branch", op) and labels[target.group()] <= k:
                yield labels[target.group()], k

    return max(backward_branches(), key=lambda ends: ends[1] - ends[0])


def _long_products(ir: str) -> int:
    """Count the products of 64-bit integers inside loops of the intermediate representation."""
    depth, loops, count = 0, [], 0
    for line in ir.splitlines():
        if re.search(r"\bscf\.(for|while)\b", line):
            loops.append(depth)
        count += bool(loops and re.search(r"\barith\.muli\b.*i64\b", line))
        depth += line.count("{") - line.count("}")
        while loops and depth <= loops[-1]:
            loops.pop()
    return count
