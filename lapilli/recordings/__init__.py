"""Recorded events as data sets, read from files when a batch asks for them.

    sets  the data sets that have names: N-MNIST, SHD, DVS128 Gesture
    own   recordings of one's own: a folder of classes, or a table of files

Imports ``lapilli.data`` and ``lapilli.io``.
"""

from .sets import MissingDataError, Recordings, dvsgesture, load, nmnist, shd

__all__ = ["MissingDataError", "Recordings", "dvsgesture", "load", "nmnist", "shd"]
