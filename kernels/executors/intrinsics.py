"""Functions of generated loops whose code is built for LLVM, instruction by instruction."""

from collections.abc import Callable
from typing import Any

from numba import extending

__all__ = ["intrinsic"]


def intrinsic(*function: Callable[..., Any], **options: bool) -> Any:
    """Decorate a function as Numba's ``intrinsic`` does.

    Numba gives the first argument, the context of types, itself; loops call with the others. A type
    checker would ask for all of them, so that the type of what is returned is any.
    """
    return extending.intrinsic(*function, **options)
