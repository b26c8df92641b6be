"""Up to which density adding the weights of events is quicker than a dense map, by its shape.

A dense map takes the same time at any density, one over events a time that grows with it. Finding
events costs each input the same, adding them as much as there are terms that an input takes part
in: outputs, times the entries of a kernel. So the number of terms decides where both meet, and the
number of inputs hardly, unless they are few.

Where they meet is another density on another processor. The tables here are of one processor with
AVX-512, measured by ``python -m bench.events``, and of one with AVX2, measured alike; a test holds
them to the stored results. ``lapilli tune`` measures the processor at hand and stores what it finds
(tuned.py), which is used from then on; ``synapse=`` overrules all of them.
"""

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator

import torch

from .tuned import Dense, Limits, path, stored

_A_FRAME = 48  # inputs whose dense gradient takes as long as reading the output's (measured)

# vector instructions; terms of an input: limits forward and in training. Products of codes are used
# where there are instructions for them (VNNI), which the processor with AVX2 had not
MEASURED: dict[str, Limits] = {
    "AVX512": {
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
    },
    "AVX2": {
        "float32": {
            8: (0.5, 0.15),
            16: (0.5, 0.17),
            32: (0.5, 0.28),
            64: (0.5, 0.48),
            128: (0.5, 0.5),
            256: (0.5, 0.5),
            512: (0.5, 0.5),
            1024: (0.5, 0.5),
        },
        "convolution": {
            144: (0.15, 0.19),
            288: (0.25, 0.24),
            576: (0.4, 0.45),
            1152: (0.5, 0.47),
            2304: (0.5, 0.44),
            4608: (0.5, 0.48),
            9216: (0.5, 0.39),
        },
    },
}


_alike = False


@contextlib.contextmanager
def alike_everywhere() -> Iterator[None]:
    """Use the same limits on every processor, for what must not depend on it, as counters."""
    global _alike
    before, _alike = _alike, True
    forget()
    try:
        yield
    finally:
        _alike = before
        forget()


def vectors() -> str:
    """Return which of the tables is for a processor with these vector instructions."""
    return "AVX512" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "AVX2"


@functools.cache
def limits() -> Limits:
    """Return the limits in use: those that ``lapilli tune`` stored, or a table from here."""
    if _alike:
        return MEASURED["AVX512"]
    tuned = stored()
    return MEASURED["AVX512"] | (MEASURED[vectors()] if tuned is None else tuned.limits)


def source() -> str:
    """Say which limits are in use."""
    tuned = stored()
    if tuned is None:
        kind = {"AVX512": "AVX-512", "AVX2": "AVX2"}[vectors()]
        return f"of events as measured on a processor with {kind}; lapilli tune measures this one"
    return f"of events as measured on this processor at {tuned.date} ({path()})"


def forget() -> None:
    """Look for stored limits again, as they have changed."""
    limits.cache_clear()
    limit.cache_clear()


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
    table = limits()[dense]
    known = list(table)
    if terms < known[0]:
        return 0.0
    few = 1.0 if inputs is None or not learning else max(0.0, 1 - _A_FRAME / inputs)
    for low, high in itertools.pairwise(known):
        if terms <= high:
            part = math.log(terms / low) / math.log(high / low)
            return few * ((1 - part) * table[low][learning] + part * table[high][learning])
    return few * table[known[-1]][learning]
