"""NIR graphs and networks that are refused by name, and why."""

from typing import Any

import numpy as np
import pytest
import torch
from export_networks import (
    ADAPTING,
    CUBA,
    ROTATING,
    SCALE,
    SENDING,
    settle,
    spikes,
)
from lapilli.blocks import alif, cuba, rf, sigma_delta
from torch import nn

from lapilli import export

pytest.importorskip("nir", reason="the extra nir is not installed")

import nir
from nir_graphs import DT, conv, graph_of, lif, linear, pool, recurrent

SYNAPSE = nir.Affine(np.full((2, 3), 0.5), np.ones(2))
FILTERED = nir.CubaLIF(
    tau_syn=np.full(2, 4 * DT), tau_mem=np.full(2, 4 * DT), r=np.full(2, 4.0),
    w_in=np.full(2, 4.0), v_leak=np.zeros(2), v_threshold=np.ones(2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: graph_of(nir.Threshold(np.ones(3))), r"node n0 \(Threshold\): lapilli reads"),
        (lambda: graph_of(lif(3)), "a neuron without a synapse"),
        (lambda: graph_of(conv(), shape=(2, 6, 6)), "a synapse without a neuron"),
        (lambda: graph_of(SYNAPSE), "a synapse with a bias and without a neuron"),
        (lambda: graph_of(linear(), nir.Linear(np.ones((2, 2))), lif()), "without a neuron"),
        (lambda: graph_of(linear(), lif(v_reset=0.5)), "reset to another voltage"),
        (lambda: graph_of(SYNAPSE, FILTERED), "a bias that the synaptic current filters"),
        (lambda: graph_of(linear(), nir.LIF(
            tau=np.full(2, 4 * DT), r=np.full(2, 4.0), v_leak=np.zeros(2),
            v_threshold=np.array([1.0, 2.0]))), "thresholds that differ"),
        (lambda: graph_of(linear(), lif(), nir.Delay(np.full(2, 1.5 * DT))), "no whole number"),
        (lambda: graph_of(linear(), lif(), nir.Delay(np.full(2, DT)), nir.Delay(np.full(2, DT))),
         "a second delay"),
        (lambda: graph_of(linear(), nir.Scale(np.ones(2)), lif()), "behind a pool only"),
        (lambda: graph_of(conv(), lif((2, 4, 4)), nir.Flatten({"input": np.array([2, 4, 4])}, 1),
                          shape=(2, 6, 6)), r"flattens dimensions 1 to 2 of \(2, 4, 4\) only"),
        (lambda: graph_of(conv(), nir.Flatten({"input": np.array([2, 4, 4])}, 0), lif(32),
                          shape=(2, 6, 6)), "behind the neuron"),
        (lambda: graph_of(pool(), nir.Flatten({"input": np.array([2, 3, 3])}, 0), lif(18),
                          shape=(2, 6, 6)), "behind the neuron"),
        (lambda: graph_of(pool(3, 2), conv(padding=1), lif((2, 2, 2)), shape=(2, 6, 6)),
         "padding does not go with"),
        (lambda: graph_of(conv(), lif((2, 4, 4), tau=DT * np.arange(4, 8)), shape=(2, 6, 6)),
         r"node n1 \(LIF\): tau differs within a channel"),
        (lambda: graph_of(conv(), nir.LI(*[np.full((2, 4, 4), 1.0)] * 3), shape=(2, 6, 6)),
         "a readout that is not behind"),
        (lambda: recurrent(conv()), r"node w \(Conv2d\): leads back to n1"),
        (lambda: graph_of(linear(), lif(), nodes={"w": nir.Linear(np.eye(2))},
                          edges=[("n0", "w"), ("w", "n0")]), "w leads back to it; only neurons"),
        (lambda: graph_of(linear(), nodes={"x": None}, edges=[("n0", "x")]), "node x is empty"),
    ],
)  # fmt: skip
def test_nodes_that_lapilli_does_not_have(graph, message):
    with pytest.raises(NotImplementedError, match=message):
        export.from_nir(graph())


