"""The benchmark suite: ``pytest --benchmark`` or ``make bench``.

cases.py     what is measured
measure.py   how: rounds beside those of a copy
report.py    results as JSON and as a table
peers.py     other libraries at the same work, each as libraries.py adapts it

Counters, files and the gate are in lapilli/benchmark, where users have them too.
"""
