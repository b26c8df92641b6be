"""``lapilli tune``: measure the limits of density on this processor, and store them."""

from collections.abc import Callable
from datetime import datetime, timezone

from lapilli.blocks import crossover, tuned
from lapilli.blocks.tuned import path

from lapilli.benchmark import limits

__all__ = ["path", "reset", "tune"]


def tune(progress: Callable[[int, int], None]) -> list[str]:
    """Measure and store the limits; return the lines of a table of them.

    ``progress`` is called with the number of sizes that are done and that of all.

    Raises
    ------
    OSError
        If the folder of the file cannot be written to.
    """
    tuned.store(tuned.stored())  # a folder that cannot be written to is found before the work
    sizes = limits.OUTPUTS
    found = limits.measured(limits.QUICK, sizes, lambda n: progress(sizes.index(n) + 1, len(sizes)))
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    tuned.store(tuned.Tuned(found, date))
    crossover.forget()
    return [
        "Events are added up to these densities, forward / in training:",
        "",
        *(
            f"{kind:<12}{terms:>6} terms  {forward:4.0%} / {training:4.0%}"
            for kind, rows in found.items()
            for terms, (forward, training) in rows.items()
        ),
    ]


def reset() -> None:
    """Remove what was stored of this processor.

    Raises
    ------
    OSError
        If the folder of the file cannot be written to.
    """
    tuned.store(None)
    crossover.forget()
