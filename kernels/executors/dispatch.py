"""The one place that decides which executor runs a tensor.

CUDA, HIP, XPU tensor    the Triton kernel
CPU tensor               the CPU loop, compiled by Numba
LAPILLI_BACKEND          ``reference`` or ``interpret`` (Triton's interpreter, CPU tensors only)

422 lines, since it is one place.
"""

import ctypes
import functools
import gc
import importlib
import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from lapilli.kernels.numbers.fixed_point import PLAIN, SATURATE
from lapilli.kernels.numbers.language import BACKEND, HAS_TRITON
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from . import again
from .cache import one_after_another
from .loops import CpuLoop, TimeLast, loop_of
from .passes import without_coalescing
from .rows import BLOCK, CHUNK
from .walk import CannotTurnError
from .workers import run_tiles

LOOP = "lapilli loop "  # before the name of a CPU loop, in a profile
TILE = 1024  # neurons of a CPU tile: its states stay in the first-level cache

_GPU_TYPES = ("cuda", "xpu")  # HIP devices call themselves cuda
_WARP = {"hip": 64}  # threads of a warp where they are not 32
# On an H100 and 16,384 neurons, six chunks in flight take a forward pass of CUBA from 38 to 22 us;
# from this many neurons on, one is as quick, and quicker where a step computes much.
FULL = 1 << 16
_STAGES = {"cuda": 6}

Function = TypeVar("Function", bound=Callable[..., Any])


def executor(device: torch.device) -> str:
    """Name of the executor that serves a device: triton, numba, interpret or reference."""
    if BACKEND != "auto":
        return BACKEND
    if device.type == "cpu":
        return "numba"
    if device.type in _GPU_TYPES and HAS_TRITON:
        return "triton"
    missing = "" if HAS_TRITON else " and Triton is not installed"
    raise RuntimeError(
        f"no kernel runs on device {str(device)!r}{missing}; supported are cpu and, with Triton, "
        f"{', '.join(_GPU_TYPES)}. Move the module and its input with .to('cpu')."
    )


