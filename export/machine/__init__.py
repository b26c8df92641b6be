"""A network file run in integers, as the chip does: a second opinion that shares no kernel.

    interpreter  ``run``: the layers of a file, one after another
    maps         products with the weights
    neurons      one step of each neuron

Imports ``file``. A ``passage`` is one layer with the neurons that it drives.
"""
