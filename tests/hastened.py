"""Triton's interpreter without two things that it does again and again: a third of its time each.

It puts interpreted functions in the place of the language's at the call of each function of a
kernel, though the launch has done so. And for all arithmetic of whole numbers it computes whether
they overflow, only to throw the answer away, since that is asked for in debug mode alone.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest


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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", patched_once)
        patch.setattr(interpreter.GridExecutor, "__call__", launched)
        options = interpreter.interpreter_builder.options
        assert not options.debug
        patch.setattr(
            interpreter.interpreter_builder, "options", replace(options, sanitize_overflow=False)
        )
        yield
