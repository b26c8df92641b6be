"""NIR graphs: the equations by Euler steps, the way there and back, gains, pools and rounding."""

from typing import Any

import numpy as np
import pytest
import torch
from export_networks import (
    CUBA,
    MEAN,
    OWN_DECAYS,
    settle,
    spikes,
)
from lapilli.blocks import cuba
from torch import nn

from lapilli import export

pytest.importorskip("nir", reason="the extra nir is not installed")

import nir
from nir_graphs import BETWEEN, DT, conv, graph_of, lif, linear, pool, recurrent
from nir_simulation import simulate

INSTANT = CUBA | {"current_decay": 1.0}
FOREVER = INSTANT | {"voltage_decay": 0.0, "threshold": 3.0}


def chain(*blocks):
    return lambda: nn.Sequential(*blocks)


NETWORKS = {
    "cuba": (lambda: chain(
        cuba.Dense(CUBA, 12, 9, weight_scale=3, delay=True), cuba.Dense(CUBA, 9, 5, weight_scale=3)
    )(), (12,), {"CubaLIF", "Linear", "Delay"}),
    "decays per channel": (lambda: chain(
        cuba.Dense(OWN_DECAYS, 12, 9, weight_scale=3), cuba.Dense(CUBA, 9, 5, weight_scale=3)
    )(), (12,), {"CubaLIF"}),
    "bias": (lambda: chain(
        cuba.Dense(CUBA | MEAN, 12, 9, weight_scale=3), cuba.Dense(INSTANT | MEAN, 9, 5)
    )(), (12,), {"CubaLIF", "LIF"}),
    "without hop": (lambda: chain(
        cuba.Dense(CUBA, 12, 9, weight_scale=3, delay_shift=False)
    )(), (12,), {"CubaLIF"}),
    "lif": (lambda: chain(cuba.Dense(INSTANT, 12, 9, weight_scale=3))(), (12,), {"LIF"}),
    "if": (lambda: chain(cuba.Dense(FOREVER | MEAN, 12, 9, weight_scale=3))(), (12,),
           {"IF", "Affine"}),
    "readouts": (lambda: chain(
        cuba.Dense(CUBA, 12, 9, weight_scale=3), cuba.Affine(CUBA, 9, 5, weight_scale=3)
    )(), (12,), {"CubaLI"}),
    "leaky readout": (lambda: chain(cuba.Affine(INSTANT, 12, 5))(), (12,), {"LI"}),
    "summing readout": (lambda: chain(cuba.Affine(FOREVER, 12, 5))(), (12,), {"I"}),
    "weighted sums": (lambda: chain(
        cuba.Dense(CUBA, 12, 9, weight_scale=3), cuba.Affine(CUBA, 9, 5, dynamics=False)
    )(), (12,), {"Linear"}),
    "image": (lambda: chain(
        cuba.Input(),
        cuba.Conv(CUBA | MEAN, 2, 6, (3, 2), (1, 2), (2, 1), (2, 1), groups=2, weight_scale=3),
        cuba.Pool(CUBA, (2, 1), weight_scale=0.75),
        cuba.Conv(INSTANT, 6, 4, 2, weight_scale=4),
        cuba.Pool(CUBA | {"threshold": 0.5}, (1, 2), weight_scale=0.5, delay_shift=False),
        cuba.Flatten(),
        cuba.Dense(CUBA, 16, 5, weight_scale=4),
    )(), (2, 6, 9), {"Conv2d", "SumPool2d", "AvgPool2d", "Scale", "Flatten"}),
}  # fmt: skip
if hasattr(cuba, "Recurrent"):
    NETWORKS["recurrent"] = (
        lambda: chain(cuba.Recurrent(CUBA, 12, 9, weight_scale=2), cuba.Dense(CUBA, 9, 5))(),
        (12,), {"CubaLIF"},
    )  # fmt: skip


def made(name):
    torch.manual_seed(1)
    make, shape, kinds = NETWORKS[name]
    return settle(make(), shape), shape, kinds


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "as a file"])
@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back(name, stored, tmp_path):
    net, shape, kinds = made(name)
    graph = export.to_nir(net, dt=DT, input_shape=shape)
    assert kinds <= {type(node).__name__ for node in graph.nodes.values()}
    if stored:
        nir.write(tmp_path / "a.nir", graph)
        graph = nir.read(tmp_path / "a.nir", type_check=False)
    back = export.from_nir(graph)
    x = spikes(2, *shape, 50)
    with torch.no_grad():
        want, got = net(x), back(x)
    assert want.count_nonzero()
    torch.testing.assert_close(got.reshape(want.shape), want, rtol=0, atol=0)


def test_of_a_file(tmp_path):
    net, shape, _ = made("image")
    export.save(net, tmp_path / "a.net", target="lapilli")
    graph = export.to_nir(tmp_path / "a.net")
    x = spikes(2, *shape, 30)
    torch.testing.assert_close(export.from_nir(graph)(x), net(x), rtol=0, atol=0)


