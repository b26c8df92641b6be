"""Modules whose numbers stay float32."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def keeping_type(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what ``fn`` does to a tensor, without its change of type."""

    def move(tensor: Tensor) -> Tensor:
        moved = fn(tensor)
        return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

    return move


class KeepsFloat32:
    """Mixin: ``half()``, ``double()`` and ``to(dtype)`` leave parameters and buffers as they are.

    Fixed point is computed in int32 and float32; a decay of 12 bits does not fit a bfloat16, and
    inputs of other types are converted. What moves a module to another device works as ever.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(keeping_type(fn), recurse)  # type: ignore[misc]
