"""Triton's interpreter without two things that it does again and again: a third of its time each.

It puts interpreted functions in the place of the language's at the call of each function of a
kernel, though the launch has done so; and it looks for overflow in whole-number arithmetic by a
dozen interpreted operations. Here the first is done once a launch, and the second by NumPy: what is
found is the same.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

_IN_64_BITS = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


@contextlib.contextmanager
def hasten() -> Iterator[None]:
    """Spare every launch in Triton's interpreter what it need not do."""
    from triton import language as tl
    from triton.runtime import interpreter

    patch_language, call = interpreter._patch_lang, interpreter.GridExecutor.__call__
    languages: dict[int, tuple[int, ...]] = {}  # that a module sees, by the names in it
    patched: set[tuple[int, ...]] = set()  # in this launch

    def launched(self: Any, *args: Any, **kwargs: Any) -> None:
        patched.clear()
        call(self, *args, **kwargs)

    def patched_once(fn: Callable[..., Any]) -> Any:
        seen = languages.get(id(fn.__globals__))
        if seen is None:
            values = fn.__globals__.values()
            seen = tuple(sorted({id(v) for v in values if v is tl or v is tl.core}))
            languages[id(fn.__globals__)] = seen
        if seen in patched:
            return None
        patched.add(seen)
        return patch_language(fn)

    def check_overflow(one: Any, other: Any, operation: Callable[..., Any]) -> None:
        kind = one.type.scalar
        if kind.int_bitwidth >= 64:
            return
        assert kind == other.type.scalar
        wide = (x.handle.data.astype(np.int64) for x in (one, other))
        found = _IN_64_BITS[operation.__name__](*wide)
        assert found.size == 0 or (
            kind.get_int_min_value() <= found.min() and found.max() <= kind.get_int_max_value()
        ), f"int{kind.int_bitwidth} overflow detected for operation {operation.__name__}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", patched_once)
        patch.setattr(interpreter.GridExecutor, "__call__", launched)
        semantic = interpreter.interpreter_semantic
        patch.setattr(semantic, "binary_op_sanitize_overflow_impl", check_overflow)
        yield