def euler(node, x, dt):
    """Spikes of a CubaLIF, LIF or IF for input ``[C, T]`` by forward Euler, in float64."""
    current, v, out = 0.0, 0.0, []
    for t in range(x.shape[1]):
        drive = x[:, t]
        if isinstance(node, nir.CubaLIF):
            current = current + dt / node.tau_syn * (node.w_in * drive - current)
            drive = current
        if isinstance(node, nir.IF):
            v = v + dt * node.r * drive
        else:
            tau = node.tau_mem if isinstance(node, nir.CubaLIF) else node.tau
            v = v + dt / tau * (node.v_leak - v + node.r * drive)
        fires = v > node.v_threshold
        out.append(fires)
        v = np.where(fires, node.v_reset, v)
    return np.stack(out, 1)


@pytest.mark.parametrize("params", [CUBA, CUBA | MEAN, INSTANT, FOREVER], ids=str)
def test_the_equations_are_those_of_nir(params):
    """Up to the chip's truncation: with decays of 1/2**k and few bits nothing is truncated."""
    exact = {k: {0.25: 0.5, 0.03: 0.5}.get(v, v) for k, v in params.items()}
    net = settle(cuba.Dense(exact, 6, 4, weight_scale=2, delay_shift=False), (6,))
    with torch.no_grad():  # powers of two, so that twelve halvings stay whole
        net.synapse.weight.copy_(torch.randint(-3, 6, net.synapse.weight.shape).float())
    graph: Any = export.to_nir([net], dt=DT)
    synapse, neuron = graph.nodes["0_synapse"], graph.nodes["0_neuron"]
    x = spikes(1, 6, 12)
    got = euler(neuron, synapse.weight @ x[0].double().numpy(), DT)
    want = net(x)[0].detach().numpy()
    assert 0 < want.mean() < 1
    np.testing.assert_array_equal(got, want)


def test_foreign_weights_stay_and_are_rounded_in_forward():
    with pytest.warns(export.QuantisationWarning, match=r"node n1 \(LIF\): weights are rounded"):
        net: Any = export.from_nir(graph_of(linear(0.51), lif()))
    weight = net[0].synapse.weight
    torch.testing.assert_close(weight, torch.full_like(weight, 0.51))
    assert net[0].synapse.effective_weight().unique().item() == 0.5


def test_gains_go_into_the_weights():
    net: Any = export.from_nir(graph_of(linear(), lif(r=8.0)))
    assert net[0].synapse.weight.unique().item() == 1.0


def test_gains_of_each_channel_go_into_its_weights():
    net: Any = export.from_nir(graph_of(linear(), lif(r=[4.0, 8.0])))
    assert net[0].synapse.weight.flatten().tolist() == [0.5] * 3 + [1.0] * 3


def test_time_constants_of_each_neuron():
    """One decay may be shared and the other not."""
    graph = graph_of(linear(), lif(tau=[2 * DT, 4 * DT], r=[2.0, 4.0], v_threshold=BETWEEN))
    net: Any = export.from_nir(graph)
    assert net[0].neuron.voltage_decay.tolist() == [2048, 1024]
    x = spikes(1, 3, 12)
    want, margin = simulate(graph, x[0].T, DT)
    assert margin > 4 / 4096
    assert 0 < want.mean() < 1
    np.testing.assert_array_equal(net(x)[0].T.detach(), want)


def cast(graph, convert):
    """The graph with every array converted."""
    for node in graph.nodes.values():
        for name, value in vars(node).items():
            if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
                setattr(node, name, convert(value))
    return graph


CONVERTED = {
    "float32": np.float32,
    "float64": np.float64,
    "tensors": torch.from_numpy,
    "parameters": lambda array: nn.Parameter(torch.from_numpy(array).float()),
}


@pytest.mark.parametrize("kind", CONVERTED)
@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back_in_any_precision(name, kind, recwarn):
    net, shape, _ = made(name)
    graph = cast(export.to_nir(net, dt=1e-3, input_shape=shape), CONVERTED[kind])
    back = export.from_nir(graph)
    x = spikes(2, *shape, 50)
    with torch.no_grad():
        want, got = net(x), back(x)
    torch.testing.assert_close(got.reshape(want.shape), want, rtol=0, atol=0)
    assert not [w for w in recwarn if w.category is export.QuantisationWarning]


