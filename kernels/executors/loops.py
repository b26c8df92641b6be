"""Loops over tiles of neurons that Numba compiles: written by hand, or made from a kernel."""

import functools
import inspect
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from lapilli.kernels.numbers.language import WHOLE_NUMBERS, tl

from .cache import load
from .graph import with_shift
from .lift import HEADER, origin, text_of, without_numba
from .symbols import is_state
from .trace import trace
from .walk import READ, ROOM, SHIFT, loop_text

_WALK_HEADER = (
    HEADER
    + """\
from lapilli.kernels.executors.llvm_code import code_of

TILE = 1024
"""
)
_TURNING = f"ROOM = {ROOM}\n"

_lock = threading.Lock()


class TimeLast:
    """Type, as a loop is asked for, of a tensor ``[N, T, C]`` that lies as ``[N, C, T]``."""


def _new_lock() -> None:
    """Forget a lock that another thread may have held when the process forked."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


class CpuLoop:
    """A loop over ``[first, last)`` tiles, compiled at its first call.

    Arguments annotated ``tl.constexpr``, which come last, are compile-time constants (flags and
    step functions), and so is the absence of an argument that is None: one module for each
    combination. Those among them that are annotated ``bool`` or ``int`` are constants of the Triton
    kernel only: the loop reads them outside of its innermost loops, so they cost nothing at run
    time, and a module less for each of their values.
    """

    def __init__(self, fn: Callable[..., object]):
        self.fn = fn
        self.__name__ = fn.__name__
        self.__doc__ = fn.__doc__
        parameters = inspect.signature(fn).parameters.values()
        self.arguments = [p.name for p in parameters if p.annotation is not tl.constexpr][2:]
        self.constants = [p.name for p in parameters if p.annotation is tl.constexpr]
        self.flags = [p.name for p in parameters if p.annotation is not inspect.Parameter.empty]
        self._is_read = [p.annotation in (bool, int) for p in parameters if p.name in self.flags]
        self.is_watched = False  # see fixed_point.py
        self.count: int | None = None  # position of what only the careful rules write to
        self._compiled: dict[tuple[object, ...], Callable[..., object]] = {}
        self._called: dict[tuple[object, ...], Callable[..., object]] = {}
        self._divided: dict[tuple[Any, ...], tuple[tuple[bool | int, ...], tuple[Any, ...]]] = {}

    def divided(self, flags: tuple[Any, ...]) -> tuple[tuple[bool | int, ...], tuple[object, ...]]:
        """Divide the values of ``flags`` into last arguments and compile-time constants."""
        found = self._divided.get(flags)
        if found is None:
            pairs = [*zip(self._is_read, flags, strict=True)]
            found = tuple(f for r, f in pairs if r), tuple(f for r, f in pairs if not r)
            self._divided[flags] = found
        return found

    @functools.cached_property
    def states(self) -> list[int]:
        """Positions of the states among the arguments after ``first, last``."""
        return [k for k, n in enumerate(self.arguments) if is_state(n)]

    def for_call(
        self, types: tuple[type, ...], constants: tuple[object, ...]
    ) -> Callable[..., object]:
        """Return the compiled loop for arguments after ``last`` of these types of Python's."""
        key = (types, constants)
        compiled = self._called.get(key)
        if compiled is None:
            absent = tuple(kind is type(None) for kind in types)
            last = tuple(n for n, kind in zip(self.arguments, types, strict=False)
                         if kind is TimeLast)  # fmt: skip
            compiled = self.specialise(absent, constants, self.whole(types), last)
            self._called[key] = compiled
        return compiled

    def whole(self, types: tuple[type, ...]) -> tuple[str, ...]:
        """Name the arguments whose text depends on it that they are whole numbers."""
        return ()

    def specialise(
        self, absent: tuple[bool, ...], constants: tuple[object, ...], whole: tuple[str, ...] = (),
        time_last: tuple[str, ...] = (),
    ) -> Callable[..., object]:  # fmt: skip
        """Return the compiled loop; ``absent`` says of each argument after ``last`` if it is None.

        It takes the arguments that are present, and of ``states``, which are present always, the
        addresses. ``whole`` is as ``whole`` names it, ``time_last`` are the tensors that lie so.
        """
        key = (absent, constants, whole, time_last)
        compiled = self._compiled.get(key)
        if compiled is None:
            with _lock:
                compiled = self._compiled.get(key)
                if compiled is None:
                    missing = [n for n, a in zip(self.arguments, absent, strict=False) if a]
                    values = dict(zip(self.constants, constants, strict=True))
                    text = self.text(missing, values, whole, time_last)
                    compiled = self._compiled[key] = load(text, self.__name__)
        return compiled

    def text(
        self, absent: list[str], constants: dict[str, object], whole: tuple[str, ...] = (),
        time_last: tuple[str, ...] = (),
    ) -> str:  # fmt: skip
        """Return the module that defines the loop."""
        assert not time_last, f"a loop written by hand walks rows; got {time_last} time last"
        return text_of(self.fn, {**constants, **dict.fromkeys(absent)}, False)


