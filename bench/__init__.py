"""The benchmark suite: ``pytest --benchmark`` or ``make bench``.

cases.py     what is measured
measure.py   how: clocks, counters, the bandwidth of a copy
gate.py      when a change made something worse
report.py    results as JSON and as a table
"""
