"""Measure speed and keep it: counters, clocks, baselines, reports.

``gate`` holds a call of your own to what it did before; the rest serves lapilli's own benchmarks
and may change.

    yardsticks  ``gate``, the fixture of pytest; limits how far a call may differ
    counters    what a call does: operators, loops, bytes; the same on every machine
    judge       whether counters grew or ratios fell
    results     files of results; show draws them
    neurons     neurons with usual arguments

A ``case`` is one call in one shape, a ``baseline`` what it did before; a ``ratio`` is a speed
beside that of another call in the same run, so that it depends little on the machine.
"""

from .yardsticks import gate

__all__ = ["gate"]
