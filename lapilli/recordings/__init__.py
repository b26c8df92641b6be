"""Recorded events as data sets, read from files when a batch asks for them.

    sets      the data sets that have names: N-MNIST, SHD, DVS128 Gesture
    own       recordings of one's own as a data set
    lists     of these, which there are in a folder or a table, and which are held out
    formats   of these, files of cameras, NumPy, HDF5 and lava-dl as events
    aedat     of these, AEDAT 2.0 and 3.1
    networks  networks for inputs of any size
    errors    what is wrong with the recordings of a user

Imports ``lapilli.data``, ``lapilli.io`` and ``blocks``. ``root`` is the folder of a data set,
``split`` is train or test, an ``address`` the integer in which a camera packs place and polarity.
"""

from lapilli.data import Recordings

from .errors import MissingDataError
from .sets import dvsgesture, load, nmnist, shd

__all__ = ["MissingDataError", "Recordings", "dvsgesture", "load", "nmnist", "shd"]