def execute(
    kernel: Any,
    sizes: tuple[int, int, int],
    args: tuple[Tensor | float | int | None, ...],
    constants: tuple[Any, ...] = (),
    loop: CpuLoop | None = None,
) -> bool:
    """Run a recurrence over ``[N, T, C]`` on the executor that its tensors need.

    Returns whether there was nothing to run, for want of steps: then nothing was written.

    Parameters
    ----------
    kernel
        Triton kernel that walks over time (rows.py).
    sizes
        ``N, T, C``.
    args
        Contiguous tensors (None where absent), then scalars: the first arguments of the kernel. A
        float32 tensor ``[N, T, C]`` on the CPU may lie as ``[N, C, T]`` (order.py).
    constants
        Values of the compile-time flags, in the kernel's order.
    loop
        The CPU loop, where it is not to be made from the kernel: it takes ``first, last``, then
        ``args``, the sizes and ``constants``.
    """
    N, T, C = sizes
    first: Any = args[0]
    if first is None:
        first = next(a for a in args if isinstance(a, Tensor))
    if has_no_memory(first) or N * C == 0:
        return False
    if T == 0:
        return True
    device = first.device
    chosen = executor(device)
    if chosen == "numba":
        loop = loop or loop_of(kernel)
        tiles = N * -(-C // TILE)
        if loop.is_watched:
            run_watched(loop, tiles, sizes, args, constants)
        else:
            run_loop(loop, tiles, N * T * C, (*args, N, T, C), constants)
        return False
    if chosen == "reference":
        raise RuntimeError(
            f"{kernel.fn.__name__} has no reference in plain torch, and LAPILLI_BACKEND is "
            "'reference', which runs only what has one: the neurons of lapilli. Unset "
            "LAPILLI_BACKEND to run a neuron of your own."
        )
    span = -(-BLOCK // C) + 1  # samples that one program can touch
    if span * T * C >= 2**31:
        raise ValueError(
            f"T x neurons is {T} x {C}: a sample must have fewer than 2**31 / {span} neuron-steps. "
            "Run the sequence in chunks with persistent_state=True."
        )
    for a in args:
        assert not isinstance(a, Tensor) or a.is_contiguous(), (
            f"a kernel walks memory in order; got strides {a.stride()}"
        )
    shape = walk_constants(N * C, _gpu(device))
    grid, given = (-(-N * C // BLOCK),), (*args, T, C, N * C)
    with without_coalescing:
        launch(kernel, grid, given, (*constants, *shape), stages=shape[1])
    return False


def walk_constants(lanes: int, gpu: str) -> tuple[int, int, int]:
    """Return the last constants of a kernel that walks over time (rows.py) with so many lanes."""
    return CHUNK, _STAGES.get(gpu, 1) if lanes < FULL else 1, BLOCK


def _gpu(device: torch.device) -> str:
    return "hip" if device.type == "cuda" and torch.version.hip else device.type


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    args: tuple[Tensor | float | int | None, ...],
    constants: tuple[Any, ...],
    threads: int = BLOCK,
    stages: int = 1,
) -> None:
    """Launch a Triton kernel on the device of its tensors; ``constants`` are its last arguments."""
    device = next(a for a in args if isinstance(a, Tensor)).device
    if again.is_current(device.index):
        _launch_here(kernel, grid, args, constants, threads, stages, device)
    else:
        with torch.get_device_module(device).device(device):
            _launch_here(kernel, grid, args, constants, threads, stages, device)


def _launch_here(
    kernel: Any,
    grid: tuple[int, ...],
    args: tuple[Tensor | float | int | None, ...],
    constants: tuple[Any, ...],
    threads: int,
    stages: int,
    device: torch.device,
) -> None:
    gpu = _gpu(device)
    given = (*args, *constants)
    key = None
    if gpu == "cuda":
        key = again.key_of(kernel, device.index, args, (constants, threads, stages))
        if again.launched(kernel, grid, key, given):
            return
    compiled = kernel[grid](*given, **launch_options(gpu, threads, kernel, stages))
    again.keep(kernel, key, compiled)


def run_loop(
    loop: CpuLoop,
    tiles: int,
    work: int,
    args: tuple[Tensor | np.ndarray | float | int | None, ...],
    constants: tuple[Any, ...] = (),
) -> None:
    """Run a CPU loop on the compiled executor.

    Parameters
    ----------
    loop
        CPU loop; its arguments come after ``first, last``.
    tiles
        Number of tiles, which threads share.
    work
        Elements to be processed; little work runs in the calling thread.
    args, constants
        As for ``execute``; the loop takes some of the latter as arguments (loops.py).
    """
    read, compiled_for = loop.divided(constants)
    rows: tuple[Any, ...] = args
    args = (*args, *read)
    types: list[type] = [type(a) for a in args]
    values: list[Any] = list(args)
    for k in loop.states:
        types[k] = _Address
        state = values[k]
        if state is None:
            values[k] = _NOWHERE
        else:
            assert state.dtype is torch.float32, state.dtype
            assert state.is_contiguous(), state.stride()
            values[k] = _Address(state.data_ptr())
    for k, a in enumerate(args):
        if isinstance(a, Tensor) and not a.is_contiguous():
            types[k], values[k] = TimeLast, a.transpose(1, 2)
    try:
        compiled = loop.for_call(tuple(types), compiled_for)
    except CannotTurnError as error:
        copies = tuple([a.contiguous() if isinstance(a, Tensor) else a for a in rows])
        run_loop(loop, tiles, work, copies, constants)
        for name, a, copy in zip(loop.arguments, rows, copies, strict=False):
            if name in error.written and a is not copy:
                a.copy_(copy)
        return
    given: list[Any] = []
    for a in values:  # written out: a call for each takes longer than a small loop
        cast = _CASTS.get(type(a))
        if cast is not None:
            given.append(cast(a))
        elif isinstance(a, Tensor):
            given.append(array_of(a))
        elif isinstance(a, np.ndarray):
            given.append(a)
        elif a is not None:
            given.append(np.int32(a) if isinstance(a, np.integer) else np.float32(a))
    if not compiled.overloads:
        _compile(compiled, given)
    if torch.autograd._profiler_enabled():  # pyright: ignore[reportPrivateImportUsage]
        with torch.profiler.record_function(LOOP + loop.__name__):
            run_tiles(compiled, tiles, work, given, args)
    else:
        run_tiles(compiled, tiles, work, given, args)
    if LoopCalls.active is not None:
        taken = [a for a, v in zip(args, values, strict=True) if v is not None]
        LoopCalls.active.add(compiled, tiles, taken, given)


def _compile(loop: Any, given: list[Any]) -> None:
    """Compile a loop for its arguments, or read it from the disk, before threads share it.

    Python looks for garbage meanwhile, in all that there is, again and again: that would take a
    tenth of the time.
    """
    kinds = tuple(loop.typeof_pyval(value) for value in (0, 0, *given))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with one_after_another(loop.py_func):
            loop.compile(kinds)
    finally:
        if was_enabled:
            gc.enable()


class LoopCalls:
    """Context that records the calls of CPU loops by this thread.

    Attributes
    ----------
    calls
        Of each call the compiled loop, its tiles, its arguments as they were given, and as the loop
        takes them: of states the addresses, and with None in place of absent ones. A loop called
        again with the latter works on the same memory.
    """

    active: "LoopCalls | None" = None
    _one = threading.Lock()

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., object], int, list[Any], list[Any]]] = []
        self.thread = threading.get_ident()

    def add(
        self, loop: Callable[..., object], tiles: int, args: list[Any], given: list[Any]
    ) -> None:
        """Record a call, if this thread made it."""
        if threading.get_ident() == self.thread:
            self.calls.append((loop, tiles, args, given))

    def __enter__(self) -> "LoopCalls":
        LoopCalls._one.acquire()
        LoopCalls.active = self
        return self

    def __exit__(self, *_: object) -> None:
        LoopCalls.active = None
        LoopCalls._one.release()


