"""Errors that the command line tells in one line."""

__all__ = ["UsageError"]


class UsageError(Exception):
    """Wrong input; the message is one line for the user."""
