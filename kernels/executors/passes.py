"""Leave out passes of Triton's compiler that have nothing to do in a kernel.

Two passes choose how many neighbours in memory a thread accesses at once. For each access they
gather all operations that it depends on and that depend on it, and for each of those again: their
time grows with the cube of a kernel's length, and was most of a compilation (docs/gpu.md).
In the kernels that walk over time a thread has one neuron (rows.py), so that there is one choice:
the machine code without these passes is the same, byte by byte, which tests/kernels/test_aot.py
checks.
"""

import threading
from collections.abc import Callable
from typing import Any

_COALESCING = ("add_coalesce", "add_coalesce_async_copy")
_lock = threading.Lock()


class _WithoutCoalescing(threading.local):
    """Context in which this thread's compilations go without the passes, and no other's."""

    depth = 0

    def __enter__(self) -> None:
        if not _installed:
            _install()
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


without_coalescing = _WithoutCoalescing()
_installed = False


def _install() -> None:
    """Let Triton ask whether it shall add the passes; a Triton that has no such passes is left."""
    global _installed
    with _lock:
        if not _installed:
            try:
                from triton._C.libtriton.passes import ttgpuir
            except ImportError:
                ttgpuir = None
            for name in _COALESCING:
                if hasattr(ttgpuir, name):
                    setattr(ttgpuir, name, _unless_left_out(getattr(ttgpuir, name)))
            _installed = True


def _unless_left_out(add: Callable[..., None]) -> Callable[..., None]:
    def added(*args: Any) -> None:
        if not without_coalescing.depth:
            add(*args)

    return added
