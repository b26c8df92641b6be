"""The one place that decides which executor runs a tensor, and how operators are registered.

CUDA, HIP, XPU tensor    the Triton kernel
CPU tensor               the CPU loop, compiled by Numba
LAPILLI_BACKEND          ``reference`` or ``interpret`` (Triton's interpreter, CPU tensors only)
"""

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .language import BACKEND, HAS_TRITON
from .lift import CpuLoop
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
    constants: tuple[bool, ...] = (),
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
    first = next(a for a in args if isinstance(a, Tensor))
    if isinstance(first, FakeTensor) or N * C == 0 or T == 0:
        return
    device = first.device
    if executor(device) == "numba":
        run_loop(loop, N * -(-C // TILE), N * T * C, (*args, N, T, C), constants)
        return
    span = -(-BLOCK // C) + 1  # samples that one program can touch
    if span * T * C >= 2**31:
        raise ValueError(
            f"T x neurons is {T} x {C}: a sample must have fewer than 2**31 / {span} neuron-steps. "
            "Run the sequence in chunks with persistent_state=True."
        )
    shape = walk_constants(N * C, _gpu(device))
    launch(kernel, (-(-N * C // BLOCK),), (*args, T, C, N * C), (*constants, *shape))


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
) -> None:
    """Launch a Triton kernel on the device of its tensors; ``constants`` are its last arguments."""
    device = next(a for a in args if isinstance(a, Tensor)).device
    with _on(device):
        kernel[grid](*args, *constants, **launch_options(_gpu(device), threads))


def run_loop(
    loop: CpuLoop,
    tiles: int,
    work: int,
    args: tuple[Tensor | float | int | None, ...],
    constants: tuple[bool, ...] = (),
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
        As for ``execute``.
    """
    compiled = loop.specialise(tuple([a is None for a in args]), constants)
    given = [_to_numba(a) for a in args if a is not None]
    if torch.autograd._profiler_enabled():
        with torch.profiler.record_function(LOOP + loop.__name__):
            run_tiles(compiled, tiles, work, given)
    else:
        run_tiles(compiled, tiles, work, given)


def runs_loops(x: Tensor) -> bool:
    """Whether compiled CPU loops can work on ``x``, outside of the operators that call ``execute``.

    While a graph is traced there is no memory to work on.
    """
    if not isinstance(x, Tensor) or isinstance(x, FakeTensor) or torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and executor(x.device) == "numba"


def launch_options(gpu: str, threads: int = BLOCK) -> dict[str, Any]:
    """Compiler options of every kernel: its threads, and rounding that is written down.

    Contraction into fused multiply-adds is off so that results do not depend on the Triton version.
    """
    warps = threads // _WARP.get(gpu, 32)
    options: dict[str, Any] = {"num_warps": warps, "enable_fp_fusion": False}
    if gpu == "cuda" and threads == BLOCK:
        options["maxnreg"] = 128  # ptxas would trade loads in flight for occupancy
    return options


def _on(device: torch.device) -> Any:
    """Context in which launches go to ``device``; the interpreter's is the CPU."""
    if device.type == "cpu":
        return contextlib.nullcontext()
    return torch.get_device_module(device).device(device)


_CASTS = {float: np.float32, int: np.int32, bool: np.int32}


def _to_numba(value: Tensor | float | int) -> Any:
    cast = _CASTS.get(type(value))
    if cast is not None:
        return cast(value)
    if isinstance(value, Tensor):
        return (value.detach() if value.requires_grad else value).numpy()
    return np.int32(value) if isinstance(value, np.integer) else np.float32(value)


class Operator:
    """A registered operator, called past torch's dispatcher where nobody but the kernel listens.

    The dispatcher takes longer than a single step of a small layer. It is needed to trace, to
    profile, and for tensors that are not torch's own.
    """

    def __init__(self, launch: Callable[..., Any], op: Any):
        self.launch = launch
        self.op = op
        self.recorded: Any = None  # torch.autograd.Function, where there is a derivative
        self.__name__ = launch.__name__
        self.__doc__ = launch.__doc__
        parameters = inspect.signature(launch).parameters.values()
        self._floats = [k for k, p in enumerate(parameters) if p.annotation is float]

    def __call__(self, *args: Any) -> Any:
        """Call the operator, or its launch function."""
        recording = _is_recorded(args)
        if torch.compiler.is_compiling() or _is_observed(args) or (recording and not self.recorded):
            return self.op(*args)
        values = list(args)
        for k in self._floats:  # as the dispatcher does: kernels are compiled by type
            values[k] = float(values[k])
        return self.recorded.apply(*values) if recording else self.launch(*values)

    def implementation(self, *args: Any) -> Any:
        """Return the outputs of the launch function; an empty tensor in place of None."""
        outputs = self.launch(*args)
        if isinstance(outputs, Tensor):
            return outputs
        like = next(a for a in args if isinstance(a, Tensor))
        return tuple([like.new_empty(0) if o is None else o for o in outputs])


_OWN = (Tensor, torch.nn.Parameter)


def _is_observed(args: tuple[Any, ...]) -> bool:
    """Whether anything but the kernel and autograd has to know of a call."""
    if (
        torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd._profiler_enabled()
    ):
        return True
    for a in args:  # noqa: SIM110 (any() takes longer, and this comes before every launch)
        if isinstance(a, Tensor) and type(a) not in _OWN:
            return True
    return False


def _is_recorded(args: tuple[Any, ...]) -> bool:
    """Whether autograd records a call."""
    if torch.is_grad_enabled():
        for a in args:
            if isinstance(a, Tensor) and a.requires_grad:
                return True
    return False


def define_op(launch: Callable[..., Any]) -> Operator:
    """Register ``lapilli::<name>`` for every device, with the schema of its annotations.

    ``launch`` makes its outputs and calls ``execute``, which does nothing while a graph is traced,
    so it gives the shapes as well. An output that is not wanted is None; torch's operators cannot
    return that, so from them it is an empty tensor.
    """
    name = launch.__name__.lstrip("_")
    _library.define(name + torch.library.infer_schema(launch, mutates_args=()))
    operator = Operator(launch, getattr(torch.ops.lapilli, name).default)
    _library.impl(name, operator.implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lapilli::{name}", operator.implementation, lib=_library)
    return operator


def differentiable(
    operator: Operator, backward: Callable[..., Any], save: Callable[..., None]
) -> None:
    """Give a registered operator its derivative.

    ``save(ctx, inputs, output)`` keeps what ``backward(ctx, *gradients)`` needs.
    """
    torch.library.register_autograd(operator.op.name(), backward, setup_context=save, lib=_library)

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = operator.implementation(*inputs)
        save(ctx, inputs, output)
        return output

    # the same without the dispatcher; a setup_context of its own would bind arguments by name
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    operator.recorded = type(operator.__name__, (torch.autograd.Function,), methods)


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
