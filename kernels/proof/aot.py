"""Compile kernels ahead of time, without a GPU, and read what their machine code uses.

What a kernel is called with is not written down a second time: ``launches`` runs a public kernel
function and records, instead of running, what it launches.

    for launch in launches(lambda: cuba(x, decay, decay, 1.0, 4096)):
        print(resources(compile_launch(launch, "sm_90")))
"""

import contextlib
import functools
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import triton
from lapilli.kernels.executors.dispatch import execute, launch_options, walk_constants
from lapilli.kernels.executors.passes import without_coalescing
from lapilli.kernels.executors.rows import BLOCK
from lapilli.kernels.recurrences import recurrent, recurrent_triton
from lapilli.kernels.synapses import bfloat16, tiled_convolution
from torch import Tensor
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .machine_code import Code, read, run_tool

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}

# ahead-of-time compilation for AMD needed ROCm's linker before
_SINCE = {"hip": (3, 5)}

_POINTERS = {
    torch.float32: "*fp32", torch.int32: "*i32", torch.int8: "*i8", torch.bfloat16: "*bf16",
}  # fmt: skip


def architecture(name: str) -> GPUTarget:
    """Return what Triton calls an architecture named like those of ``TARGETS``."""
    if name in TARGETS:
        return TARGETS[name]
    if name.startswith("sm_"):
        return GPUTarget("cuda", int(name.removeprefix("sm_")), 32)
    return GPUTarget("hip", name, 64 if name.startswith("gfx9") else 32)


def can_compile(target: str) -> bool:
    """Whether this version of Triton compiles for an architecture without its device."""
    version = tuple(map(int, triton.__version__.split(".")[:2]))
    return version >= _SINCE.get(architecture(target).backend, (0, 0))


def local_target() -> str | None:
    """Return the architecture of the GPU that is here; None without one."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties()
    if torch.version.hip:
        return properties.gcnArchName.partition(":")[0]
    return f"sm_{properties.major}{properties.minor}"


@dataclass(frozen=True)
class Launch:
    """A kernel and what it is given, but for the constants that the number of lanes decides."""

    kernel: Any
    args: tuple[Any, ...]
    constants: tuple[Any, ...]
    threads: int = BLOCK
    lanes: int | None = None  # of a kernel that walks over time, which has more constants
    grid: tuple[int, ...] | None = None  # of programs, for the others


def launches(call: Callable[[], Any]) -> list[Launch]:
    """Return what ``call`` launches through ``execute``, without running any of it.

    Only modules that are imported by now are recorded.
    """
    recorded: list[Launch] = []

    def record(kernel, sizes, args, constants=(), loop=None):
        N, T, C = sizes
        recorded.append(Launch(kernel, (*args, T, C, N * C), constants, lanes=N * C))

    users = [m for m in sys.modules.values() if getattr(m, "execute", None) is execute]
    with contextlib.ExitStack() as patches:
        for module in users:
            if module.__name__ != execute.__module__:  # from there others may import it meanwhile
                patches.enter_context(mock.patch.object(module, "execute", record))
        call()
    return recorded


def recurrent_launches(call: Callable[[], Any]) -> list[Launch]:
    """Return what a ``call`` of recurrent layers launches on a GPU, running none of it."""
    return _direct(call, recurrent, recurrent_triton)


def terms_launches(call: Callable[[], Any]) -> list[Launch]:
    """Return what a ``call`` of ``bfloat16.terms`` launches on a GPU, running none of it."""
    return _direct(call, bfloat16, bfloat16)


def convolution_launches(call: Callable[[], Any]) -> list[Launch]:
    """Return what a ``call`` of tiled_convolution.py launches on a GPU, running none of it."""
    return _direct(call, None, tiled_convolution)


def _direct(
    call: Callable[[], Any], chooses: ModuleType | None, launches: ModuleType
) -> list[Launch]:
    """Record what a module launches without ``execute``, and one chooses by the executor."""
    recorded: list[Launch] = []

    def record(kernel, grid, args, constants, threads=BLOCK):
        recorded.append(Launch(kernel, args, constants, threads, grid=grid))

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(launches, "launch", record))
        if chooses is not None:
            patches.enter_context(mock.patch.object(chooses, "executor", return_value="triton"))
        call()
    return recorded


def compile_launch(launch: Launch, target: str, unaligned: Collection[str] = ()) -> Any:
    """Compile the kernel of a launch for an architecture, for the types that it was given.

    ``unaligned`` is that of ``compile_kernel``.
    """
    with contextlib.nullcontext() if launch.lanes is None else without_coalescing:
        return compile_kernel(
            launch.kernel, *signature(launch, target), target, launch.threads, unaligned
        )


def signature(launch: Launch, target: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what a launch compiles its kernel for: types of arguments, values of constants."""
    constants = launch.constants
    if launch.lanes is not None:
        constants = (*constants, *walk_constants(launch.lanes, architecture(target).backend))
    values = dict(zip(launch.kernel.arg_names, (*launch.args, *constants), strict=True))
    flags = set(launch.kernel.arg_names[len(launch.args) :])
    fixed = {n: v for n, v in values.items() if v is None or n in flags}
    return {n: _type(v) for n, v in values.items() if n not in fixed}, fixed


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
    unaligned: Collection[str] = (),
) -> Any:
    """Compile a kernel for an architecture.

    Parameters
    ----------
    kernel
        Function decorated with ``jit``.
    signature
        Triton type of each argument, e.g. ``{"x_ptr": "*fp32", "T": "i32"}``. Sizes are taken to be
        anything.
    constants
        Values of the other arguments: the flags, and None for each absent tensor.
    target
        Name of the architecture, like those of ``TARGETS``.
    threads
        Threads of a program.
    unaligned
        Pointers into the middle of a tensor; others are aligned to 16 bytes, as torch allocates.

    Returns
    -------
    triton.compiler.CompiledKernel
        With the stages of the compilation in ``asm``.
    """
    names = kernel.arg_names
    types = {n: signature.get(n, "constexpr") for n in names}
    aligned = {
        (k,): [["tt.divisibility", 16]]
        for k, n in enumerate(names)
        if types[n].startswith("*") and n not in unaligned
    }
    gpu = architecture(target)
    return triton.compile(
        _Source(kernel, types, constants, aligned),
        target=gpu,
        options=launch_options(gpu.backend, threads, kernel, constants.get("STAGES", 1)),
    )