def run_watched(
    loop: CpuLoop,
    tiles: int,
    sizes: tuple[int, int, int],
    args: tuple[Tensor | float | int | None, ...],
    constants: tuple[bool | int, ...],
) -> None:
    """Run a CPU loop, and again with care the tiles in which it met what does not fit.

    ``sizes`` are ``N, T, C``. Between ``args`` and them the loop gets an array of marks, and after
    ``constants`` the rule, see fixed_point.py: of those tiles a constant CARE, else SATURATE.
    """
    suspect = np.zeros(tiles + 1, np.int32)
    given: tuple[Any, ...] = (*args, suspect, *sizes)
    work = math.prod(sizes)
    # who records a loop runs it again without a look at the marks
    if LoopCalls.active is None:
        plain = given
        if loop.count is not None and given[loop.count] is not None:
            plain = (*given[: loop.count], None, *given[loop.count + 1 :])
        run_loop(loop, tiles, work, plain, (*constants, PLAIN.value))
    else:
        suspect[:] = 1
    if suspect[0]:
        own = dict(zip(loop.flags, constants, strict=False))
        care = own.get("CARE", SATURATE.value)
        run_loop(loop, tiles, work, given, (*constants, care))


def has_no_memory(x: Tensor) -> bool:
    """Whether ``x`` only stands for a tensor: while a graph is traced, or on the device meta."""
    return isinstance(x, FakeTensor) or x.is_meta


OWN = (Tensor, torch.nn.Parameter)


def runs_loops(x: Tensor) -> bool:
    """Whether compiled CPU loops can work on the memory of ``x``."""
    return type(x) in OWN and x.device.type == "cpu" and executor(x.device) == "numba"


def launch_options(
    gpu: str, threads: int = BLOCK, kernel: Any = None, stages: int = 1
) -> dict[str, Any]:
    """Compiler options of a kernel: its threads, and rounding that is written down.

    Contraction into fused multiply-adds is off so that results do not depend on the Triton version.
    A kernel with an attribute ``registers`` has no more than those, but for the form with several
    chunks in flight, ``stages``: its programs are too few to stand in each other's way. Those of
    other numbers of threads are in ``registers_of``.
    """
    warps = threads // _WARP.get(gpu, 32)
    options: dict[str, Any] = {"num_warps": warps, "enable_fp_fusion": False}
    if gpu == "cuda" and threads == BLOCK:
        # ptxas would trade loads in flight for occupancy
        options["maxnreg"] = getattr(kernel, "registers", 128) if stages == 1 else 128
    elif gpu == "cuda" and threads in getattr(kernel, "registers_of", ()):
        options["maxnreg"] = kernel.registers_of[threads]
    return options


class _Address(int):
    """Address of a state, as a loop takes it."""


_NOWHERE = _Address(0)
_CASTS = {float: np.float32, int: np.int32, bool: np.int32, _Address: int}
_NUMPY = {
    torch.float32: np.float32,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


# Arrays by place: they own nothing, so one serves every tensor that lies there, while that lives.
# Not numpy(), after which a storage cannot be resized any more, as FSDP does with parameters'.
_arrays: dict[tuple[int, torch.Size, torch.dtype], Any] = {}
_MOST_ARRAYS = 4096


def array_of(x: Tensor) -> Any:
    """Return the memory of a contiguous CPU tensor as a loop takes it; it must stay alive."""
    assert x.is_contiguous(), f"a loop walks memory in order; got {x.stride()}"
    place = x.data_ptr(), x.shape, x.dtype
    array = _arrays.get(place)
    return _array(place) if array is None else array


def _array(place: tuple[int, torch.Size, torch.dtype]) -> Any:
    address, shape, dtype = place
    kind = _NUMPY.get(dtype)
    if kind is None:
        raise TypeError(
            f"a CPU loop is given a tensor of shape {tuple(shape)} and {dtype}; expected one of "
            f"{', '.join(map(str, _NUMPY))}. Use .float() where it is an input. Parameters stay "
            f"float32: leave param_dtype of FSDP's MixedPrecisionPolicy at None."
        )
    size = math.prod(shape) * dtype.itemsize
    memory: Any = (ctypes.c_char * size).from_address(address)
    array = np.ndarray(shape, kind, memory)
    if len(_arrays) >= _MOST_ARRAYS:
        _arrays.clear()
    _arrays[place] = array
    return array


def with_reference(function: Function) -> Function:
    """Send the calls of a public kernel function to its reference when that is asked for.

    A function of ``kernels/recurrences/cuba.py`` is replaced by that of the same name in
    ``kernels/reference/cuba.py``, which takes the same arguments. One of another package than
    lapilli has none.
    """
    if BACKEND != "reference" or not function.__module__.startswith("lapilli."):
        return function

    @functools.wraps(function)
    def oracle(*args: Any, **kwargs: Any) -> Any:
        module = function.__module__.rpartition(".")[2]
        reference = importlib.import_module(f"lapilli.kernels.reference.{module}")
        return getattr(reference, function.__name__)(*args, **kwargs)

    return oracle  # type: ignore[return-value]
