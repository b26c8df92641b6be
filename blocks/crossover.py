"""Up to which density adding the weights of events is quicker than a dense map, by its shape.

A dense map takes the same time at any density, one over events a time that grows with it. Finding
events costs each input the same, adding them as much as there are terms that an input takes part
in: outputs, times the entries of a kernel. So the number of terms decides where both meet, and the
number of inputs hardly, unless they are few.

The table is that of ``python -m bench.events``, which measures it, and is held to its results by a
test. It is of one processor; on others the choice is a guess, and ``synapse=`` overrules it.
"""

import functools
import itertools
import math
from typing import Literal

Dense = Literal["codes", "float32", "convolution"]  # what events are compared with

_A_FRAME = 48  # inputs whose dense gradient takes as long as reading the output's (measured)

# terms of an input: limits forward and in training
LIMITS: dict[Dense, dict[int, tuple[float, float]]] = {
    "codes": {
        16: (0.02, 0.04),
        32: (0.05, 0.07),
        64: (0.07, 0.12),
        128: (0.12, 0.27),
        256: (0.19, 0.28),
        512: (0.23, 0.3),
        1024: (0.23, 0.3),
    },
    "float32": {
        16: (0.04, 0.05),
        32: (0.07, 0.08),
        64: (0.14, 0.12),
        128: (0.5, 0.3),
        256: (0.5, 0.36),
        512: (0.5, 0.43),
        1024: (0.5, 0.46),
    },
    "convolution": {
        144: (0.11, 0.13),
        288: (0.2, 0.2),
        576: (0.29, 0.3),
        1152: (0.41, 0.35),
        2304: (0.44, 0.41),
        4608: (0.38, 0.3),
        9216: (0.18, 0.12),
    },
}


@functools.cache
def limit(dense: Dense, terms: int, learning: bool, inputs: int | None = None) -> float:
    """Return the density up to which events are quicker, 0 to 1.

    Parameters
    ----------
    dense
        The dense map that would run instead: a product of eight-bit codes, one of float32, or a
        convolution.
    terms
        Terms that an input takes part in: outputs, times the entries of a kernel.
    learning
        Whether the gradient of the weight will be wanted, which gains more by events.
    inputs
        Inputs of a product, of which the table's have many: few do not pay for reading the
        output's gradient once more.

    Between the shapes of the table it is on a straight line over the logarithm of the terms, below
    the first 0.
    """
    table = LIMITS[dense]
    known = list(table)
    if terms < known[0]:
        return 0.0
    few = 1.0 if inputs is None or not learning else max(0.0, 1 - _A_FRAME / inputs)
    for low, high in itertools.pairwise(known):
        if terms <= high:
            part = math.log(terms / low) / math.log(high / low)
            return few * ((1 - part) * table[low][learning] + part * table[high][learning])
    return few * table[known[-1]][learning]
