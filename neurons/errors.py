"""The exceptions of wrong arguments, and the checks that several modules share."""

import math
from numbers import Real
from typing import Any


class ArgumentError(AssertionError, ValueError):
    """A wrong argument: an AssertionError, as lava-dl raises, and a ValueError, as one expects."""


class InputTypeError(ArgumentError, TypeError):
    """An input that is no dense tensor: an ArgumentError and a TypeError."""


def require(condition: bool, message: str) -> None:
    """Raise ``ArgumentError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ArgumentError(message)


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a wrong type: an ArgumentError and a TypeError."""


def number(name: str, value: Any) -> Any:
    """Return an argument that is a real number.

    Raises
    ------
    ArgumentTypeError
        For anything else; a tensor or an array of one number is one.
    """
    if isinstance(value, Real) or (getattr(value, "shape", None) == () and hasattr(value, "item")):
        return value
    raise ArgumentTypeError(f"{name} must be a number; got {value!r} ({type(value).__name__})")


def finite(name: str, value: Any) -> Any:
    """Return an argument that is a finite number; raise ``ArgumentError`` for others."""
    require(math.isfinite(number(name, value)), f"{name} must be finite; got {value}")
    return value


def width(name: str, value: Any) -> Any:
    """Return an argument that is a finite number above 0; raise ``ArgumentError`` for others."""
    require(finite(name, value) > 0, f"{name} must be above 0; got {value}")
    return value
