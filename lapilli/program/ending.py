"""How a command ends: exit statuses, and what it tells the user."""

import sys

from lapilli import processes

DONE, DIFFERS, WRONG_INPUT, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 130, 141


def say(message: str) -> None:
    """Tell the user, once where several processes train."""
    if processes.is_first():
        print(f"lapilli: {message}", file=sys.stderr)
