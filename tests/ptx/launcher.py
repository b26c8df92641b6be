"""Run the operators of lapilli on the executor: what they launch on a GPU, with CPU tensors."""

import contextlib
import ctypes
import functools
import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import gcn.machine
import gcn.program
import gcn.text
import numpy as np
import pytest
import torch
import triton
from lapilli.kernels.executors import dispatch, memory
from lapilli.kernels.executors.rows import BLOCK
from lapilli.kernels.proof import aot
from lapilli.kernels.recurrences import recurrent_triton
from torch import Tensor
from triton.backends.amd.compiler import HIPBackend
from triton.backends.nvidia.compiler import CUDABackend

from .machine import Machine
from .memory import Watched
from .program import Program
from .schedule import TENSOR_BITS, Counts, Schedule
from .text import parse

# A word that torch.empty leaves in what the executor runs: a float32 that is not a number, with
# bits that nothing computes.
UNWRITTEN = 0x7FA5_5A5E
AT_ONCE = 32  # programs that run side by side
SHARED = {  # bytes a program can have
    "sm_80": 163 << 10, "sm_90": 227 << 10, "sm_120": 99 << 10, "gfx942": 64 << 10,
}  # fmt: skip


@dataclass
class Launched:
    """A launch that has run."""

    name: str
    key: tuple[Any, ...]  # what the kernel was compiled for
    text: str  # of the compiled code
    grid: tuple[int, ...]
    counts: Counts


@dataclass
class Emulation:
    """How the launches of a context run, and what has run."""

    target: str
    schedule: Schedule
    edit: Any = None  # what to make of the compiled text of a kernel before it runs
    counting: bool = False
    launched: list[Launched] = field(default_factory=list)


def key_of(launch: aot.Launch, target: str) -> tuple[Any, ...]:
    """Return what tells the compiled forms of kernels apart."""
    types, constants = aot.signature(launch, target)
    return launch.kernel.__name__, tuple(types.items()), tuple(constants.items()), launch.threads


def skip_unknown_ptx() -> None:
    """Skip a test of what this Triton compiles where program.py has not learned its PTX."""
    if triton.__version__.startswith("3.3."):
        pytest.skip("Triton 3.3 writes instructions with other types than later ones: program.py")


_compiled: dict[Any, tuple[str, int]] = {}


def compiled(launch: aot.Launch, target: str, unaligned: tuple[str, ...] = ()) -> tuple[str, int]:
    """Return PTX or AMD's assembly of a launch, and the bytes of shared memory that it asks for.

    What Triton has compiled before comes from its cache; else it compiles as far as text.
    """
    if not _is_amd(target):
        skip_unknown_ptx()
    key = (*key_of(launch, target), target, unaligned)
    if key not in _compiled:
        made = _known(launch, target, unaligned) or _text_only(launch, target, unaligned)
        _compiled[key] = text_of(made), made.metadata.shared
    return _compiled[key]


def text_of(made: Any) -> str:
    """Return the last stage of a compiled kernel that is a text."""
    return made.asm["amdgcn" if "amdgcn" in made.asm else "ptx"]


def _is_amd(target: str) -> bool:
    return aot.architecture(target).backend == "hip"


class _Unknown(Exception):
    """Triton would have to compile."""


def _known(launch: aot.Launch, target: str, unaligned: tuple[str, ...]) -> Any:
    """Return what Triton's cache holds, None if it holds nothing."""
    with contextlib.ExitStack() as patches:
        for backend in (CUDABackend, HIPBackend):
            patches.enter_context(mock.patch.object(backend, "add_stages", side_effect=_Unknown))
        try:
            return aot.compile_launch(launch, target, unaligned)
        except _Unknown:
            return None


def _text_only(launch: aot.Launch, target: str, unaligned: tuple[str, ...]) -> Any:
    """Compile as far as text, and keep that apart from what Triton compiles whole."""
    with contextlib.ExitStack() as patches:
        for backend, last in ((CUDABackend, "make_cubin"), (HIPBackend, "make_hsaco")):
            patches.enter_context(mock.patch.object(backend, last, return_value=b""))
        folder = {"TRITON_CACHE_DIR": str(_folder() / "triton")}
        patches.enter_context(mock.patch.dict(os.environ, folder))
        return aot.compile_launch(launch, target, unaligned)


@functools.lru_cache(maxsize=256)
def program_of(text: str) -> Program | gcn.program.Program:
    """Parse compiled code and make its instructions ready."""
    if text.lstrip().startswith(".amdgcn_target"):
        return gcn.program.Program(gcn.text.parse(text))
    return Program(parse(text))


