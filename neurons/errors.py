"""The exception of wrong arguments."""


class ArgumentError(AssertionError, ValueError):
    """A wrong argument: an AssertionError, as lava-dl raises, and a ValueError, as one expects."""


def require(condition: bool, message: str) -> None:
    """Raise ``ArgumentError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ArgumentError(message)