def test_graphs_that_are_no_chain():
    nodes = (linear(), lif())
    with pytest.raises(ValueError, match="n0 leads to n1, n0"):
        export.from_nir(graph_of(*nodes, edges=[("n0", "n0")]))
    with pytest.raises(ValueError, match="one way back to node n1"):
        export.from_nir(recurrent(nir.Linear(np.eye(2)), nir.Linear(np.eye(2))))
    with pytest.raises(ValueError, match="an edge names n9, which is no node"):
        export.from_nir(graph_of(*nodes, edges=[("n1", "n9")]))
    shapes: Any = np.array([3]), np.array([2])
    inside = nir.NIRGraph.from_list(nir.Input(shapes[0]), linear(), nir.Output(shapes[1]))
    twice = graph_of(inside, lif(), nodes={"n0.linear": linear()}, edges=[("n1", "n0.linear")])
    with pytest.raises(ValueError, match="a node of the same name is outside"):
        export.from_nir(twice)
    with pytest.raises(ValueError, match="expected one Input and one Output inside"):
        export.from_nir(graph_of(nir.NIRGraph({}, [], type_check=False)))
    with pytest.raises(ValueError, match="leads to"):
        export.from_nir(graph_of(*nodes, edges=[("in", "out")]))
    with pytest.raises(ValueError, match=r"does not take \(4,\)"):
        export.from_nir(graph_of(*nodes, shape=(4,)))
    with pytest.raises(ValueError, match="give dt in seconds"):
        export.from_nir(graph_of(*nodes, dt=None))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: graph_of(linear(), lif(v_threshold=0.0)),
         r"node n1 \(LIF\): neuron/vThMant: holds 0"),
        (lambda: graph_of(linear(), lif(tau=DT / 2)), "tau is 0.000488281 s, below the step"),
        (lambda: graph_of(linear(), lif(tau=0.0)), "tau holds 0; must be positive"),
        (lambda: graph_of(linear(), lif(tau=np.inf, r=np.inf)), "a gain of nan; without leak"),
        (lambda: graph_of(linear(), lif(v_threshold=np.nan)), "v_threshold holds NaN"),
        (lambda: graph_of(linear(), lif(r=1e-6)), "all weights round to 0"),
        (lambda: graph_of(linear(np.nan), lif()), "weight holds values that are not finite"),
        (lambda: graph_of(linear(), lif(3)), r"node n1 \(LIF\): tau has shape \(3,\); expected"),
        (lambda: graph_of(pool(9), lif(), shape=(2, 8, 8)), "window is larger"),
        (lambda: recurrent(nir.Linear(np.ones((3, 2)))), r"node w \(Linear\): weight \(3, 2\)"),
        (lambda: graph_of(linear(), lif(), nir.Delay(np.full(2, -DT))), "a delay of -1 steps"),
    ],
)  # fmt: skip
def test_values_that_lapilli_cannot_hold(graph, message):
    with pytest.raises(ValueError, match=message):
        export.from_nir(graph())


@pytest.mark.parametrize("dt", [0.0, -1.0, float("nan"), float("inf")])
def test_steps_that_are_none(dt):
    with pytest.raises(ValueError, match="dt must be positive and finite"):
        export.from_nir(graph_of(linear(), lif()), dt=dt)


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: alif.Dense(CUBA | ADAPTING, 6, 4), (6,), "the neuron ALIF"),
        (lambda: rf.Dense(ROTATING, 6, 4), (6,), "the neuron RF_PHASE"),
        (lambda: sigma_delta.Dense(SENDING, 6, 4), (6,), "the neuron SDNN"),
        (lambda: cuba.Input(CUBA), (6,), "Input layers"),
        (lambda: cuba.Average(3), (6,), "Average layers"),
        (lambda: cuba.TimeDecimation(2), (6,), "TimeDecimation layers"),
        (lambda: cuba.ConvT(CUBA, 2, 3, 2), (2, 4, 4), "ConvT layers"),
        (lambda: cuba.Unpool(CUBA, 2), (2, 4, 4), "Unpool layers"),
        (lambda: cuba.Pool(CUBA, 2), (2, 5, 4), "padding of a size"),
        (lambda: cuba.Pool(CUBA, 2, dilation=2), (2, 4, 4), "dilated pooling"),
        (lambda: cuba.Dense(CUBA | {"graded_spike": True}, 6, 4), (6,), "graded spikes"),
        (lambda: cuba.Dense(CUBA | {"current_decay": 0.0}, 6, 4), (6,), "never decays"),
        (lambda: cuba.Dense(CUBA | {"voltage_decay": 0.0}, 6, 4), (6,), "a voltage that never"),
        (lambda: cuba.Affine(CUBA | SCALE, 6, 4), (6,), "a norm with an exponent"),
    ],
)
def test_blocks_that_nir_does_not_have(make, shape, message):
    with torch.no_grad():
        net = nn.Sequential(make())
        net(spikes(1, *shape, 3))
    with pytest.raises(NotImplementedError, match=rf"layer 0 \(\w+\.\w+\): .*{message}"):
        export.to_nir(net.eval(), input_shape=shape)


def test_the_shape_of_the_input_is_asked_for():
    with pytest.raises(ValueError, match="give input_shape"):
        export.to_nir([settle(cuba.Conv(CUBA, 2, 3, 2), (2, 4, 4))])
