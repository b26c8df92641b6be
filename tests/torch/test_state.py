"""What modules keep between calls: pieces equal the whole, resets reach all, none is model."""

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cells import CELLS, FEW, KINDS, events, in_turn, make, same
from known import present
from lapilli.blocks.delay import Delay
from lapilli.neurons.state import KeepsState
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

import lapilli
from lapilli import export, neurons

PERSISTS: dict[str, Any] = {"persistent_state": True}
each = in_turn([cell for cell in CELLS if KINDS[cell[1]].neuron], FEW)
DELAYED = ("Dense", "Conv", "ConvT", "Pool", "Unpool", "Recurrent")


def options_of(kind):
    """All that a block can keep besides the neuron's state."""
    return ({"delay": True} if kind in DELAYED else {}) | (
        {"delay_shift": True} if KINDS[kind].shifts else {}
    )


def streaming(family, kind, **options):
    """Make a block that keeps its state, with delays of several steps, settled and at rest."""
    block = make(family, kind, PERSISTS, **options_of(kind) | options)
    block(events(kind))
    if getattr(block, "delay", None) is not None:
        with torch.no_grad():
            block.delay.delay.mul_(9)
    lapilli.reset_state(block)
    return block


def kept(module):
    """Return all tensors that a module and its parts keep."""
    parts = [m for m in module.modules() if isinstance(m, KeepsState)]
    return [value for part in parts for value in part._kept.values() if value is not None]


@each
def test_pieces_equal_the_whole(family, kind):
    block = streaming(family, kind)
    x = events(kind)
    with torch.no_grad():
        want = block(x)
        assert want.any()
        for sizes in (1, (7, 1, 16), (0, 20, 4)):
            block.reset_state()
            parts = [block(part) for part in x.split(sizes, -1)]
            same(torch.cat(parts, -1), want)
        assert kept(block)


@each
def test_every_reset_reaches_what_the_block_keeps(family, kind):
    block = streaming(family, kind)
    x = events(kind)

    def assign(neuron):
        parts = [m for m in neuron.modules() if isinstance(m, KeepsState)]
        for part, name in [(p, n) for p in parts for n in p._rest]:
            setattr(part, name, torch.Tensor([part._rest[name]]))

    def another_batch(neuron):
        block(events(kind, batch=3))

    resets = (
        lambda neuron: block.reset_state(),
        lambda neuron: neuron.reset_state(),
        lambda neuron: lapilli.reset_state(torch.nn.Sequential(block)),
        assign,
        another_batch,
    )
    with torch.no_grad():
        want = block(x)
        for reset in resets:
            reset(block.neuron)
            same(block(x), want)
        reset = not torch.equal(block(x), want)
        assert reset or family == "sigma_delta", "the state carries over, so resets matter"


def test_one_state_that_is_reset_resets_the_block():
    block = streaming("cuba", "Dense", delay=False)
    x = events("Dense")
    x[..., :2] = 0  # nothing comes at first but what the block kept
    with torch.no_grad():
        block(torch.ones_like(x))
        assert block.delay_buffer.any()
        block.neuron.current_state = torch.Tensor([0])
        y = block(x)
    assert not y[..., 0].any()


def test_a_value_that_is_written_is_the_state_of_all_neurons():
    neuron = neurons.cuba.Neuron(1.0, 0.5, 0.5, persistent_state=True)
    neuron.voltage_state = torch.tensor([3.0])
    assert neuron(torch.zeros(2, 3, 1)).all()
    neuron.reset_state()
    assert not neuron(torch.zeros(2, 3, 1)).any()


@each
def test_state_is_not_model(family, kind):
    fresh, block = (make(family, kind, PERSISTS) for _ in range(2))
    names = list(fresh.state_dict())
    block(events(kind))
    assert list(block.state_dict()) == names
    assert not any(n.endswith(("state", "buffer", "tail")) for n, _ in block.named_buffers())
    assert kept(block)
    assert not any(t.requires_grad for t in kept(block))
    # the one name that lava-dl's checkpoints have, and names that older ones may have
    state = block.state_dict()
    if family == "sigma_delta":
        state["neuron.sigma.pre_state"] = torch.ones(2, 5)
    for name in names:
        if name.endswith("spike_state"):
            same(state[name], torch.zeros(1))
            state[name] = torch.ones(7, 5)
    fresh.load_state_dict(state, strict=True)
    assert not kept(fresh)


