"""NIR graphs: the equations by Euler steps, the way there and back, and what is refused by name."""

import itertools

import numpy as np
import pytest
import torch
from export_networks import (
    ADAPTING,
    CUBA,
    MEAN,
    OWN_DECAYS,
    ROTATING,
    SCALE,
    SENDING,
    settle,
    spikes,
)
from lapilli.blocks import alif, cuba, rf, sigma_delta
from torch import nn

from lapilli import export

nir = pytest.importorskip("nir", reason="the extra nir is not installed")

from nir_simulation import simulate  # noqa: E402, which needs nir

INSTANT = CUBA | {"current_decay": 1.0}
FOREVER = INSTANT | {"voltage_decay": 0.0, "threshold": 3.0}
DT = 2.0**-10
BETWEEN = 1 + 2.0**-6  # a threshold that no short sum of multiples of 1/32 reaches


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
    graph = export.to_nir([net], dt=DT)
    synapse, neuron = graph.nodes["0_synapse"], graph.nodes["0_neuron"]
    x = spikes(1, 6, 12)
    got = euler(neuron, synapse.weight @ x[0].double().numpy(), DT)
    want = net(x)[0].detach().numpy()
    assert 0 < want.mean() < 1
    np.testing.assert_array_equal(got, want)


def graph_of(*chained, shape=(3,), out=(2,), edges=(), nodes=(), **metadata):
    names = ["in", *(f"n{i}" for i in range(len(chained))), "out"]
    everything = [nir.Input(np.array(shape)), *chained, nir.Output(np.array(out))]
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


def lif(size=2, **values):
    given = {"tau": 4 * DT, "r": 4.0, "v_leak": 0.0, "v_threshold": 1.0} | values
    return nir.LIF(**{k: np.broadcast_to(v, size).astype(float) for k, v in given.items()})


def linear(value=0.5):
    return nir.Linear(np.full((2, 3), value))


def test_foreign_weights_stay_and_are_rounded_in_forward():
    with pytest.warns(export.QuantisationWarning, match=r"node n1 \(LIF\): weights are rounded"):
        net = export.from_nir(graph_of(linear(0.51), lif()))
    weight = net[0].synapse.weight
    torch.testing.assert_close(weight, torch.full_like(weight, 0.51))
    assert net[0].synapse.effective_weight().unique().item() == 0.5


def test_gains_go_into_the_weights():
    net = export.from_nir(graph_of(linear(), lif(r=8.0)))
    assert net[0].synapse.weight.unique().item() == 1.0


def test_gains_of_each_channel_go_into_its_weights():
    net = export.from_nir(graph_of(linear(), lif(r=[4.0, 8.0])))
    assert net[0].synapse.weight.flatten().tolist() == [0.5] * 3 + [1.0] * 3


def test_time_constants_of_each_neuron():
    """One decay may be shared and the other not."""
    graph = graph_of(linear(), lif(tau=[2 * DT, 4 * DT], r=[2.0, 4.0], v_threshold=BETWEEN))
    net = export.from_nir(graph)
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
    ends = {"input": nir.Input(np.array([size])), "output": nir.Output(np.array([9]))}
    edges = [e for e in graph.edges if set(e) <= set(names)]
    edges += [("input", entry), (leave, "output")]
    inner = nir.NIRGraph(inside | ends, edges, type_check=False)
    nodes = {n: node for n, node in graph.nodes.items() if n not in inside} | {name: inner}
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


SYNAPSE = nir.Affine(np.full((2, 3), 0.5), np.ones(2))
FILTERED = nir.CubaLIF(**{k: np.full(2, 4 * DT) for k in ("tau_syn", "tau_mem")},
                       **{k: np.full(2, 4.0) for k in ("r", "w_in")}, v_leak=np.zeros(2),
                       v_threshold=np.ones(2))  # fmt: skip


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
        (lambda: graph_of(conv(), nir.LI(**{k: np.full((2, 4, 4), 1.0) for k in
                                            ("tau", "r", "v_leak")}), shape=(2, 6, 6)),
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
    inside = nir.NIRGraph.from_list(nir.Input(np.array([3])), linear(), nir.Output(np.array([2])))
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