@contextlib.contextmanager
def emulated(
    target: str = "sm_90", schedule: Schedule | None = None, many: bool = False, edit: Any = None,
    room: int | None = None, counting: bool = False,
) -> Iterator[Emulation]:  # fmt: skip
    """Let every kernel that is launched in the context run on the executor.

    Parameters
    ----------
    target
        Architecture.
    schedule
        What hardware is free to choose.
    many
        Take the form of kernels for many neurons, without chunks in flight, whatever the size.
    edit
        Function of the compiled text of each launch, which returns what is to run.
    room
        Bytes of shared memory that a program can have, if not those of the architecture.
    counting
        Count bytes, sectors and conflicts too.
    """
    emulation = Emulation(target, schedule or Schedule(), edit, counting)

    def launch(kernel, grid, args, constants, threads=BLOCK, stages=1):
        _launch(emulation, aot.Launch(kernel, args, constants, threads), grid)

    replaced = {
        dispatch.launch: launch,
        dispatch.executor: lambda device: "triton",
        memory.empty: lambda shape, dtype, like: _marked(torch.zeros(shape, dtype=dtype)),
    }
    gpu = "hip" if _is_amd(target) else "cuda"
    with contextlib.ExitStack() as patches:
        for module in [m for n, m in sys.modules.items() if n.startswith("lapilli")]:
            for name, value in list(vars(module).items()):
                if callable(value) and _hashable(value) and value in replaced:
                    patches.enter_context(mock.patch.object(module, name, replaced[value]))
        patches.enter_context(mock.patch.object(dispatch, "_gpu", return_value=gpu))
        patches.enter_context(mock.patch.object(dispatch, "FULL", 0 if many else 1 << 62))
        room = SHARED[target] if room is None else room
        patches.enter_context(
            mock.patch.object(recurrent_triton, "_shared_memory", return_value=room)
        )
        patches.enter_context(mock.patch.object(Tensor, "new_empty", _new_empty))
        yield emulation


def launch_on(
    target: str, schedule: Schedule, launch: aot.Launch, grid: tuple[int, ...],
    counting: bool = False,
) -> Launched:  # fmt: skip
    """Run one launch on the executor."""
    emulation = Emulation(target, schedule, counting=counting)
    _launch(emulation, launch, grid)
    return emulation.launched[0]


def _hashable(value: Any) -> bool:
    return type(value).__hash__ is not None


def _new_empty(self: Tensor, *size: Any, **options: Any) -> Tensor:
    return _marked(self.new_zeros(*size, **options))


def _marked(x: Tensor) -> Tensor:
    """Fill a tensor with what stands for nothing."""
    if x.dtype.itemsize == 4:
        x.view(torch.int32).fill_(UNWRITTEN)
    elif x.numel() * x.element_size() % 4 == 0:
        x.view(-1).view(torch.int32).fill_(UNWRITTEN)
    else:
        raise NotImplementedError(f"an output of {x.numel()} x {x.dtype}")
    return x


def _launch(emulation: Emulation, launch: aot.Launch, grid: tuple[int, ...]) -> None:
    pointers = {
        n: a for n, a in zip(launch.kernel.arg_names, launch.args, strict=False)
        if isinstance(a, Tensor)
    }  # fmt: skip
    unaligned = tuple(n for n, a in pointers.items() if _offset(a) % 16)
    text, shared = compiled(launch, emulation.target, unaligned)
    assert shared <= SHARED[emulation.target], f"{shared} bytes of shared memory"
    if emulation.edit is not None:
        text = emulation.edit(text)
    program = program_of(text)
    # the last two are memory of Triton's own, which no kernel here asks for
    given = [*(a for a in launch.args if a is not None), 0, 0]
    tensors, addresses = _tensors(list(pointers.values()), launch.threads)
    if isinstance(program, Program):
        assert program.kernel.threads == launch.threads
        kinds = [kind for _, kind in program.kernel.params]
    else:
        sizes = [size for _, size in program.kernel.arguments]
        kinds = [
            "u64" if size == 8 else "f32" if isinstance(a, float) else "u32"
            for a, size in zip(given, sizes, strict=True)
        ]
    parameters = [_packed(k, a, addresses) for a, k in zip(given, kinds, strict=True)]
    along_x, along_y, along_z = (*grid, 1, 1)[:3]
    counts = _run(
        program, (along_x, along_y, along_z), parameters, tensors, shared, launch.threads, emulation
    )
    emulation.launched.append(
        Launched(launch.kernel.__name__, key_of(launch, emulation.target), text, grid, counts)
    )


