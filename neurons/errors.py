"""The exceptions of wrong arguments, and the checks that several modules share."""

import math
import operator
from numbers import Real
from typing import Any

import numpy as np


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
    if isinstance(value, Real):
        return value
    if hasattr(value, "item") and math.prod(getattr(value, "shape", ())) == 1:
        return number(name, value.item())
    raise ArgumentTypeError(f"{name} must be a number; got {value!r} ({type(value).__name__})")


def finite(name: str, value: Any) -> Any:
    """Return an argument that is a finite number; raise ``ArgumentError`` for others."""
    value = number(name, value)
    require(math.isfinite(value), f"{name} must be finite; got {value}")
    return value


def width(name: str, value: Any) -> Any:
    """Return an argument that is a finite number above 0; raise ``ArgumentError`` for others."""
    value = finite(name, value)
    require(value > 0, f"{name} must be above 0; got {value}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return an argument that is true or false; raise ``ArgumentTypeError`` for others.

    Besides bool, numbers and None are tested for truth, as lava-dl tests them.
    """
    if isinstance(value, (bool, np.bool_)) or value is None:
        return bool(value)
    try:
        return bool(number(name, value))
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"{name} must be True or False; got {value!r} ({type(value).__name__})"
        ) from None


def function(name: str, value: Any, example: str) -> Any:
    """Return an argument that can be called, or None; raise ``ArgumentTypeError`` for others."""
    if value is None or callable(value):
        return value
    raise ArgumentTypeError(
        f"{name} must be {example}, or None; got {value!r} ({type(value).__name__})"
    )


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Check an integer argument; NumPy's integers count."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}")
    return number
