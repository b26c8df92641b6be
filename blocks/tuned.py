"""The limits of density that ``lapilli tune`` measured, in a file beside the compiled loops.

The file holds an entry for each processor, by its name: a home folder may be on many machines.
"""

import json
import os
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lapilli.kernels.executors.cache import cache_folder
from lapilli.kernels.executors.processor import processor

Dense = Literal["codes", "float32", "convolution"]  # what events are compared with
Limits = dict[Dense, dict[int, tuple[float, float]]]

_FILE = "limits.json"


@dataclass(frozen=True)
class Tuned:
    """What was measured on this processor, and when."""

    limits: Limits
    date: str


def path() -> Path:
    """Return the file of the limits; there need not be one."""
    return cache_folder() / _FILE


def stored() -> Tuned | None:
    """Return what is stored of this processor.

    Where the file cannot be understood, there is a warning, and nothing is returned.
    """
    try:
        entry = _read().get(processor())
        return None if entry is None else Tuned(_limits_in(entry["limits"]), str(entry["date"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        warnings.warn(
            f"{path()} is not what lapilli tune writes ({error}), so the limits that come with "
            f"lapilli are used. Delete the file, or run lapilli tune again.",
            stacklevel=2,
        )
        return None


def store(tuned: Tuned | None) -> None:
    """Write what was measured on this processor into the file; None removes its entry.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    try:
        entries = _read()
    except ValueError:
        entries = {}
    entries.pop(processor(), None)
    if tuned is not None:
        entries[processor()] = asdict(tuned)
    path().parent.mkdir(parents=True, exist_ok=True)
    # another process may be reading: it never sees half a file
    with tempfile.NamedTemporaryFile("w", dir=path().parent, suffix=".tmp", delete=False) as file:
        json.dump(entries, file, indent=1)
    os.replace(file.name, path())


def _read() -> dict[str, Any]:
    try:
        entries = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, RuntimeError):  # none, or no home folder
        return {}
    if not isinstance(entries, dict):
        raise ValueError("it holds no object")
    return entries


def _limits_in(tables: dict[str, Any]) -> Limits:
    found: Limits = {}
    for kind in get_args(Dense):
        if kind in tables:
            rows = {int(terms): (float(a), float(b)) for terms, (a, b) in tables[kind].items()}
            numbers = [number for row in rows.values() for number in row]
            if not rows or not all(0 <= number <= 1 for number in numbers):
                raise ValueError(f"limits of {kind} must be 0 to 1")
            found[kind] = dict(sorted(rows.items()))
    return found
