"""Compiled networks: how often they compile, whole steps of training, torch's default backend."""

import shutil

import pytest
import torch
from cells import NEURONS, SPIKING, events
from faults import raises_in_a_graph
from features import close, compared, trained
from lapilli.blocks import cuba
from lapilli.kernels.executors import operators
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx

from lapilli import loss, reset_state, slayer

pytestmark = pytest.mark.turns

SIZES = [(4, 20), (5, 33), (7, 33), (2, 57), (9, 20)]  # samples, steps
CXX = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")

with_compiler = pytest.mark.skipif(CXX is None, reason="torch's default backend needs a compiler")


def network(family, **neuron):
    torch.manual_seed(1)
    blocks = getattr(slayer.block, family)
    params = NEURONS[family] | {"requires_grad": True} | neuron
    layers = [blocks.Dense(params, 12, 10, weight_scale=3, delay=True, weight_norm=True)]
    if family == "sigma_delta":
        layers.append(blocks.Output(params, 10, 4))
    else:
        layers.append(blocks.Dense(params, 10, 4, weight_scale=3))
    return torch.nn.Sequential(*layers)


def images():
    torch.manual_seed(1)
    params = NEURONS["cuba"] | {"requires_grad": True}
    return torch.nn.Sequential(
        cuba.Conv(params, 2, 3, 3, padding=1, weight_scale=3, count_log=False),
        cuba.Pool(params, 2), cuba.Flatten(), cuba.Dense(params, 48, 4, weight_scale=3),
    )  # fmt: skip


def spikes(*shape):
    return (torch.rand(shape) < 0.4).float()


NETS = {family: (lambda family=family: network(family), (12,)) for family in NEURONS} | {
    "images": (images, (2, 8, 8))
}


def _quick(name):
    return name if name == "cuba" else pytest.param(name, marks=pytest.mark.slow)


each_net = pytest.mark.parametrize("name", [_quick(name) for name in NETS])


@pytest.fixture(autouse=True)
def _forget():
    torch._dynamo.reset()


@each_net
@pytest.mark.parametrize("training", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dynamic", [None, pytest.param(True, marks=pytest.mark.slow)])
def test_two_compilations_serve_every_size(name, training, dynamic):
    make, shape = NETS[name]
    net, twin = make(), make()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, backend=counter, dynamic=dynamic)
    first = spikes(3, *shape, 16)
    for each in (net, twin):
        torch.manual_seed(2)
        each(first)  # draws what is drawn, and learns the shapes
    with torch.set_grad_enabled(training):
        for batch, steps in SIZES:
            x = spikes(batch, *shape, steps)
            assert torch.equal(compiled(x), twin(x))
    assert counter.frame_count <= 2


@pytest.mark.slow
@pytest.mark.parametrize("family", [_quick(family) for family in SPIKING])
def test_state_that_persists_needs_no_more_compilations(family):
    net, twin = (network(family, persistent_state=True) for _ in range(2))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, backend=counter)
    for each in (net, twin):
        torch.manual_seed(2)
        each(spikes(4, 12, 5))
        reset_state(each)
    with torch.no_grad():
        for steps in (8, 3, 1, 1, 12, 1):
            x = spikes(4, 12, steps)
            assert torch.equal(compiled(x), twin(x))
    # at rest, with a state, one step, and any number of steps
    assert counter.frame_count <= 4


def trains_alike(make, shape, backend):
    nets = [make() for _ in range(2)]
    rates = loss.SpikeRate(true_rate=0.2, false_rate=0.03)
    x, label = spikes(6, *shape, 20), torch.randint(0, 4, (6,))
    for net in nets:
        torch.manual_seed(2)
        net(x)
    optimisers = [torch.optim.Adam(net.parameters(), lr=0.01) for net in nets]
    compiled = torch.compile(nets[1], fullgraph=True, backend=backend)
    for _ in range(4):
        for net, optimiser in zip((nets[0], compiled), optimisers, strict=True):
            optimiser.zero_grad()
            rates(net(x), label).backward()
            optimiser.step()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert any((p.grad != 0).any() for p in nets[0].parameters() if p.grad is not None)


@pytest.mark.slow
@each_net
def test_training_has_the_same_bits(name):
    trains_alike(*NETS[name], "aot_eager")


