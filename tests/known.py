"""What a test knows of a value, and a type checker does not."""

from typing import Any, TypeVar

import h5py

T = TypeVar("T")


def present(value: T | None) -> T:
    """A value that may be None in general: a gradient, events, a match."""
    assert value is not None
    return value


def wrong(value: object) -> Any:
    """A value that its place refuses, which is what the test wants to see."""
    return value


def opened(path: object, mode: str = "r") -> Any:
    """An HDF5 file: what lies at one of its paths the test knows."""
    return h5py.File(path, mode)
