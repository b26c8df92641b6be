"""How many CPU loops a run compiles, or finds compiled: most of the time that tests take cold.

The quick form of the suite has a limit, for a test that needs loops of its own costs a second or
two each. It can share those of others, by the same flags and the same order of its series, or
leave what no quick test needs to continuous integration: ``pytest.mark.slow``.
"""

import logging
import os
from pathlib import Path
from typing import Any

MOST = 360  # of the quick form, about 355 with AVX2; to be lowered when fewer are needed
LOOPS: set[str] = set()  # of this process and, at the end, of those that it has started for tests


class _Loops(logging.Handler):
    """Keep the names of the folders that loops are read from; see cache.py of the executors."""

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and len(record.args) == 2:
            folder = Path(str(record.args[1])).parent.name
            if not folder.startswith("lapilli-"):  # one that is new each time
                LOOPS.add(folder)


def begin() -> None:
    """Count from now on."""
    logger = logging.getLogger("lapilli.kernels.executors.cache")
    logger.addHandler(_Loops(logging.INFO))
    logger.setLevel(logging.INFO)


def is_quick_form(config: Any) -> bool:
    """Whether a run has all quick tests and no others."""
    whole = config.args_source is config.ArgsSource.TESTPATHS
    some = config.option.keyword or config.option.markexpr or config.option.benchmark
    asked = os.environ.get("LAPILLI_SLOW") == "1" or os.environ.get("LAPILLI_BACKEND", "auto")
    return whole and not some and asked == "auto"


def verdict(loops: int, most: int = MOST) -> str:
    """Return what is wrong with so many loops; nothing if they are within the limit."""
    if loops <= most:
        return ""
    return (
        f"the quick tests compile {loops} CPU loops, at most {most} are meant to be; let new tests "
        "share the loops of others, or mark them as slow (tests/loop_count.py)"
    )
