"""A pytest plugin that writes each test's result when it is there, and leaves out what has run.

A run that is cut, by a limit of time or because the process died, loses no result: what has begun
and not ended is seen too. ``LAPILLI_RESULTS`` names the file, of one JSON object a line.
"""

import json
import os
from pathlib import Path

import pytest

RESULTS = "LAPILLI_RESULTS"


def read(path: Path) -> dict[str, dict]:
    """Return the last line about each test: its outcome, or ``begun``."""
    found: dict[str, dict] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            found[entry["test"]] = entry
    return found


def _write(**entry: object) -> None:
    with Path(os.environ[RESULTS]).open("a") as file:  # closed, so that it is there if all ends now
        file.write(json.dumps(entry) + "\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    done = read(Path(os.environ[RESULTS]))
    left = [item for item in items if item.nodeid not in done]
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = left


def pytest_runtest_logstart(nodeid: str) -> None:
    _write(test=nodeid, outcome="begun", seconds=0.0, text="")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        text = "" if report.passed else report.longreprtext
        _write(test=report.nodeid, outcome=report.outcome, seconds=report.duration, text=text)
