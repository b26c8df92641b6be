"""What editors and type checkers read in place of language.py.

A kernel is not typed as Python is: what a function of kernels takes and returns depends on how it
is compiled. So a decorated function takes anything, and the names of Triton have any type.
"""

from collections.abc import Callable
from typing import Any

BACKENDS: tuple[str, ...]
BACKEND: str
WHOLE_NUMBERS: tuple[str, ...]
HAS_TRITON: bool

def jit(fn: Callable[..., Any]) -> Any: ...
def is_jit(obj: object) -> bool: ...

class _Names(type):
    def __getattr__(self, name: str) -> Any: ...

class tl(metaclass=_Names):
    class constexpr(Any):
        value: Any
        def __init__(self, value: object) -> None: ...
