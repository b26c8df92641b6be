"""Errors that the command line tells in one line."""

import contextlib
import errno
import os
from collections.abc import Generator

__all__ = ["UsageError", "in_plain_words", "wrong_input"]


class UsageError(Exception):
    """Wrong input; the message is one line for the user."""


_REASONS = {
    errno.ENOENT: "there is no file {name}; check the name, and the folder: this is {here}",
    errno.EISDIR: "{name} is a folder; give the name of a file",
    errno.ENOTDIR: "there is no file {name}: a part of this path is itself a file and no folder",
    errno.EACCES: "this user may not read or write {name}; change its permissions or choose "
    "another place",
    errno.EROFS: "{name} is on a disk that is read-only; choose another place",
    errno.ENOSPC: "the disk has no room for {name}; free some, or choose another place",
    errno.ENAMETOOLONG: "the name {name} is too long for a file; give a shorter one",
}
_WITHOUT_WORDS: dict[type[Exception], str] = {
    EOFError: "it ends before all of it is read",
    MemoryError: "memory is full",
}
_REASONS[errno.EPERM] = _REASONS[errno.EACCES]


def in_plain_words(error: Exception) -> str:
    """Say in one line what is wrong; of a file that cannot be used, also what to do."""
    if not isinstance(error, OSError) or error.errno is None:
        told = " ".join(str(error).split())
        return told or _WITHOUT_WORDS.get(type(error), f"{type(error).__name__}, without a reason")
    name = "the file" if error.filename is None else repr(os.fsdecode(error.filename))
    if error.errno not in _REASONS:
        return f"{name} cannot be used: {error.strerror}"
    return _REASONS[error.errno].format(name=name, here=repr(os.getcwd()))


@contextlib.contextmanager
def wrong_input(*errors: type[Exception]) -> Generator[None, None, None]:
    """Turn errors of files, and ``errors``, into a UsageError."""
    try:
        yield
    except BrokenPipeError:  # of who reads the output
        raise
    except (OSError, *errors) as error:
        raise UsageError(in_plain_words(error)) from None
