"""Launch a kernel again without asking Triton what it was compiled for.

``kernel[grid](...)`` binds its arguments by name, works out what each is specialised for, and makes
a text of all that to find the compiled kernel: 10 to 15 us. Here one look into a dictionary finds
it, by a key at least as fine as Triton's: the kernel, the device, the constants, and of each
argument whether it is absent, its type, whether its address is a multiple of 16, and whether an
integer is 1 or a multiple of 16.

The first launch of every key is Triton's, and so is each that this file does not know: another
kind of argument, another version of Triton, hooks of a profiler, the interpreter, GPUs other than
NVIDIA's. Triton's settings (``TRITON_DEBUG`` and so on) count as they were at the first launch.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import Parameter

_MOST = 1 << 12  # compiled kernels that are kept; then all are forgotten
_INT32 = 1 << 31

_known: dict[tuple[Any, ...], tuple[Any, ...]] = {}


def _hooks_of_triton() -> Callable[[], tuple[Any, Any]] | None:
    """Return what gives the hooks around launches; None for a Triton that this file is not for."""
    try:
        import triton
    except ImportError:
        return None
    if not (3, 3) <= tuple(map(int, triton.__version__.split(".")[:2])) <= (3, 7):
        return None
    try:
        from triton import knobs
    except ImportError:  # before 3.4 they were the compiled kernel's
        kernel: Any = triton.compiler.CompiledKernel
        return lambda: (kernel.launch_enter_hook, kernel.launch_exit_hook)
    runtime = knobs.runtime
    return lambda: (runtime.launch_enter_hook, runtime.launch_exit_hook)


_hooks = _hooks_of_triton()
if _hooks is not None:
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction


def _is_watched() -> bool:
    """Whether somebody wants to know of launches: a chain of hooks, or since 3.5 an empty one."""
    enter, leave = _hooks()  # type: ignore[misc]
    return bool(getattr(enter, "calls", enter) or getattr(leave, "calls", leave))


def key_of(
    kernel: Any, device: int | None, args: tuple[Any, ...], options: tuple[Any, ...]
) -> tuple[Any, ...] | None:
    """Return what tells compiled kernels apart; None for arguments that this file does not know.

    ``options`` are the constants and whatever else a kernel is compiled for.
    """
    key = [id(kernel), device, options]
    for a in args:  # one entry for each, of which no two kinds are equal
        kind = type(a)
        if kind is Tensor or kind is Parameter:
            key.append((a.dtype,) if a.data_ptr() & 15 else a.dtype)
        elif a is None:
            key.append(None)
        elif kind is int:
            if not -_INT32 <= a < _INT32:
                return None
            key.append(1 if a == 1 else 0 if a & 15 else 16)
        elif kind is float or kind is bool:
            key.append(kind)
        else:
            return None
    return tuple(key)


def launched(
    kernel: Any, grid: tuple[int, ...], key: tuple[Any, ...] | None, args: tuple[Any, ...]
) -> bool:
    """Launch the compiled kernel that ``key`` stands for, if there is one, on the current device.

    ``args`` are the arguments and the constants.
    """
    found = _known.get(key)  # type: ignore[arg-type]
    if found is None or _is_watched() or kernel.pre_run_hooks:
        return False
    run, function, metadata, _ = found
    active: Any = driver.active
    stream = active.get_current_stream(active.get_current_device())
    x, y, z = (*grid, 1, 1)[:3]
    run(x, y, z, stream, function, metadata, None, None, None, *args)
    return True


def keep(kernel: Any, key: tuple[Any, ...] | None, compiled: Any) -> None:
    """Keep what Triton's own launch of ``kernel`` has returned."""
    if key is None or _hooks is None or type(kernel) is not JITFunction:
        return
    if any(not hasattr(compiled, name) for name in ("run", "function", "packed_metadata")):
        return
    if len(_known) >= _MOST:
        _known.clear()
    # with the kernel and the constants, whose identities are in the key
    _known[key] = compiled.run, compiled.function, compiled.packed_metadata, (kernel, key)


def is_current(device: int | None) -> bool:
    """Whether launches go to a device anyway; without an index there is one only."""
    if device is None:
        return True
    active: Any = driver.active  # there is none without a GPU
    return device == active.get_current_device()
