"""Every byte that a kernel touches lies in a tensor of its launch, or the test fails.

Triton's interpreter reads and writes memory wherever an address leads, as a GPU does. While
``guard`` is entered, each tensor of a launch is moved into a larger allocation of its own, which is
filled with a pattern: not-a-number for floats, a large number for integers. An address that leads
out of all tensors of the launch stops the kernel. After the launch the pattern has to be there
still. What is read before it was written shows elsewhere: tests/conftest.py fills new memory.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

MARGIN = 4096  # bytes in front of a tensor and behind it
_PATTERN = np.frombuffer(np.uint32(0x7FC0ABCD).tobytes(), np.uint8)  # a float32 that is no number


class OutOfBounds(AssertionError):
    """A kernel read or wrote outside of the tensors that it was given."""


class Guarded:
    """The tensors of one launch, each in the middle of an allocation of its own."""

    def __init__(self, kernel: str):
        self.kernel = kernel
        self.moved: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}
        self.bounds = np.empty((0, 2), np.uint64)

    def move(self, value: Any) -> Any:
        """Return what a launch gets in place of an argument."""
        if isinstance(value, tuple):
            return tuple(map(self.move, value))
        if not isinstance(value, torch.Tensor):
            return value
        steps = [step for n, step in zip(value.shape, value.stride(), strict=True) if n > 1]
        assert all(steps), f"{self.kernel} is given strides {value.stride()}"
        key = value.data_ptr(), value.shape, value.stride(), value.dtype
        if key not in self.moved:
            whole = torch.from_numpy(np.resize(_PATTERN, _span(value) + 2 * MARGIN))
            inner = _within(whole, value)
            inner.copy_(value)
            self.moved[key] = value, whole, inner
        return self.moved[key][2]

    def settle(self) -> None:
        """Take note of where the tensors lie."""
        spans = [
            (inner.data_ptr(), inner.data_ptr() + _span(inner))
            for _, _, inner in self.moved.values()
        ]
        self.bounds = np.array(sorted(spans), np.uint64).reshape(-1, 2)

    def check(self, what: str, addresses: np.ndarray, live: np.ndarray, size: int) -> None:
        """Raise where a live address leads out of all tensors."""
        found = np.broadcast_to(addresses, np.broadcast(addresses, live).shape)[
            np.broadcast_to(live, np.broadcast(addresses, live).shape)
        ].astype(np.uint64)
        first, last = self.bounds[:, 0], self.bounds[:, 1]
        place = np.searchsorted(first, found, side="right") - 1
        inside = (place >= 0) & (found + np.uint64(size) <= last[place])
        if inside.all():
            return
        wrong = int(found[~inside][0])
        near = min(self.bounds.flatten().tolist(), key=lambda edge: abs(edge - wrong))
        raise OutOfBounds(
            f"{self.kernel} {what} {int((~inside).sum())} of {found.size} entries outside of its "
            f"tensors; the first is {wrong - near} bytes from the nearest edge"
        )

    def give_back(self) -> None:
        """Copy the tensors back; raise where something was written around one of them."""
        for value, whole, inner in self.moved.values():
            pattern = torch.from_numpy(np.resize(_PATTERN, whole.numel()))
            around = whole.clone()  # but for the tensor itself, between its rows too
            _within(around, value).copy_(_within(pattern, value))
            if not torch.equal(around, pattern):
                raise OutOfBounds(f"{self.kernel} wrote around a tensor {tuple(value.shape)}")
            value.data.copy_(inner)  # an input that autograd keeps does not count as changed


def _span(x: torch.Tensor) -> int:
    """Return the bytes from a tensor's first entry to its last."""
    if x.numel() == 0:
        return 0
    last = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    return (last + 1) * x.element_size()


def _within(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the tensor of the shape, strides and type of another inside of an allocation."""
    entries = whole[MARGIN : MARGIN + _span(like)].view(like.dtype)
    return (
        entries.as_strided(like.shape, like.stride()) if like.numel() else entries.view(like.shape)
    )


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Watch every launch in Triton's interpreter."""
    from triton.runtime import interpreter
    from triton.runtime.errors import InterpreterError

    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    call, load, store = executor.__call__, builder.create_masked_load, builder.create_masked_store
    change, swap = builder.create_atomic_rmw, builder.create_atomic_cas
    launches: list[Guarded] = []

    def launched(self: Any, *args: Any, **kwargs: Any) -> None:
        watched = Guarded(self.fn.__name__)
        args = tuple(map(watched.move, args))
        kwargs = {name: watched.move(value) for name, value in kwargs.items()}
        watched.settle()
        launches.append(watched)
        try:
            call(self, *args, **kwargs)
        except InterpreterError as error:  # one around another, for each function of the kernel
            cause: BaseException | None = error
            while isinstance(cause, InterpreterError):
                cause = cause.__cause__
            raise (cause if isinstance(cause, OutOfBounds) else error) from None
        finally:
            launches.pop()
        watched.give_back()

    def check(what: str, pointers: Any, live: np.ndarray) -> None:
        width = interpreter._get_np_dtype(pointers.get_element_ty()).itemsize
        launches[-1].check(what, pointers.data, live, width)

    def loaded(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        check("reads", pointers, mask.data)
        return load(self, pointers, mask, *rest)

    def stored(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        check("writes", pointers, mask.data)
        return store(self, pointers, value, mask, *rest)

    def changed(self: Any, operation: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        check("changes", pointers, mask.data)
        return change(self, operation, pointers, value, mask, *rest)

    def swapped(self: Any, pointers: Any, *rest: Any) -> Any:
        check("swaps", pointers, np.ones_like(pointers.data, dtype=bool))
        return swap(self, pointers, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "__call__", launched)
        patch.setattr(builder, "create_masked_load", loaded)
        patch.setattr(builder, "create_masked_store", stored)
        patch.setattr(builder, "create_atomic_rmw", changed)
        patch.setattr(builder, "create_atomic_cas", swapped)
        yield
