"""Modules whose numbers stay float32."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def keeping_type(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what ``fn`` does to a tensor, without its change of type."""

    def move(tensor: Tensor) -> Tensor:
        moved = fn(tensor)
        return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

    return move


class CountsChanges:
    """Mixin of modules that count how often an attribute, but no state, was set in eager mode.

    What was prepared for a module, as in ``lapilli.blocks.stream``, is good while the count stays.
    """

    _changes = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if not torch.compiler.is_compiling() and name not in self.__dict__.get("_rest", ()):
            self.__dict__["_changes"] = self._changes + 1
        super().__setattr__(name, value)


class KeepsFloat32(CountsChanges):
    """Mixin: ``half()``, ``double()`` and ``to(dtype)`` leave parameters and buffers as they are.

    Fixed point is computed in int32 and float32; a decay of 12 bits does not fit a bfloat16, and
    inputs of other types are converted. What moves a module to another device works as ever.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(keeping_type(fn), recurse)  # type: ignore[misc]
