"""Measure speed and keep it: counters, clocks, baselines, reports.

``gate`` holds a call of your own to what it did before; the rest serves lapilli's own benchmarks
and may change.
"""

from .yardsticks import gate

__all__ = ["gate"]
