"""Which tests are run: quick ones always, the others as the environment asks.

Some files try many forms of one thing, slowly. They carry the mark ``turns``: of their slow tests,
continuous integration runs a quarter at each commit, which the commit chooses (.ci/run). Whoever
changes what they test runs them all: without LAPILLI_TURN nothing is left out of LAPILLI_SLOW=1.
"""

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest

TURNS = 4


def soon(quick: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Return the values of a parameter, those that are not ``quick`` marked as slow."""
    return [v if v in quick else pytest.param(v, marks=pytest.mark.slow) for v in values]


def divided(
    items: Iterable[Any], environment: Mapping[str, str]
) -> tuple[list[Any], list[Any], Counter[str]]:
    """Divide tests as pytest collects them: those that run, the others, and why how many do not."""
    run, left = [], []
    reasons: Counter[str] = Counter()
    for item in items:
        reason = left_out(item.nodeid, {mark.name for mark in item.iter_markers()}, environment)
        (left if reason else run).append(item)
        if reason:
            reasons[reason] += 1
    return run, left, reasons


def left_out(nodeid: str, marks: Collection[str], environment: Mapping[str, str]) -> str:
    """Return why a test is not run; nothing if it is run."""
    if "slow" not in marks:
        return ""
    if environment.get("LAPILLI_SLOW") != "1":
        return "slow: set LAPILLI_SLOW=1 to run it"
    turn = environment.get("LAPILLI_TURN", "")
    # a process that was asked for another backend runs all that it was asked for
    if not turn or "turns" not in marks or environment.get("LAPILLI_BACKEND", "auto") != "auto":
        return ""
    own = zlib.crc32(nodeid.encode()) % TURNS
    return "" if own == int(turn) % TURNS else f"its turn is LAPILLI_TURN={own}"
