"""What is wrong with the recordings of a user."""

__all__ = ["MissingDataError", "RecordingError", "SmallerCameraWarning"]


class MissingDataError(FileNotFoundError):
    """A data set is not where it was looked for; the message says what was expected."""


class RecordingError(MissingDataError):
    """A file or folder of recordings cannot be used; the message says why."""


class SmallerCameraWarning(UserWarning):
    """All events fit a smaller camera than the given one, so that it may be the wrong one."""
