"""A GPU that is not there: launches are compiled and recorded, and nothing runs.

CPU tensors stand for those of the GPU. Every kernel takes the way to its launch that it takes on a
GPU, so that Python's share of a step can be measured and its launches counted without one; what a
kernel was to write stays as it was. Torch's own operators run on the CPU. Where nothing is
compiled, tensors of the device meta do as well, and those of the CPU are then what they are.

    with stand_in() as gpu:
        step()
    print([launch.name for launch in gpu.launches])
"""

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any
from unittest import mock

import torch
import triton
from lapilli.blocks import tensor_cores
from lapilli.kernels.executors import again, dispatch
from lapilli.kernels.recurrences import recurrent_triton
from torch import Tensor
from triton.runtime.driver import driver

from .aot import architecture

_STREAM = 7  # handle of the stream that is current
_numbers = itertools.count(1)  # of what is loaded


@dataclass(frozen=True)
class Recorded:
    """A launch as Triton's driver gets it."""

    name: str
    grid: tuple[int, int, int]
    stream: int
    function: Any
    metadata: Any
    args: tuple[Any, ...]


@dataclass
class StandIn:
    """What Triton takes for the driver of a GPU; ``launches`` are recorded while it is a list."""

    target: str = "sm_90"
    shared: int = 227 << 10  # bytes that a program can have
    stream: int = _STREAM
    launches: list[Recorded] | None = field(default_factory=list)
    on_launch: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        self.utils = self

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """Return what launches one compiled kernel."""
        name = metadata.name

        def run(x, y, z, stream, function, packed, described, enter, leave, *args):
            gpu = driver.active  # Triton may have compiled the kernel for another one
            assert isinstance(gpu, StandIn), "compiled for a GPU that is not there"
            if gpu.on_launch is not None:
                gpu.on_launch(name)
            for hook in (enter, leave):
                if hook is not None:
                    hook(described)
            if gpu.launches is not None:
                gpu.launches.append(Recorded(name, (x, y, z), stream, function, packed, args))

        return run

    def load_binary(self, name: str, *_: Any) -> tuple[int, ...]:
        """Return module, function, registers, spills, and since Triton 3.4 the most threads."""
        number = next(_numbers)
        return (number, number, 32, 0, 1024)[: 5 if hasattr(triton, "knobs") else 4]

    def get_device_properties(self, device: int) -> dict[str, int]:
        """Return what Triton asks of a device."""
        return {"max_shared_mem": self.shared}

    def get_current_target(self) -> Any:
        """Return the architecture."""
        return architecture(self.target)

    def get_current_device(self) -> int:
        """Return the number of the device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Return the handle of the stream that is current."""
        return self.stream

    def get_active_torch_device(self) -> torch.device:
        """Return where Triton's own tensors would lie."""
        return torch.device("cpu")


def _product(x: Tensor, w: Tensor) -> Tensor:
    """Stand for a product of bfloat16 into float32, which the CPU has not: one launch."""
    return torch.empty(x.shape[0], w.shape[1], device=x.device).fill_(0.0)


@contextlib.contextmanager
def stand_in(compiles: bool = True, **options: Any) -> Iterator[StandIn]:
    """Let CPU tensors be those of a GPU, whose launches are recorded.

    Without ``compiles`` launches end before Triton and only ``on_launch`` hears of them.
    ``options`` are those of ``StandIn``. What has been compiled before is forgotten on both sides.
    """
    gpu = StandIn(**options)

    def told(kernel: Any, *_: Any) -> None:
        if gpu.on_launch is not None:
            gpu.on_launch(kernel.__name__)

    replaced = {
        dispatch.executor: lambda device: "triton",
        dispatch.has_no_memory: lambda x: False,
    }
    with contextlib.ExitStack() as patches:
        for module in [m for n, m in sys.modules.items() if n.startswith("lapilli")]:
            for name, value in list(vars(module).items()):
                if isinstance(value, FunctionType) and value in replaced:
                    patches.enter_context(mock.patch.object(module, name, replaced[value]))
        for where, name, value in (
            (dispatch, "_gpu", lambda device: "cuda"),
            (recurrent_triton, "_shared_memory", lambda device: gpu.shared),
            (tensor_cores, "usable", lambda device: True),
            (tensor_cores, "convolutions_usable", lambda device: True),
            (tensor_cores, "_product", _product),
            (again, "_known", {}),
        ):
            patches.enter_context(mock.patch.object(where, name, value))
        if not compiles:
            patches.enter_context(mock.patch.object(dispatch, "_launch_here", told))
        patches.enter_context(mock.patch.dict(vars(driver)))
        # it has what Triton asks of a driver here, and no more
        driver.set_active(gpu)  # pyright: ignore[reportArgumentType]
        _forget()
        try:
            yield gpu
        finally:
            _forget()


def _forget() -> None:
    """Let Triton compile for the driver that is active now; its files on disk stay."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("lapilli"):
            for value in list(vars(module).values()):
                caches = getattr(value, "device_caches", None)
                if caches is not None and hasattr(value, "pre_run_hooks"):
                    caches.clear()
