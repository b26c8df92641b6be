"""What only a GPU shows: sizes that fill it, graphs, streams, and that nothing waits for it."""

import functools

import pytest
import torch
from cells import NEURONS, SPIKING, block_class, having
from lapilli.blocks import tensor_cores
from tolerances import FUSED_GRADIENT
from torch.testing import assert_close

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU: `make gpu` on a machine that has one"
)

each_family = pytest.mark.parametrize("family", NEURONS)
recurrent_families = pytest.mark.parametrize("family", having("Recurrent"))


def same(a, b):
    assert_close(a.cpu(), b.cpu(), rtol=0, atol=0)


def block(family, kind, *sizes, neuron=None, **options):
    torch.manual_seed(1)
    params = NEURONS[family] | {"requires_grad": family in SPIKING} | (neuron or {})
    return block_class(family, kind)(params, *sizes, weight_scale=2, **options)


def spikes(*shape, density=0.1):
    torch.manual_seed(2)
    return (torch.rand(shape) < density).float()


def network(family):
    return torch.nn.Sequential(
        block(family, "Dense", 64, 48, weight_norm=True, delay=True),
        block(family, "Dense", 48, 10, delay_shift=False),
    )


def trained(module, x, upstream):
    """Output and the gradients of the input and of all parameters."""
    x = x.to(next(module.parameters()).device).requires_grad_()
    wanted = [x, *(p for p in module.parameters() if p.requires_grad)]
    y = module(x)
    return y, torch.autograd.grad(y, wanted, upstream.to(y.device), allow_unused=True)


def assert_equal_to_the_cpu(module, x):
    """Outputs equal bit for bit, gradients to the order of their sums."""
    upstream = torch.randn(module(x).shape)
    want, gradients = trained(module, x, upstream)
    assert 0.001 < (want != 0).float().mean() < 0.999
    got, found = trained(module.cuda(), x, upstream)
    same(got, want)
    for g, w in zip(found, gradients, strict=True):
        assert (g is None) == (w is None)
        if w is not None:
            assert_close(g.cpu(), w, rtol=0, atol=FUSED_GRADIENT * w.abs().max().item())


@each_family
@pytest.mark.parametrize("shape", [(32, 300, 200), (3, 2048, 37), (200, 7, 65)], ids=str)
def test_neurons_that_fill_the_device_equal_the_cpu(family, shape):
    batch, channels, steps = shape
    assert_equal_to_the_cpu(block(family, "Dense", 100, channels), spikes(batch, 100, steps))


@each_family
def test_convolutions_equal_the_cpu(family):
    layer = block(family, "Conv", 3, 16, 5, padding=2, stride=2)
    assert_equal_to_the_cpu(layer, spikes(4, 3, 34, 34, 50))


@recurrent_families
@pytest.mark.parametrize("neurons", [48, 128, 200, 256, 400, 520, 1000])
def test_recurrent_layers_of_all_sizes_equal_the_cpu(family, neurons):
    layer = block(family, "Recurrent", 60, neurons)
    for weight in layer.recurrent_synapse.parameters():
        weight.data.mul_(0.2)
    assert_equal_to_the_cpu(layer, spikes(20, 60, 50))


def test_tensor_cores_are_exact_and_used():
    if torch.version.hip or torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("this device has no bfloat16 products that accumulate in float32")
    assert tensor_cores.usable(torch.device("cuda", torch.cuda.current_device()))
    codes = torch.randint(-128, 128, (8192, 256))
    events = torch.randint(-(1 << 11), 1 << 11, (300, 8192)) * (torch.rand(300, 8192) < 0.05)
    want = (events.double() @ codes.double()) / 32 / 4096
    got = tensor_cores.multiply((events / 4096).cuda(), (codes / 32).float().cuda())
    same(got, want.float())


def test_convolutions_on_tensor_cores_are_exact_and_used():
    if torch.version.hip or torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("this device has no bfloat16 products that accumulate in float32")
    assert tensor_cores.convolutions_usable(torch.device("cuda", torch.cuda.current_device()))


def step(module, x, upstream):
    y = module(x)
    return y, torch.autograd.grad(
        y, [p for p in module.parameters() if p.requires_grad], upstream, allow_unused=True
    )


@each_family
def test_a_graph_holds_a_step_of_training(family):
    module = network(family).cuda()
    x = spikes(8, 64, 40).cuda()
    upstream = torch.randn(8, 10, 40, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(2):
            step(module, x, upstream)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        held = step(module, x, upstream)
    x.copy_(spikes(8, 64, 40, density=0.2))
    want = step(module, x, upstream)
    graph.replay()
    same(held[0], want[0])
    for got, wanted in zip(held[1], want[1], strict=True):
        assert (got is None) == (wanted is None)
        if got is not None:
            same(got, wanted)  # the same kernels: no order that changes


KINDS = {
    "Dense": ((20, 30), (4, 20, 16)), "Conv": ((2, 3, 3), (4, 2, 8, 8, 16)),
    "ConvT": ((2, 3, 3), (4, 2, 8, 8, 16)), "Pool": ((2,), (4, 2, 8, 8, 16)),
    "Recurrent": ((20, 30), (4, 20, 16)),
}  # fmt: skip


@each_family
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_for_the_device(family, kind):
    if (family, kind) == ("sigma_delta", "Recurrent"):
        pytest.skip("there is none")
    sizes, shape = KINDS[kind]
    module = block(family, kind, *sizes).cuda()
    x = spikes(*shape, density=0.3).cuda().requires_grad_()
    y = module(x)
    upstream = torch.randn(y.shape, device="cuda")
    y.backward(upstream)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        module(x).backward(upstream)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each_family
def test_streams_and_autocast_change_nothing(family):
    module = network(family).cuda()
    x = spikes(8, 64, 40).cuda()
    want = module(x)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        got = module(x)
    side.synchronize()
    same(got, want)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        same(module(x), want)
    with torch.autocast("cuda", dtype=torch.float16):
        same(module(x), want)


@each_family
def test_chunks_with_persistent_state_equal_one_call(family):
    make = functools.partial(block, family, "Dense", 64, 48)
    layer = make(neuron={"persistent_state": True}).cuda()
    x = spikes(8, 64, 40).cuda()
    with torch.no_grad():
        parts = torch.cat([layer(part) for part in x.split((1, 16, 23), -1)], -1)
        same(parts, make().cuda()(x))


def test_a_network_saved_from_the_device_loads_on_the_cpu(tmp_path):
    from lapilli import export

    net = torch.nn.Sequential(block("cuba", "Dense", 20, 12)).cuda()
    x = spikes(4, 20, 30, density=0.4)
    want = net(x.cuda())
    export.save(net, tmp_path / "a.net")
    same(export.load(tmp_path / "a.net")(x), want)