# Options that say what an architecture has; Triton reads them after it has read the kernel
_OF_ARCHITECTURE = frozenset((
    "arch", "extern_libs", "supported_fp8_dtypes", "deprecated_fp8_dot_operand_dtypes",
    "deprecated_fp8_dtypes",  # the same in Triton 3.3
    "max_num_imprecise_acc_default",
))  # fmt: skip


class _Source(ASTSource):
    """A kernel that is read once for all architectures of a maker: a quarter of a compilation.

    The code is the same; names of variables of loops, which only debuggers show, are lost.
    """

    def make_ir(self, *given: Any) -> Any:
        *_, options, _, _, context = given  # before them the target, which Triton 3.3 does not give
        rest = {n: v for n, v in asdict(options).items() if n not in _OF_ARCHITECTURE}
        key = f"{self.hash()} {rest}"
        known = Path(_folder().name) / f"{sha256(key.encode()).hexdigest()}.ttir"
        if known.exists():
            module = ir.parse_mlir_module(str(known), context)
            module.context = context
            return module
        module = super().make_ir(*given)
        with tempfile.NamedTemporaryFile("w", dir=known.parent, delete=False) as file:
            file.write(str(module))
        os.replace(file.name, known)  # whole, whatever other threads compile
        return module


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return where this process keeps the first representation of kernels."""
    return tempfile.TemporaryDirectory(prefix="lapilli-")


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel uses."""

    registers: int  # a thread
    spills: int  # accesses (NVIDIA) or registers (AMD) that went to memory for want of registers
    shared: int  # bytes
    loads: dict[int, int]  # instructions by bytes a thread
    stores: dict[int, int]
    loop: int  # instructions in the main loop; 0 without one
    late_loads: int | None  # loads behind a store of that loop; None if its order is not known
    doubles: int  # float64 instructions
    long_products: int  # 64-bit integer products inside loops


def resources(compiled: Any, code: Code | None = None) -> Resources:
    """Read the resources from a compiled kernel, and its machine code unless that was read."""
    code = read(compiled) if code is None else code
    ops = [instruction.op for instruction in code.instructions]
    main = () if code.main is None else code.loops.get(code.main, ())
    body = [code.instructions[k] for k in sorted(main)]
    if code.amd:
        text = compiled.asm["amdgcn"]
        registers = _field(text, "vgpr_count")
        spills = _field(text, "vgpr_spill_count") + _field(text, "sgpr_spill_count")
        late_loads = None  # the compiler rotates the loop
    else:
        usage = run_tool("cuobjdump", compiled.asm["cubin"], "--dump-resource-usage")
        registers = _number(r"\bREG:(\d+)", usage)
        spills = sum(op.startswith(("LDL", "STL")) for op in ops)
        first = next((k for k, i in enumerate(body) if i.store), len(body))
        late_loads = sum(bool(i.load) for i in body[first:])
    double = re.compile(r".*_f64" if code.amd else r"D(ADD|MUL|FMA|SETP|MNMX)|.*(F64|64H)")
    return Resources(
        registers=registers,
        spills=spills,
        shared=compiled.metadata.shared,
        loads=Counter(i.load for i in code.instructions if i.load),
        stores=Counter(i.store for i in code.instructions if i.store),
        loop=len(body),
        late_loads=late_loads,
        doubles=sum(bool(double.match(op)) for op in ops),
        long_products=_long_products(compiled.asm["ttgir"]),
    )


def _field(assembly: str, name: str) -> int:
    return _number(rf"\.{name}:\s*(\d+)", assembly)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None
    return int(found[1])


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
