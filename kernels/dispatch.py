"""The one place that decides which executor runs a tensor, and how operators are registered.

CUDA, HIP, XPU tensor    the Triton kernel
CPU tensor               the CPU loop, compiled by Numba
LAPILLI_BACKEND          ``reference`` or ``interpret`` (Triton's interpreter, CPU tensors only)
"""

import contextlib
import ctypes
import functools
import importlib
import inspect
import math
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from .fixed_point import PLAIN, SATURATE
from .language import BACKEND, HAS_TRITON
from .lift import CpuLoop
from .passes import without_coalescing
from .rows import BLOCK, CHUNK
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

_library = torch.library.Library("lapilli", "DEF")
OPERATORS: dict[str, "Operator"] = {}  # all that are registered, by name
if hasattr(torch.compiler.config, "cache_key_tag"):
    # graphs that torch keeps on disk call the operators of one version, and hold its derivatives
    torch.compiler.config.cache_key_tag += f"lapilli {sys.modules['lapilli'].__version__}"
# compilers pass arguments with the strides that they had: rows are read in order, without a copy
_STRIDES = getattr(torch.Tag, "needs_exact_strides", torch.Tag.needs_fixed_stride_order)


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
    loop: CpuLoop,
    sizes: tuple[int, int, int],
    args: tuple[Tensor | float | int | None, ...],
    constants: tuple[Any, ...] = (),
) -> None:
    """Run a recurrence over ``[N, T, C]`` on the executor that its tensors need.

    Parameters
    ----------
    kernel, loop
        Triton kernel and CPU loop with the same arguments. The kernel's come after nothing and
        before ``N * C, U, BLOCK``; the loop's come after ``first, last``.
    sizes
        ``N, T, C``; passed to both, after ``args``.
    args
        Contiguous tensors (None where absent), then scalars.
    constants
        Values of the compile-time flags, last.
    """
    N, T, C = sizes
    first = args[0]
    if first is None:
        first = next(a for a in args if isinstance(a, Tensor))
    if has_no_memory(first) or N * C == 0 or T == 0:
        return
    device = first.device
    if executor(device) == "numba":
        tiles = N * -(-C // TILE)
        if loop.is_watched:
            run_watched(loop, tiles, sizes, args, constants)
        else:
            run_loop(loop, tiles, N * T * C, (*args, N, T, C), constants)
        return
    span = -(-BLOCK // C) + 1  # samples that one program can touch
    if span * T * C >= 2**31:
        raise ValueError(
            f"T x neurons is {T} x {C}: a sample must have fewer than 2**31 / {span} neuron-steps. "
            "Run the sequence in chunks with persistent_state=True."
        )
    strided = [a.stride() for a in args if isinstance(a, Tensor) and not a.is_contiguous()]
    assert not strided, f"a kernel walks memory in order; got strides {strided}"
    shape = walk_constants(N * C, _gpu(device))
    grid, given = (-(-N * C // BLOCK),), (*args, T, C, N * C)
    with without_coalescing:
        launch(kernel, grid, given, (*constants, *shape), stages=shape[1])


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
    with _on(device):
        options = launch_options(_gpu(device), threads, kernel, stages)
        kernel[grid](*args, *constants, **options)


def run_loop(
    loop: CpuLoop,
    tiles: int,
    work: int,
    args: tuple[Tensor | float | int | None, ...],
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
        As for ``execute``; the loop takes some of the latter as arguments (lift.py).
    """
    read, constants = loop.divided(constants)
    args = (*args, *read)
    absent = [a is None for a in args]
    values: list[Any] = list(args)
    for k in loop.states:
        absent[k] = False
        state = values[k]
        if state is None:
            values[k] = _NOWHERE
        else:
            assert state.dtype is torch.float32, state.dtype
            assert state.is_contiguous(), state.stride()
            values[k] = _Address(state.data_ptr())
    compiled = loop.specialise(tuple(absent), constants)
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
    if torch.autograd._profiler_enabled():
        with torch.profiler.record_function(LOOP + loop.__name__):
            run_tiles(compiled, tiles, work, given, args)
    else:
        run_tiles(compiled, tiles, work, given, args)
    if LoopCalls.active is not None:
        taken = [a for a, v in zip(args, values, strict=True) if v is not None]
        LoopCalls.active.add(compiled, tiles, taken, given)


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
        self.calls: list[tuple[Callable[..., None], int, list[Any], list[Any]]] = []
        self.thread = threading.get_ident()

    def add(self, loop: Callable[..., None], tiles: int, args: list[Any], given: list[Any]) -> None:
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
    given = (*args, suspect, *sizes)
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


def runs_loops(x: Tensor) -> bool:
    """Whether compiled CPU loops can work on the memory of ``x``."""
    return type(x) in _OWN and x.device.type == "cpu" and executor(x.device) == "numba"


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


def _on(device: torch.device) -> Any:
    """Context in which launches go to ``device``; the interpreter's is the CPU."""
    if device.type == "cpu":
        return contextlib.nullcontext()
    return torch.get_device_module(device).device(device)


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
    kind = _NUMPY[dtype]
    size = math.prod(shape) * dtype.itemsize
    array = np.ndarray(shape, kind, (ctypes.c_char * size).from_address(address))
    if len(_arrays) >= _MOST_ARRAYS:
        _arrays.clear()
    _arrays[place] = array
    return array


class Operator:
    """A registered operator, called past torch's dispatcher where nobody but the kernel listens.

    The dispatcher takes longer than a single step of a small layer. It is needed to trace, to
    transform, to profile, and for tensors that are not torch's own.
    """

    def __init__(
        self, launch: Callable[..., Any], op: Any, bare: Any, samples: str, any_layout: str
    ):
        self.launch = launch
        self.op = op
        self.bare = bare  # the same below autograd: what stands in a compiled graph
        self.recorded: Any = None  # torch.autograd.Function, where there is a derivative
        self.__name__ = launch.__name__
        self.__doc__ = launch.__doc__
        parameters = list(inspect.signature(launch).parameters.values())
        self._floats = [k for k, p in enumerate(parameters) if p.annotation is float]
        self._samples = [p.name in samples.split() for p in parameters]
        self.in_order = [  # positions of the tensors that come contiguous
            k
            for k, p in enumerate(parameters)
            if p.annotation in (Tensor, Tensor | None) and p.name not in any_layout.split()
        ]
        self._save: Callable[..., None] = lambda ctx, inputs, output: None
        self._backward: Callable[..., Any] = self._has_no_derivative
        self.transformed = self._function(
            "transformed_",
            forward=lambda *args: self.op(*args),
            setup_context=lambda ctx, inputs, output: self._save(ctx, inputs, output),
            backward=lambda ctx, *gradients: self._backward(ctx, *gradients),
            jvp=self._has_no_tangent,
            vmap=self.over_batch,
        )
        self.traced = self._function(
            "traced_",
            forward=self._forward_of(self._below_autograd),
            backward=lambda ctx, *gradients: self._backward(ctx, *gradients),
        )

    def __call__(self, *args: Any) -> Any:
        """Call the operator, or its launch function."""
        recording = is_recorded(args)
        if is_observed(args) or (recording and not self.recorded):
            return self._observed(args)
        values = list(args)
        for k in self._floats:  # as the dispatcher does: kernels are compiled by type
            values[k] = float(values[k])
        return self.recorded.apply(*values) if recording else self.launch(*values)

    def _function(self, kind: str = "", **methods: Callable[..., Any]) -> Any:
        static = {name: staticmethod(method) for name, method in methods.items()}
        return type(kind + self.__name__, (torch.autograd.Function,), static)

    def _forward_of(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return the forward of an autograd function; a setup_context would bind by name."""

        def forward(ctx: Any, *inputs: Any) -> Any:
            output = run(*inputs)
            self._save(ctx, inputs, output)
            return output

        return forward

    def with_autograd(self, *args: Any) -> Any:
        """Run the operator for torch's dispatcher."""
        return self.traced.apply(*args) if is_recorded(args) else self._below_autograd(*args)

    def _below_autograd(self, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return self.bare(*args)

    def _observed(self, args: Sequence[Any]) -> Any:
        if torch.compiler.is_compiling() or not (is_transformed() or _has_tangents()):
            return self.op(*args)
        return self.transformed.apply(*args)  # torch's registration knows neither

    def implementation(self, *args: Any) -> Any:
        """Return the outputs of the launch function; an empty tensor in place of None."""
        for k in self.in_order:
            a = args[k]
            if a is not None and not a.is_contiguous():
                args = (*args[:k], a.contiguous(), *args[k + 1 :])
        outputs = self.launch(*args)
        if isinstance(outputs, Tensor):
            return outputs
        like = args[0]
        if like is None:
            like = next(a for a in args if isinstance(a, Tensor))
        return tuple([like.new_empty(0) if o is None else o for o in outputs])

    def without_memory(self, *args: Any) -> Any:
        """Return outputs without memory, while a graph is traced, which may become a compiled one.

        There, operators that follow each other are joined.
        """
        from . import sequence  # which imports this module

        sequence.install()
        return self.implementation(*args)

    def _has_no_derivative(self, ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(
            f"lapilli::{self.__name__} cannot be differentiated. The gradient of a neuron is that "
            "of a surrogate, which has no derivative of its own: there are no second derivatives "
            "through neurons. Take them of synapses, delays and averages alone, or leave "
            "create_graph=True out."
        )

    def _has_no_tangent(self, ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(
            f"lapilli::{self.__name__} has no derivative in forward mode (jvp, jacfwd, "
            "torch.autograd.forward_ad). Use reverse mode: torch.func.vjp, grad or jacrev."
        )

    def over_batch(self, info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        """Run under ``torch.vmap``: once where only samples are batched, else once an entry."""
        size = info.batch_size
        dims = [d if isinstance(a, Tensor) else None for a, d in zip(args, in_dims, strict=True)]
        each = list(zip(args, dims, self._samples, strict=True))
        if all(dim is None or of_samples for _, dim, of_samples in each):
            outputs = self._observed([_joined(a, dim, size) if s else a for a, dim, s in each])
            stacked = [
                o if _is_absent(o) else o.unflatten(0, (size, o.shape[0] // size))
                for o in _as_tuple(outputs)
            ]
        else:
            calls = [
                self._observed([a if dim is None else a.select(dim, k) for a, dim, _ in each])
                for k in range(size)
            ]
            outputs = calls[0]
            several = zip(*map(_as_tuple, calls), strict=True)
            stacked = [o[0] if _is_absent(o[0]) else torch.stack(o) for o in several]
        out_dims = tuple(None if _is_absent(o) else 0 for o in stacked)
        return (
            (tuple(stacked), out_dims) if isinstance(outputs, tuple) else (stacked[0], out_dims[0])
        )


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _is_absent(output: Tensor) -> bool:
    """Whether an output of an operator stands for None."""
    return output.shape == (0,)


def _joined(x: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """Join the batch of ``torch.vmap`` with the samples; each gets what has no batch."""
    if x is None:
        return None
    whole = x.unsqueeze(0).expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    return whole.flatten(0, 1)


_OWN = (Tensor, torch.nn.Parameter)


def is_observed(args: tuple[Any, ...]) -> bool:
    """Whether anything but the kernel and autograd has to know of a call with these arguments."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
        or is_transformed()
        or _has_tangents()
        or torch.autograd._profiler_enabled()
    ):
        return True
    for a in args:  # noqa: SIM110 (any() takes longer, and this comes before every launch)
        if isinstance(a, Tensor) and type(a) not in _OWN:
            return True
    return False


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _has_tangents() -> bool:
    """Whether derivatives are taken in forward mode."""
    return forward_ad._current_level >= 0


def is_recorded(args: tuple[Any, ...]) -> bool:
    """Whether autograd records a call with these arguments."""
    if torch.is_grad_enabled():
        for a in args:
            if isinstance(a, Tensor) and a.requires_grad:
                return True
    return False


def is_learned(*tensors: Tensor | None) -> bool:
    """Whether a gradient of one of the tensors may be asked for.

    Under the transforms of ``torch.func`` a tensor does not tell.
    """
    if not torch.compiler.is_compiling() and is_transformed():
        return torch.is_grad_enabled()
    return is_recorded(tensors)


def define_op(
    launch: Callable[..., Any] | None = None, *, samples: str = "", any_layout: str = ""
) -> Any:
    """Register ``lapilli::<name>`` for every device, with the schema of its annotations.

    ``launch`` makes its outputs and calls ``execute``, which does nothing while a graph is traced,
    so it gives the shapes as well. An output that is not wanted is None; torch's operators cannot
    return that, so from them it is an empty tensor.

    Parameters
    ----------
    launch
        Function of tensors (or None) and numbers.
    samples
        Names of the arguments whose first dimension is the samples', which do not affect each
        other. All outputs then have as many, and ``torch.vmap`` over these arguments is one call.
    any_layout
        Names of the tensors that ``launch`` takes with any strides; others come contiguous.
    """
    if launch is None:
        return functools.partial(define_op, samples=samples, any_layout=any_layout)
    name = launch.__name__.lstrip("_")
    schema = torch.library.infer_schema(launch, mutates_args=())
    for overload in (name, f"{name}.bare"):
        _library.define(overload + schema, tags=(torch.Tag.pt2_compliant_tag, _STRIDES))
    packet = getattr(torch.ops.lapilli, name)
    operator = Operator(launch, packet.default, packet.bare, samples, any_layout)
    for overload in (name, f"{name}.bare"):
        _library.impl(overload, operator.implementation, "CompositeExplicitAutograd")
        torch.library.register_fake(f"lapilli::{overload}", operator.without_memory, lib=_library)
    _library.impl(name, operator.with_autograd, "Autograd")
    _library.impl(f"{name}.bare", torch.library.fallthrough_kernel, "Autograd")
    OPERATORS[name] = operator
    return operator


def differentiable(
    operator: Operator, backward: Callable[..., Any], save: Callable[..., None]
) -> None:
    """Give a registered operator its derivative.

    ``save(ctx, inputs, output)`` keeps what ``backward(ctx, *gradients)`` needs.
    """
    operator._save, operator._backward = save, backward
    operator.recorded = operator._function(
        forward=operator._forward_of(operator.implementation), backward=backward
    )


def define_sequence(run: Callable[..., Any]) -> None:
    """Register ``lapilli::sequence``, which stands for several operators in a compiled graph."""
    schema = "(Tensor[] tensors, SymInt[] sizes, str text) -> Tensor[]"
    _library.define(f"sequence{schema}", tags=(torch.Tag.pt2_compliant_tag, _STRIDES))
    _library.impl("sequence", run, "CompositeExplicitAutograd")
    _library.impl("sequence", torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake("lapilli::sequence", run, lib=_library)


def with_reference(function: Function) -> Function:
    """Send the calls of a public kernel function to its reference when that is asked for.

    ``lapilli.kernels.cuba.f`` is replaced by ``lapilli.kernels.reference.cuba.f``, which takes the
    same arguments.
    """
    if BACKEND != "reference":
        return function

    @functools.wraps(function)
    def oracle(*args: Any, **kwargs: Any) -> Any:
        package, _, module = function.__module__.rpartition(".")
        reference = importlib.import_module(f"{package}.reference.{module}")
        return getattr(reference, function.__name__)(*args, **kwargs)

    return oracle  # type: ignore[return-value]