@each
def test_state_moves_and_is_copied_with_the_module(family, kind):
    block = streaming(family, kind)
    x = events(kind)
    with torch.no_grad():
        block(x)
        twins = copy.deepcopy(block), pickle.loads(pickle.dumps(block))
        want = block(x)
        for twin in twins:
            assert all(t.dtype == torch.float32 for t in kept(twin.half()))
            same(twin(x), want)
    assert {t.device.type for t in kept(block.to("meta"))} == {"meta"}


@each
def test_nothing_stays_on_meta(family, kind):
    with torch.device("meta"):
        block = make(family, kind, PERSISTS | {"shared_param": False}, **options_of(kind))
    trained = make(family, kind, PERSISTS | {"shared_param": False}, **options_of(kind))
    want = trained(events(kind))
    block.load_state_dict(trained.state_dict(), assign=True)
    parts = [m for m in block.modules() if isinstance(m, KeepsState)]
    states = [getattr(part, name) for part in parts for name in part._rest]
    tensors = (*block.parameters(), *block.buffers(), *(s for s in states if s is not None))
    assert {t.device.type for t in tensors} == {"cpu"}
    same(block(events(kind)), want)


@each
def test_averages_take_a_changing_batch(family, kind):
    block = make(family, kind, PERSISTS)
    average = AveragedModel(block, use_buffers=True)
    for batch in (2, 3, 1):
        block(events(kind, batch))
        average.update_parameters(block)
    average(events(kind))


MODES = (torch.inference_mode, torch.no_grad, torch.enable_grad)


@each
@pytest.mark.parametrize(
    "norm",
    [
        pytest.param(None, id="plain"),
        pytest.param(neurons.norm.WgtScaleBatchNorm, id="norm", marks=pytest.mark.slow),
    ],
)
def test_calls_of_every_mode_come_in_any_order(family, kind, norm):
    neuron = PERSISTS | {"shared_param": False, "requires_grad": True}
    if norm and kind not in ("Pool", "Unpool"):
        neuron["norm"] = norm
    x = events(kind)
    for first, second in itertools.product(MODES, MODES):
        block = make(family, kind, neuron, **options_of(kind))
        for mode, training in ((first, False), (second, True)):
            with mode():
                block.train(training)(x)
        block.load_state_dict(block.state_dict())
        z = x.clone().requires_grad_()
        y = block.train()(z)
        y.backward(torch.randn_like(y))
        assert present(z.grad).isfinite().all()
        assert not any(t.is_inference() for t in (*block.parameters(), *block.buffers()))
        assert not any(t.is_inference() for t in kept(block))


@each
@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
def test_recomputation_of_a_state_that_persists_is_refused(family, kind, reentrant):
    if kind == "Output" and not reentrant:
        pytest.skip("a sum needs nothing for its backward, so it is not computed again")
    block = make(family, kind, PERSISTS)
    x = events(kind).requires_grad_()
    y = checkpoint(block, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="persistent_state=True was called within a backward"):
        y.sum().backward()


@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@pytest.mark.parametrize("norm", [None, neurons.norm.MeanOnlyBatchNorm], ids=["kernel", "steps"])
def test_recomputation_without_a_persistent_state_works(reentrant, norm):
    block = make("cuba", "Recurrent", {"norm": norm}).eval()
    gradients = []
    for call in (block, lambda x: checkpoint(block, x, use_reentrant=reentrant)):
        x = events("Recurrent").requires_grad_()
        call(x).sum().backward()
        gradients.append(x.grad)
    same(*gradients)


