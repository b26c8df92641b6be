"""NIR graphs that other libraries wrote, against what those libraries compute themselves.

``nir/make.py`` made graphs, inputs and outputs. Where numbers are on Loihi's grid and the library
does what its graph says, lapilli's spikes are the library's own. Where the graph says something
else than the library does, they are those of the graph, by Euler steps in float64.
"""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lapilli import export

pytest.importorskip("nir", reason="the extra nir is not installed")

import nir
from nir_simulation import simulate

FOLDER = Path(__file__).parent / "others_graphs"

# seconds, where the library has an opinion; sinabs counts steps, norse divides by 1e-3 s twice
STEP = {"snntorch": 1e-4, "norse": 1e-6, "sinabs": 1.0, "spikingjelly": 1e-4, "rockpool": 1e-3}
STEP_OF_NETWORK = {"norse/iaf": 1.0}  # its r of 1 is for a step

# Decays are truncated toward zero, by less than a unit of 1/4096 a step. A voltage that loses 1/4 a
# step is off by less than 4 units; behind a current that loses 1/2, and is off by 2, by 12.
TRUNCATION, TRUNCATION_CUBA = 4 / 4096, 12 / 4096

SAME = [
    *("snntorch/" + name for name in (
        "leaky", "leaky_bias", "leaky_per_neuron", "synaptic", "synaptic_per_neuron", "rleaky",
        "rleaky_bias", "rleaky_own", "conv", "conv_pool",
    )),
    *("norse/" + name for name in ("lifbox", "iaf", "conv")),
    *("sinabs/" + name for name in ("iaf", "pool_linear", "pool_conv")),
    *("spikingjelly/" + name for name in ("if", "lif", "lif_undecayed", "plif", "cuba", "pool")),
]  # fmt: skip

READOUTS = ["norse/libox"]  # voltages

# what the library does and its graph does not say
OTHER_THAN_THE_GRAPH = {
    "snntorch/leaky_subtract": "subtracts the threshold",
    "snntorch/rsynaptic": "holds the voltage at 0 in the step after a spike",
    "snntorch/rsynaptic_own": "holds the voltage at 0 in the step after a spike",
    "norse/lif": "does not multiply the input by dt / tau_syn",
    "sinabs/iaf_subtract": "subtracts the threshold, and spikes several times a step",
    "sinabs/lif": "decays by exp(-1 / tau)",
    "sinabs/expleak": "decays by exp(-1 / tau), and does not multiply the input by 1 / tau",
}

ROUNDED = {
    "spikingjelly/pool_padded": "a ninth of each weight",
    "rockpool/lif": "gains of exp(-dt / tau)",
    "rockpool/lif_neuron": "gains of exp(-dt / tau)",
    "rockpool/lif_recurrent": "gains of exp(-dt / tau); the feedback is not in the graph",
    "rockpool/expsyn": "gains of exp(-dt / tau)",
}

REFUSED = {
    "snntorch/synaptic_bias": "node 1 (CubaLIF): a bias that the synaptic current filters",
    "spikingjelly/lif_reset": "node _1 (LIF): a reset to another voltage than 0",
}


def arrays():
    return {library: np.load(FOLDER / f"{library}.npz") for library in STEP}


def given(network):
    """Graph, step, input ``[T, ...]`` and the library's output."""
    library, name = network.split("/")
    with np.load(FOLDER / f"{library}.npz") as file:
        graph, x, y = (file[f"{name}/{part}"] for part in ("graph", "input", "output"))
    # without nir's check of types, which the shapes that norse and Rockpool write do not pass
    file: Any = io.BytesIO(graph.tobytes())
    graph = nir.read(file, type_check=False)
    return graph, STEP_OF_NETWORK.get(network, STEP[library]), x.astype(np.float64), y


def run(net, x):
    with torch.no_grad():
        y = net(torch.from_numpy(x).float().movedim(0, -1)[None])
    return y[0].movedim(-1, 0).numpy()


def truncation(graph):
    cuba = any(type(node).__name__.startswith("Cuba") for node in graph.nodes.values())
    return TRUNCATION_CUBA if cuba else TRUNCATION


def silently(graph, dt):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return export.from_nir(graph, dt=dt)


def test_every_graph_is_tried():
    stored = {f"{lib}/{name.split('/')[0]}" for lib, file in arrays().items() for name in file}
    assert stored == {*SAME, *READOUTS, *OTHER_THAN_THE_GRAPH, *ROUNDED, *REFUSED}


@pytest.mark.parametrize("network", SAME)
def test_spikes_are_those_of_the_library(network):
    graph, dt, x, want = given(network)
    assert 0.05 < want.mean() < 0.95
    assert simulate(graph, x, dt)[1] > truncation(graph)  # so that truncation changes no spike
    np.testing.assert_array_equal(run(silently(graph, dt), x).reshape(want.shape), want)


@pytest.mark.parametrize("network", READOUTS)
def test_voltages_are_those_of_the_library(network):
    graph, dt, x, want = given(network)
    got = run(silently(graph, dt), x)
    np.testing.assert_allclose(got, want, rtol=0, atol=truncation(graph))


@pytest.mark.parametrize("network", OTHER_THAN_THE_GRAPH)
def test_the_graph_counts_where_the_library_does_something_else(network):
    graph, dt, x, theirs = given(network)
    want, margin = simulate(graph, x, dt)
    assert margin > truncation(graph)
    got = run(silently(graph, dt), x)
    assert np.any(got != theirs)
    atol = truncation(graph) if network == "sinabs/expleak" else 0
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


@pytest.mark.parametrize("network", ROUNDED)
def test_what_is_off_the_grid_is_rounded_to_the_nearest(network):
    graph, dt, x, _ = given(network)
    with pytest.warns(export.QuantisationWarning):
        net = export.from_nir(graph, dt=dt)
    rounded = export.to_nir(net, dt=dt, input_shape=x.shape[1:])
    want, margin = simulate(rounded, x, dt)
    got = run(net, x)
    is_readout = network == "rockpool/expsyn"
    assert is_readout or margin > truncation(rounded)
    np.testing.assert_allclose(got, want, rtol=0, atol=is_readout * truncation(rounded))
    weights: Any = [block.synapse for block in net if hasattr(block, "synapse")]
    error = max((w.weight - w.effective_weight()).abs().max().item() for w in weights)
    assert 0 < error <= 1 / 64  # half a step of 1/32


@pytest.mark.parametrize("network", REFUSED)
def test_refusals_name_the_node(network):
    graph, dt, _, _ = given(network)
    with pytest.raises(NotImplementedError, match=re.escape(REFUSED[network])):
        export.from_nir(graph, dt=dt)


def test_the_gain_that_norse_leaves_out_can_be_added():
    graph, dt, x, want = given("norse/lif")
    node: Any = graph.nodes["1"]
    node.w_in = node.tau_syn / dt
    np.testing.assert_array_equal(run(silently(graph, dt), x), want)


@pytest.mark.parametrize("library", STEP)
def test_no_other_library_writes_the_step(library):
    name = next(iter(arrays()[library])).split("/")[0]
    with pytest.raises(ValueError, match=r"give dt in seconds \(docs/network-files.md"):
        export.from_nir(given(f"{library}/{name}")[0])
