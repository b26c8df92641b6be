"""The exceptions of wrong arguments."""


class ArgumentError(AssertionError, ValueError):
    """A wrong argument: an AssertionError, as lava-dl raises, and a ValueError, as one expects."""


class InputTypeError(ArgumentError, TypeError):
    """An input that is no dense tensor: an ArgumentError and a TypeError."""


def require(condition: bool, message: str) -> None:
    """Raise ``ArgumentError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ArgumentError(message)