@with_compiler
@pytest.mark.parametrize(
    "name", ["cuba", *(pytest.param(n, marks=pytest.mark.slow) for n in NETS if n != "cuba")]
)
def test_training_has_the_same_bits_by_the_default_backend(name):
    trains_alike(*NETS[name], "inductor")


@with_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind"),
    [("cuba", k) for k in ("Affine", "Recurrent", "KWTA", "Conv", "ConvT", "Unpool")]
    + [("rf", "Recurrent"), ("alif", "KWTA")],
    ids=str,
)
def test_default_backend_gives_the_same_bits(family, kind):
    block = trained(family, kind)
    compared(block, torch.compile(block, fullgraph=True), events(kind))


@with_compiler
@pytest.mark.slow
@pytest.mark.parametrize("family", ["cuba", "sigma_delta"])
def test_default_backend_adds_the_gradients_of_an_input_block_in_its_own_order(family):
    block = trained(family, "Input")
    compared(block, torch.compile(block, fullgraph=True), events("Input"), check=close)


@pytest.mark.slow
def test_a_whole_step_compiles_with_its_loss_and_optimiser():
    net, twin = network("cuba"), network("cuba")
    rates = loss.SpikeRate(true_rate=0.2, false_rate=0.03)
    x, label = spikes(6, 12, 20), torch.randint(0, 4, (6,))
    for each in (net, twin):
        torch.manual_seed(2)
        each(x)

    def step(net, optimiser):
        def run(x, label):
            value = rates(net(x), label)
            value.backward()
            optimiser.step()
            optimiser.zero_grad()
            return value

        return run

    steps = [step(n, torch.optim.Adam(n.parameters(), lr=0.01)) for n in (net, twin)]
    forward = torch.compile(
        lambda x, label: rates(net(x), label), fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(forward(x, label), rates(twin(x), label))
    with pytest.raises(Exception, match=r"out of bounds|Expected|index"):
        forward(x, torch.full((6,), 9))
    steps[0] = torch.compile(steps[0], backend="aot_eager")
    for _ in range(3):
        assert torch.equal(steps[0](x, label), steps[1](x, label))


def test_the_page_s_gradients_of_each_sample():
    net = network("cuba")
    x, label = spikes(3, 12, 20), torch.tensor([1, 2, 3])
    net(x)
    rates = loss.SpikeRate(true_rate=0.2, false_rate=0.03)
    learned = {name: p for name, p in net.named_parameters() if p.requires_grad}

    def value(parameters, sample, label):
        output = torch.func.functional_call(net, parameters, (sample.unsqueeze(0),))
        return rates(output, label.unsqueeze(0))

    each = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0))(learned, x, label)
    rates(net(x), label).backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(each[name].sum(0), parameter.grad, rtol=1e-4, atol=1e-6)


class SaysWhetherItIsExported(torch.nn.Module):
    def __init__(self, ask):
        super().__init__()
        self.ask = ask

    def forward(self, x):
        return x + (10.0 if self.ask() else 1.0)


@pytest.mark.parametrize("ask", [operators.is_exported, operators._dynamo_exports])
def test_only_an_exported_graph_takes_itself_for_one(ask):
    module, x = SaysWhetherItIsExported(ask), torch.zeros(1)
    for _ in range(2):
        torch._dynamo.reset()
        assert module(x) == 1
        assert torch.compile(module, backend="eager", fullgraph=True)(x) == 1
        for strict in (True, False):
            assert torch.export.export(module, (x,), strict=strict).module()(x) == 10


@pytest.mark.filterwarnings("ignore")  # of torch.jit, about what it traces
@pytest.mark.parametrize("kind", ["Dense", "Recurrent"])
def test_a_state_cannot_persist_through_transforms_and_export(kind):
    block = trained("cuba", kind, persistent=True)
    x = events(kind)
    with pytest.raises(
        RuntimeError, match=r"through a transform of torch\.func: build the neurons"
    ):
        torch.func.vmap(lambda sample: block(sample.unsqueeze(0))[0])(x)
    with raises_in_a_graph(r"through torch\.export: build the neurons"):
        torch.export.export(block, (x,))
    with pytest.raises(RuntimeError, match=r"through torch\.jit\.trace: build the neurons"):
        torch.jit.trace(block, x)
    with pytest.raises(RuntimeError, match="through make_fx: build the neurons"):
        make_fx(block)(x)
    block(x)
