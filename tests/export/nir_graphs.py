"""NIR graphs that tests write down node by node."""

import itertools
from typing import Any

import nir
import numpy as np

DT = 2.0**-10
BETWEEN = 1 + 2.0**-6  # a threshold that no short sum of multiples of 1/32 reaches


def graph_of(*chained, shape=(3,), out=(2,), edges=(), nodes=(), **metadata):
    names = ["in", *(f"n{i}" for i in range(len(chained))), "out"]
    ends: Any = np.array(shape), np.array(out)  # as graphs have it; nir's types say a dict
    everything = [nir.Input(ends[0]), *chained, nir.Output(ends[1])]
    chain_ = itertools.pairwise(names)
    return nir.NIRGraph(
        dict(zip(names, everything, strict=True)) | dict(nodes), [*chain_, *edges],
        metadata={"dt": DT} | metadata, type_check=False,
    )  # fmt: skip


def recurrent(*feedback, **values):
    """A LIF that feeds itself through the nodes of ``feedback``, each on a way of its own."""
    names = [f"w{i or ''}" for i in range(len(feedback))]
    edges = [e for name in names for e in (("n1", name), (name, "n1"))]
    return graph_of(
        linear(), lif(**values), nodes=dict(zip(names, feedback, strict=True)), edges=edges
    )


def conv(**options):
    given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(2)} | options
    weight = np.random.default_rng(3).integers(-6, 9, (2, 2, 3, 3)) / 8
    return nir.Conv2d(None, weight, **given)


def pool(size=2, stride=None):
    return nir.SumPool2d(*(np.array([n, n]) for n in (size, stride or size, 0)))


def lif(size: int | tuple[int, ...] = 2, **values):
    given: dict[str, Any] = {"tau": 4 * DT, "r": 4.0, "v_leak": 0.0, "v_threshold": 1.0} | values
    arrays: dict[str, Any] = {k: np.broadcast_to(v, size).astype(float) for k, v in given.items()}
    return nir.LIF(**arrays)


def linear(value=0.5):
    return nir.Linear(np.full((2, 3), value))
