"""How a command ends: exit statuses, and errors in one line."""

import contextlib
import sys
from collections.abc import Iterator

from lapilli import processes
from lapilli.errors import UsageError

DONE, DIFFERS, WRONG_INPUT, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 130, 141


@contextlib.contextmanager
def wrong_input(*errors: type[Exception]) -> Iterator[None]:
    """Report errors of reading and writing files, and ``errors``, in one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, *errors) as error:
        raise UsageError(" ".join(str(error).split())) from None


def say(message: str) -> None:
    """Tell the user, once where several processes train."""
    if processes.is_first():
        print(f"lapilli: {message}", file=sys.stderr)
