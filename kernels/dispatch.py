"""The one place that decides which executor runs a tensor, and how operators are registered.

CUDA, HIP, XPU tensor    the Triton kernel
CPU tensor               the CPU loop, compiled by Numba
LAPILLI_BACKEND          ``reference`` or ``interpret`` (Triton's interpreter, CPU tensors only)
"""

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .language import BACKEND, HAS_TRITON
from .lift import CpuLoop
from .rows import BLOCK, CHUNK
from .workers import run_tiles

TILE = 1024  # neurons of a CPU tile: its states stay in the first-level cache

_GPU_TYPES = ("cuda", "xpu")  # HIP devices call themselves cuda
_WARP = {"hip": 64}  # threads of a warp where they are not 32

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
        compiled = loop.specialise(tuple(a is None for a in args), constants)
        present = tuple(_to_numba(a) for a in args if a is not None)
        run_tiles(compiled, N * -(-C // TILE), N * T * C, (*present, N, T, C))
        return
    span = -(-BLOCK // C) + 1  # samples that one program can touch
    if span * T * C >= 2**31:
        raise ValueError(
            f"T x neurons is {T} x {C}: a sample must have fewer than 2**31 / {span} neuron-steps. "
            "Run the sequence in chunks with persistent_state=True."
        )
    gpu = "hip" if device.type == "cuda" and torch.version.hip else device.type
    grid = (-(-N * C // BLOCK),)
    with _on(device):
        kernel[grid](*args, T, C, N * C, *constants, CHUNK, BLOCK, **launch_options(gpu))


def launch_options(gpu: str) -> dict[str, Any]:
    """Compiler options of every kernel: one lane a thread, and rounding that is written down.

    Contraction into fused multiply-adds is off so that results do not depend on the Triton version.
    """
    options: dict[str, Any] = {"num_warps": BLOCK // _WARP.get(gpu, 32), "enable_fp_fusion": False}
    if gpu == "cuda":
        options["maxnreg"] = 128  # ptxas would trade loads in flight for occupancy
    return options


def _on(device: torch.device) -> Any:
    """Context in which launches go to ``device``; the interpreter's is the CPU."""
    if device.type == "cpu":
        return contextlib.nullcontext()
    return torch.get_device_module(device).device(device)


def _to_numba(value: Tensor | float | int) -> Any:
    if isinstance(value, Tensor):
        return (value.detach() if value.requires_grad else value).numpy()
    if isinstance(value, float):
        return np.float32(value)
    return np.int32(value)


def define_op(launch: Callable[..., Any]) -> Any:
    """Register ``lapilli::<name>`` for every device, with the schema of its annotations.

    ``launch`` makes its outputs and calls ``execute``, which does nothing while a graph is traced,
    so it gives the shapes as well. An output that is not wanted is an empty tensor.
    """
    name = launch.__name__.lstrip("_")
    _library.define(name + torch.library.infer_schema(launch, mutates_args=()))
    _library.impl(name, launch, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lapilli::{name}", launch, lib=_library)
    return getattr(torch.ops.lapilli, name).default


def or_nothing(like: Tensor, *outputs: Tensor | None) -> tuple[Tensor, ...]:
    """Replace the outputs that are None by empty tensors: operators cannot return None."""
    return tuple(like.new_empty(0) if o is None else o for o in outputs)


def differentiable(op: Any, backward: Callable[..., Any], save: Callable[..., None]) -> None:
    """Give a registered operator its derivative."""
    torch.library.register_autograd(op.name(), backward, setup_context=save, lib=_library)


def with_reference(function: Callable[..., Any]) -> Callable[..., Any]:
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

    return oracle
