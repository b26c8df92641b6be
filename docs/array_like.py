"""Give the type ``ArrayLike`` its name: it is a union of ten, spelled out wherever it stands."""

import numpy.typing

numpy.typing.ArrayLike = type("ArrayLike", (), {"__module__": "numpy.typing"})
