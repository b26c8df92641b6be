"""Whether every cell learns: ``python -m bench.learning`` trains a small network around each.

A cell is a block of a neuron family. data.py has the recorded data, networks.py the networks
and the settings of the neurons, training.py the loop, page.py the tables of docs/learning.md.
"""