def nested(graph, names, name, size):
    """The graph with the nodes ``names`` in a graph of their own, which stands for them."""
    inside = {n: graph.nodes[n] for n in names}
    (entry,) = {b for a, b in graph.edges if b in inside and a not in inside}
    (leave,) = {a for a, b in graph.edges if a in inside and b not in inside}
    shapes: Any = np.array([size]), np.array([9])
    ends = {"input": nir.Input(shapes[0]), "output": nir.Output(shapes[1])}
    edges = [e for e in graph.edges if set(e) <= set(names)]
    edges += [("input", entry), (leave, "output")]
    inner = nir.NIRGraph(inside | ends, edges, type_check=False)
    nodes: dict[str, Any] = {n: node for n, node in graph.nodes.items() if n not in inside} | {
        name: inner
    }
    outer = [(name if a in inside else a, name if b in inside else b) for a, b in graph.edges]
    outer = [e for e in dict.fromkeys(outer) if e != (name, name)]
    return nir.NIRGraph(nodes, outer, metadata=graph.metadata, type_check=False)


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "as a file"])
def test_nested_graphs_are_opened(stored, tmp_path):
    net, shape, _ = made("recurrent")
    graph = export.to_nir(net, dt=DT)
    graph = nested(graph, ["0_neuron", "0_feedback"], "rnn", 9)
    graph = nested(graph, ["0_synapse", "rnn"], "layer", 12)
    assert {type(node).__name__ for node in graph.nodes.values()} >= {"NIRGraph", "CubaLIF"}
    if stored:
        nir.write(tmp_path / "a.nir", graph)
        graph = nir.read(tmp_path / "a.nir", type_check=False)
    x = spikes(2, *shape, 50)
    torch.testing.assert_close(export.from_nir(graph)(x), net(x), rtol=0, atol=0)


def test_the_bias_of_a_feedback_is_on_in_every_step():
    back = nir.Affine(np.array([[0.5, -0.5], [0.0, 0.25]]), np.array([0.125, 0.25]))
    graph = recurrent(back, tau=2 * DT, r=2.0, v_threshold=BETWEEN)
    net = export.from_nir(graph)
    x = spikes(1, 3, 12)
    want, margin = simulate(graph, x[0].T, DT)
    assert margin > 2 / 4096
    assert 0 < want.mean() < 1
    np.testing.assert_array_equal(net(x)[0].T.detach(), want)


def fires(*shape, gain=0.25):
    """Spikes where the sum of a step is above the threshold."""
    return lif(shape, tau=DT, r=gain, v_threshold=BETWEEN)


POOLS = {
    "before a neuron": lambda: [pool(), lif((2, 4, 3), tau=DT, r=1.0)],
    "of sides that it does not divide": lambda: [pool(3, 2), lif((2, 3, 3), tau=DT, r=1.0)],
    "with a leak": lambda: [pool(), lif((2, 4, 3), tau=DT, r=1.0, v_leak=0.25)],
    "with gains": lambda: [
        pool(), lif((2, 4, 3), tau=DT, r=np.array([0.5, 1.0]).reshape(2, 1, 1))
    ],
    "behind a convolution": lambda: [conv(bias=np.ones(2) / 8), pool(), fires(2, 3, 2)],
    "before a convolution": lambda: [pool(), conv(), fires(2, 2, 1)],
    "before padding": lambda: [nir.SumPool2d(*np.array([[2, 1], [4, 2], [0, 0]])),
                               conv(padding=1, bias=np.ones(2) / 8), fires(2, 2, 4, gain=0.5)],
    "before a dilated convolution": lambda: [pool(2, 1), conv(dilation=2, stride=2),
                                             fires(2, 2, 1)],
    "behind a dilated convolution": lambda: [conv(dilation=2), pool(2, 1), fires(2, 3, 2)],
    "before another": lambda: [pool(2, 1), pool(), fires(2, 3, 3)],
    "before a Linear": lambda: [
        pool(3, 2), nir.Flatten({"input": np.array([2, 3, 3])}, 0),
        nir.Linear(np.random.default_rng(3).integers(-6, 9, (2, 18)) / 8), fires(2),
    ],
    "with padding": lambda: [
        nir.SumPool2d(*np.array([[3, 2], [2, 3], [1, 0]])),
        nir.Flatten({"input": np.array([2, 4, 2])}, 0),
        nir.Linear(np.random.default_rng(3).integers(-6, 9, (2, 16)) / 8), fires(2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_pools(name):
    nodes = POOLS[name]()
    graph = graph_of(*nodes, shape=(2, 8, 7), out=nodes[-1].v_threshold.shape)
    x = spikes(1, 2, 8, 7, 20)
    want, _ = simulate(graph, x[0].movedim(-1, 0), DT)
    assert 0.05 < want.mean() < 0.95
    got = export.from_nir(graph)(x)[0].movedim(-1, 0).detach().numpy()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tau": 3.3 * DT, "r": 3.3}, "tau_mem is rounded"),
        ({"v_threshold": 0.99}, "v_threshold is"),
        ({"r": 400.0}, "some lie beyond -4 to 3.96875: give a smaller scale"),
    ],
)
def test_what_is_rounded_is_said(values, message):
    with pytest.warns(export.QuantisationWarning, match=message):
        export.from_nir(graph_of(linear(), lif(**values)))