def test_a_delay_alone_continues(device):
    x = torch.randn(2, 3, 30, device=device)
    whole, pieces = (Delay(max_delay=5, persistent_state=s).to(device) for s in (False, True))
    whole(x)
    pieces.load_state_dict(whole.state_dict())
    for module in (whole, pieces):
        module.delay.data.copy_(torch.tensor([0.0, 2.5, 5.0]))
    want = whole(x)
    same(torch.cat([pieces(part) for part in x.split((1, 2, 20, 7), -1)], -1), want)
    pieces.reset_state()
    assert pieces.tail is None
    same(pieces(x), want)
    with pytest.raises(ValueError, match="give a max_delay"):
        Delay(persistent_state=True)


def test_the_gradient_of_a_continued_delay_is_that_of_its_piece():
    x = torch.randn(2, 3, 12)
    steps = torch.tensor([0.5, 2.0, 3.0])
    whole, pieces = Delay(max_delay=5), Delay(max_delay=5, persistent_state=True)
    for module in (whole, pieces):
        module(x)
        module.reset_state()
        module.delay.data.copy_(steps)
    upstream = torch.randn(2, 3, 12)
    upstream[..., :6] = 0
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    whole(a).backward(upstream)
    pieces(b[..., :6])
    pieces(b[..., 6:]).backward(upstream[..., 6:])
    same(present(b.grad)[..., 6:], present(a.grad)[..., 6:])
    same(pieces.delay.grad, whole.delay.grad)


def test_a_network_from_a_file_streams(tmp_path):
    params = {"threshold": 0.75, "current_decay": 0.25, "voltage_decay": 0.125}
    cuba = lapilli.slayer.block.cuba
    net = torch.nn.Sequential(
        cuba.Dense(params, 6, 5, weight_scale=3, delay=True),
        cuba.Recurrent(params, 5, 4, weight_scale=3),
    )
    x = events("Dense")
    want = net(x)
    export.save(net, tmp_path / "a.net", target="lapilli")
    loaded = export.load(tmp_path / "a.net")
    modules: Iterator[Any] = loaded.modules()
    for module in modules:
        if hasattr(module, "persistent_state"):
            module.persistent_state = True
    for _ in range(2):
        lapilli.reset_state(loaded)
        same(torch.cat([loaded(x[..., t : t + 1]) for t in range(x.shape[-1])], -1), want)


COMPILED = {
    "cuba": lambda: neurons.cuba.Neuron(1.0, 0.25, 0.1, requires_grad=True, **PERSISTS),
    "alif": lambda: neurons.alif.Neuron(1.0, 0.5, 0.25, 0.1, 0.2, 0.3, **PERSISTS),
    "rf": lambda: neurons.rf.Neuron(1.0, 8, 0.1, requires_grad=True, **PERSISTS),
    "sigma_delta": lambda: neurons.sigma_delta.Neuron(0.125, torch.relu, **PERSISTS),
    "delay": lambda: Delay(max_delay=5, persistent_state=True),
}


@pytest.mark.parametrize(
    "name",
    [n if n in ("cuba", "delay") else pytest.param(n, marks=pytest.mark.slow) for n in COMPILED],
)
def test_compiled_calls_keep_the_same_state(name):
    eager = COMPILED[name]()

    def series():
        z = torch.randn(2, 3, 9).requires_grad_()
        return z, (z, z.flip(-1)) if name == "rf" else z

    eager(series()[1])  # settles a delay alone
    eager.reset_state()
    torch._dynamo.reset()
    twin = copy.deepcopy(eager)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        _, x = series()
        same(compiled(x), eager(x))
    _, x = series()
    same(twin(x), eager(x))  # in training, from what a compiled call in inference mode kept
    lapilli.reset_state(torch.nn.Sequential(eager, twin))
    torch._dynamo.reset()
    for seed in range(3):
        gradients = []
        for call in (eager, compiled):
            torch.manual_seed(seed)
            z, x = series()
            y = call(x)
            y.sum().backward()
            gradients += [(y.detach(), z.grad)]
        same(gradients[0][0], gradients[1][0])
        same(gradients[0][1], gradients[1][1])
    for a, b in zip(kept(eager), kept(twin), strict=True):
        same(a, b)
    for a, b in zip(eager.parameters(), twin.parameters(), strict=True):
        same(a.detach(), b.detach())
