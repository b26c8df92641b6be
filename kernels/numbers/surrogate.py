"""Surrogate gradients: what the derivative of a spike is taken to be.

    binary   rho(d) = scale_rho / (2 tau) h(d / tau)             d = v - threshold
    graded   rho(d) = scale_rho h(min(d, 0) / tau)

The shape h has a height of 1 at 0 and an integral of 2, whichever it is, so that ``tau_rho`` and
``scale_rho`` mean the same for all: the surrogate of a binary spike is ``scale_rho / (2 tau)`` high
at the threshold and its integral is ``scale_rho``; that of a graded spike is ``scale_rho`` above
the threshold.

    shape           h(z)
    exponential     exp(-|z|)                      lava-dl's, the default
    fast_sigmoid    1 / (1 + |z|)**2               SuperSpike
    arctan          1 / (1 + (pi z / 2)**2)
    sigmoid         1 / cosh(z)**2                 4 s(2z) (1 - s(2z)), s the logistic function
    triangle        max(0, 1 - |z| / 2)
    boxcar          1 where |z| <= 1, else 0

``height`` is the value at d = 0, and ``rate`` whatever of the width a shape wants to be given. A
shape is a function of d, of the distance |d| and of the rate; users add theirs (formula.py).

A neuron that spikes by its phase has two, for its real part a and its imaginary part b:

    rho_a = scale_rho A B                            d = a - threshold
    rho_b = -scale_rho / tau sign(b) B (1 + sign(d) (1 - 2 tau A)) / 2
    A = h(d / tau) / (2 tau), graded: h(min(d, 0) / tau);  B = h(b / tau) / (2 tau)

``excess`` is 2 tau A at d = 0 and ``height`` is scale_rho / (4 tau**2). These are lava-dl's, in
which h is exponential.

Source: lava-dl spike/spike.py, spike/complex.py; Zenke and Ganguli, SuperSpike, Neural Computation
30 (2018), equation 5, for the fast sigmoid; Fang et al., Incorporating Learnable Membrane Time
Constant, ICCV 2021, for the arctangent; Esser et al., Convolutional networks for fast,
energy-efficient neuromorphic computing, PNAS 113 (2016), for the triangle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .language import jit, tl


@jit
def exponential(distance, reach, rate):
    """``exp(-z)``; the rate is -log2(e) / tau, so that one exp2 is enough."""
    return tl.exp2(rate * reach)


@jit
def fast_sigmoid(distance, reach, rate):
    """``1 / (1 + z)**2``; the rate is 1 / tau."""
    y = 1.0 + rate * reach
    return 1.0 / (y * y)


@jit
def arctan(distance, reach, rate):
    """``1 / (1 + (pi z / 2)**2)``; the rate is pi / (2 tau)."""
    y = rate * reach
    return 1.0 / (1.0 + y * y)


@jit
def sigmoid(distance, reach, rate):
    """``1 / cosh(z)**2 = 4 e / (1 + e)**2``, ``e = exp(-2 z)``; the rate is -2 log2(e) / tau."""
    e = tl.exp2(rate * reach)
    y = 1.0 + e
    return 4.0 * e / (y * y)


@jit
def triangle(distance, reach, rate):
    """``max(0, 1 - z / 2)``; the rate is 1 / (2 tau)."""
    return tl.maximum(1.0 - rate * reach, 0.0)


@jit
def boxcar(distance, reach, rate):
    """1 up to the width and 0 beyond; the rate is tau: a state can be as far as exactly that."""
    return tl.where(reach <= rate, 1.0, 0.0)


@jit
def surrogate(distance, height, rate, GRADED: tl.constexpr, SHAPE: tl.constexpr):
    """Evaluate the surrogate gradient at ``distance`` (real units) from the threshold."""
    if GRADED:
        reach = tl.maximum(-distance, 0.0)
        return height * SHAPE(-reach, reach, rate)
    else:
        return height * SHAPE(distance, tl.abs(distance), rate)


@jit
def complex_surrogate(
    distance, imag, height, excess, rate, GRADED: tl.constexpr, SHAPE: tl.constexpr
):
    """Evaluate the two surrogate gradients of a spike by phase: for the real and imaginary part."""
    reach = tl.maximum(-distance, 0.0) if GRADED else tl.abs(distance)
    near = excess * SHAPE(-reach if GRADED else distance, reach, rate)
    crossing = height * SHAPE(imag, tl.abs(imag), rate)
    side = tl.where(distance > 0, 1.0 - near, tl.where(distance < 0, near - 1.0, 0.0))
    pull = crossing * (1.0 + side)
    return crossing * near, tl.where(imag > 0, -pull, tl.where(imag < 0, pull, 0.0))


# The shapes by name: operators take a name, kernels are compiled for the function


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The shape of a surrogate gradient; what ``lapilli.surrogate`` makes of a function."""

    name: str
    formula: str
    shape: Any  # function of distance, reach and rate in the language of the kernels
    rate: Callable[[float], float]  # what the shape wants to know of the width
    own: Callable[[float], float] | None = None  # the function of a user, in widths

    def __repr__(self) -> str:
        return f"<surrogate {self.name}: {self.formula}>"


DEFAULT = "exponential"

SURROGATES = {
    s.name: s
    for s in (
        Surrogate("exponential", "exp(-|z|)", exponential, lambda tau: -math.log2(math.e) / tau),
        Surrogate("fast_sigmoid", "1 / (1 + |z|)**2", fast_sigmoid, lambda tau: 1 / tau),
        Surrogate("arctan", "1 / (1 + (pi z / 2)**2)", arctan, lambda tau: math.pi / 2 / tau),
        Surrogate("sigmoid", "1 / cosh(z)**2", sigmoid, lambda tau: -2 * math.log2(math.e) / tau),
        Surrogate("triangle", "max(0, 1 - |z| / 2)", triangle, lambda tau: 0.5 / tau),
        Surrogate("boxcar", "1 where |z| <= 1, else 0", boxcar, lambda tau: tau),
    )
}
BUILT_IN = tuple(SURROGATES)


def surrogate_named(name: str) -> Surrogate:
    """Return the surrogate of a name.

    Raises
    ------
    ValueError
        For a name that no surrogate has.
    """
    found = SURROGATES.get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(
            f"surrogate is {name!r}; expected one of {', '.join(map(repr, SURROGATES))}. One of "
            f"your own must be defined with lapilli.surrogate in this process first: import the "
            f"module that does so."
        )
    return found


def surrogate_constants(
    tau_rho: float, scale_rho: float, graded: bool, kind: str = DEFAULT
) -> tuple[float, float]:
    """Return ``(height, rate)`` of ``surrogate`` for a width and a scale."""
    height = scale_rho if graded else scale_rho / 2 / tau_rho
    return height, surrogate_named(kind).rate(tau_rho)


def complex_surrogate_constants(
    tau_rho: float, scale_rho: float, graded: bool, kind: str = DEFAULT
) -> tuple[float, float, float]:
    """Return ``(height, excess, rate)`` of ``complex_surrogate`` for a width and a scale."""
    height = scale_rho / 4 / tau_rho / tau_rho
    return height, 2 * tau_rho if graded else 1.0, surrogate_named(kind).rate(tau_rho)