def _run(
    program: Program | gcn.program.Program, grid: tuple[int, int, int], parameters: list[Any],
    tensors: dict[int, Watched], shared: int, threads: int, emulation: Emulation,
) -> Counts:  # fmt: skip
    """Run all programs of a launch, or repeat what the same launch did."""
    kept = _kept(program, grid, parameters, tensors, shared, emulation)
    if kept.exists():
        with np.load(kept, allow_pickle=False) as found:
            for number, memory_ in tensors.items():
                memory_.data[:] = found[f"tensor {number}"]
            return Counts(**json.loads(str(found["counts"])))
    counts, total = Counts(), math.prod(grid)
    for first in range(0, total, AT_ONCE):
        programs = range(first, min(first + AT_ONCE, total))
        schedule = emulation.schedule
        if isinstance(program, Program):
            Machine(
                program, grid, programs, parameters, tensors, shared, schedule, counts,
                emulation.counting,
            ).run()  # fmt: skip
        else:
            arguments = _in_memory(parameters, program.kernel.arguments)
            gcn.machine.Machine(
                program, grid, programs, threads, arguments, tensors, shared, schedule, counts
            ).run()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".npz", delete=False) as file:
        arrays: dict[str, Any] = {f"tensor {number}": m.data for number, m in tensors.items()}
        np.savez_compressed(file, counts=json.dumps(asdict(counts)), **arrays)
    os.replace(file.name, kept)  # at once: several processes write here
    return counts


def _in_memory(parameters: list[Any], places: list[tuple[int, int]]) -> Any:
    """Return arguments as AMD's kernels find them."""
    end = sum(places[-1])
    found = np.zeros(-(-end // 64) * 64, np.uint8)
    for value, (offset, size) in zip(parameters, places, strict=True):
        found[offset : offset + size] = np.frombuffer(value.tobytes(), np.uint8)
    return found


def _kept(
    program: Program | gcn.program.Program, grid: tuple[int, int, int], parameters: list[Any],
    tensors: dict[int, Watched], shared: int, emulation: Emulation,
) -> Path:  # fmt: skip
    """Return where the results of a launch are kept: by all that they depend on."""
    total = hashlib.sha256(_tool())
    for part in (program.text, grid, [p.tobytes() for p in parameters], shared,
                 asdict(emulation.schedule), emulation.counting):  # fmt: skip
        total.update(f"{part}\0".encode())
    for number, watched in tensors.items():
        total.update(f"{number} {watched.granule} {watched.size}\0".encode())
        for array in (watched.data, watched.allowed, watched.written):
            total.update(b"" if array is None else array.tobytes())
    return _folder() / f"{total.hexdigest()}.npz"


def _folder() -> Path:
    """Return where results are kept, which may be thrown away."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "lapilli" / "ptx"


@functools.cache
def _tool() -> bytes:
    tests = Path(__file__).parent.parent
    files = sorted([*tests.glob("ptx/*.py"), *tests.glob("gcn/*.py")])
    parts = [f.read_bytes() for f in files if not f.name.startswith("test_")]
    return b"\0".join([*parts, np.__version__.encode()])


def _offset(x: Tensor) -> int:
    """Bytes from the start of its allocation, which a GPU aligns."""
    return int(x.storage_offset()) * x.element_size()


def _tensors(given: list[Tensor], threads: int) -> tuple[dict[int, Watched], dict[int, int]]:
    """Return allocations by their number, and the number by where each storage is."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in given}
    found: dict[int, Watched] = {}
    numbers: dict[int, int] = {}
    for number, (place, storage) in enumerate(storages.items(), 1):
        data = np.frombuffer(_buffer(storage), np.uint8)
        allowed = np.zeros(len(data), bool)
        sizes, names = set(), []
        for k, x in enumerate(given):
            if x.untyped_storage().data_ptr() != place:
                continue
            last = sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
            begin = _offset(x)
            allowed[begin : begin + (last + 1) * x.element_size()] = True
            sizes.add(x.element_size())
            names.append(f"tensor {k}")
        granule = min(sizes)
        words = data[: len(data) // 4 * 4].view(np.uint32) != UNWRITTEN
        written: Any = np.ones(len(data), bool)
        written[: 4 * len(words)] = np.repeat(words, 4)
        count = len(data) // granule
        written = written[: count * granule].reshape(count, granule).any(1)
        found[number] = Watched(
            data, granule, ", ".join(names), threads, allowed, written, shared_by_programs=True
        )
        numbers[place] = number
    return found, numbers


def _buffer(storage: torch.UntypedStorage) -> Any:
    return (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())


def _packed(kind: str, value: Any, numbers: dict[int, int]) -> Any:
    """Return an argument as the bits of its parameter, as Triton's launcher passes it."""
    if isinstance(value, Tensor):
        assert kind == "u64", kind
        number = numbers[value.untyped_storage().data_ptr()]
        return np.uint64((number << TENSOR_BITS) + _offset(value))
    if isinstance(value, float):
        assert kind == "f32", kind
        return np.float32(value).view(np.uint32)
    assert kind in ("u32", "u64"), kind
    return np.int64(value).astype(f"u{int(kind[1:]) // 8}")