class WalkLoop(CpuLoop):
    """The loop of a Triton kernel that walks over time, written from the kernel (trace.py).

    Its arguments are those of the kernel without ``_ptr``, then marks of tiles if it is watched
    (fixed_point.py), and sizes ``N, T, C``; its constants are the kernel's, and the rule for
    numbers that do not fit.
    """

    def __init__(self, kernel: Any):
        super().__init__(kernel.fn)
        self.kernel = kernel
        self.__name__ = kernel.fn.__name__.removesuffix("_kernel") + "_cpu"
        self.is_watched = "with_care" in kernel.fn.__code__.co_names
        names = [p for p in inspect.signature(kernel.fn).parameters if p not in self.constants]
        assert names[-3:] == ["T", "C", "M"], names
        self.tensors = [n.removesuffix("_ptr") for n in names[:-3]]
        marks = ["suspect"] if self.is_watched else []
        self.arguments = [*self.tensors, *marks, "N", "T", "C"]
        self.flags = [c for c in self.constants if c not in ("U", "STAGES", "BLOCK")]
        if self.is_watched:
            self.flags.append("RULE")
        self._is_read = [flag in READ for flag in self.flags]
        self.constants = [flag for flag in self.flags if flag not in READ]
        self.count = self.arguments.index("count") if "count" in self.arguments else None

    def whole(self, types: tuple[type, ...]) -> tuple[str, ...]:
        """Name the numbers that are whole: those that are given as such."""
        pairs = zip(self.tensors, types, strict=False)
        return tuple(name for name, kind in pairs if issubclass(kind, (int, np.integer)))

    def text(
        self, absent: list[str], constants: dict[str, Any],
        whole: tuple[str, ...] = WHOLE_NUMBERS, time_last: tuple[str, ...] = (),
    ) -> str:  # fmt: skip
        """Return the module that defines the loop; ``whole`` are numbers that are not floats."""
        flags = dict(constants)
        rule = flags.pop("RULE", 0)
        found = trace(self.kernel, absent, flags | {SHIFT: False}, rule, whole)
        if SHIFT in self.flags:
            shifted = trace(self.kernel, absent, flags | {SHIFT: True}, rule, whole)
            found = with_shift(found, shifted)
        present = [n for n in self.tensors if n not in absent]
        read = [flag for flag in self.flags if flag in READ]
        definition = loop_text(found, self.__name__, present, self.is_watched, read, time_last)
        header = _WALK_HEADER + (_TURNING if time_last else "")
        return origin(self.fn) + header + without_numba(definition)


def cpu_loop(fn: Callable[..., object]) -> CpuLoop:
    """Mark a function as the CPU loop of a kernel."""
    return CpuLoop(fn)


_loops: dict[int, WalkLoop] = {}  # by identity: Triton takes microseconds to hash a kernel


def loop_of(kernel: Any) -> WalkLoop:
    """Return the CPU loop of a Triton kernel that walks over time."""
    loop = _loops.get(id(kernel))
    if loop is None:
        loop = _loops.setdefault(id(kernel), WalkLoop(kernel))
    return loop


def lift(step: Any) -> Callable[..., Any]:
    """Return a step function compiled for scalars, for tests and for use from other loops."""
    return load(text_of(step.fn, {}, root_is_step=True), step.fn.__name__)
