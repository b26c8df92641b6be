"""Runs of operators in a compiled graph are one call, and change no bit."""

import re
import shutil

import pytest
import torch
from lapilli.blocks import alif, cuba, rf
from lapilli.kernels.executors import sequence
from torch._inductor import config
from torch._inductor.utils import run_and_get_code

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="torch's default backend needs a C++ compiler",
)

NEURON = {"threshold": 0.5, "current_decay": 0.25, "voltage_decay": 0.03, "requires_grad": True}
ALIF = NEURON | {"threshold_step": 0.1, "threshold_decay": 0.1, "refractory_decay": 0.1}
RF = {"threshold": 0.2, "period": 5, "decay": 0.1}


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    with config.patch(force_disable_caches=True):  # or graphs of another test would be found
        yield


def net_of(*between):
    torch.manual_seed(0)
    options = {"weight_norm": True, "delay": True, "weight_scale": 2}
    net = torch.nn.Sequential(
        cuba.Dense(NEURON, 7, 9, **options), *between, alif.Dense(ALIF, 9, 5, weight_scale=3),
        rf.Dense(RF, 5, 4, weight_scale=3),
    )  # fmt: skip
    net(torch.zeros(1, 7, 2))
    return net


def result_of(net, run, shape):
    torch.manual_seed(1)
    x = (torch.rand(shape) < 0.4).float().requires_grad_()
    y = run(x)
    y.square().mean().backward()
    found = [y.detach().clone(), x.grad, *(p.grad for p in net.parameters())]
    net.zero_grad()
    return found


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


def operators_in(code):
    return re.findall(r"= torch\.ops\.lapilli\.(\w+)\.\w+\(", code)


def test_each_pass_is_one_operator():
    net = net_of()
    run = torch.compile(net, fullgraph=True)
    expected = result_of(net, net, (3, 7, 11))
    assert expected[0].any()
    got, codes = run_and_get_code(lambda: result_of(net, run, (3, 7, 11)))
    assert_same(got, expected)
    assert [operators_in(code) for code in codes] == [["sequence"], ["sequence"]]


@pytest.mark.slow
def test_sizes_may_change():
    net = net_of()
    run = torch.compile(net, fullgraph=True, dynamic=True)
    for shape in ((3, 7, 11), (2, 7, 5), (4, 7, 30)):
        got, _ = run_and_get_code(lambda shape=shape: result_of(net, run, shape))
        assert_same(got, result_of(net, net, shape))


class Foreign(torch.nn.Module):
    def forward(self, x):
        return (torch.sin(x).cumsum(-1) > 0.5).float() + x


@pytest.mark.slow
def test_what_depends_on_an_operator_parts_a_run():
    net = net_of(Foreign())
    run = torch.compile(net, fullgraph=True)
    got, codes = run_and_get_code(lambda: result_of(net, run, (3, 7, 11)))
    assert_same(got, result_of(net, net, (3, 7, 11)))
    assert operators_in(codes[0]) == ["sequence"] * 2


@pytest.mark.slow
def test_operators_over_large_tensors_stay(monkeypatch):
    monkeypatch.setattr(sequence, "_LARGE", 3 * 11 * 9 * 4)
    net = net_of()
    got, codes = run_and_get_code(
        lambda: result_of(net, torch.compile(net, fullgraph=True), (3, 7, 11))
    )
    assert_same(got, result_of(net, net, (3, 7, 11)))
    # those of the layer of 9 neurons
    assert {"linear_fwd", "cuba_fwd", "delay_fwd"} <= set(operators_in(codes[0]))
    assert "sequence" in operators_in(codes[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "without_grad", [torch.no_grad, pytest.param(torch.inference_mode, marks=pytest.mark.slow)]
)
def test_inference(without_grad):
    net = net_of()
    run = torch.compile(net, fullgraph=True)
    x = (torch.rand(3, 7, 11) < 0.4).float()
    with without_grad():
        assert torch.equal(run(x), net(x))


@pytest.mark.slow
def test_pass_of_a_user_stays(monkeypatch):
    seen = []
    net = net_of()

    from torch._inductor.custom_graph_pass import CustomGraphPass

    class Own(CustomGraphPass):
        def __call__(self, graph):
            seen.append(graph)

        def uuid(self):
            return None

    own = Own()
    with config.patch(post_grad_custom_post_pass=own):
        run = torch.compile(net, fullgraph=True)
        got, codes = run_and_get_code(lambda: result_of(net, run, (3, 7, 11)))
        assert config.post_grad_custom_post_pass is own
    assert seen
    assert "sequence" not in operators_in(codes[0])
    assert_same(got, result_of(net, net, (3, 7, 11)))


def test_operator_is_what_torch_asks_for():
    text = (
        "def sequence(tensors, sizes):\n"
        " v0 = delay_fwd(tensors[0], tensors[1], None, 1.0, 1.0)\n"
        " v1 = v0.reshape([sizes[0], 5])\n"
        " return [v0, turned(v1.unsqueeze(0))]"
    )
    tensors = [torch.rand(2, 3, 5), torch.tensor([1.0])]
    torch.library.opcheck(
        torch.ops.lapilli.sequence.default,
        (tensors, [6], text),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_graph_without_operators_stays():
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.ops.aten.sin.default, (x,)))
    before = str(graph)
    sequence.join(graph)
    assert str(graph) == before
