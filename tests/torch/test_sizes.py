"""Parameters of each channel: sized when a block is built, drawn at the first call."""

import copy
import os
import pickle

import pytest
import torch
from cells import KINDS, cells_of, events, make, same
from faults import raises_in_a_graph
from lapilli.blocks.delay import Delay
from lapilli.neurons import cuba, delta, norm, rf, sigma_delta
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn.parameter import UninitializedParameter, is_lazy
from torch.optim.swa_utils import AveragedModel

from lapilli import neurons

EACH = {"shared_param": False, "requires_grad": True}
UNKNOWN = ("Input", "Pool", "Unpool")  # their channels are those of the input
DELAYED = ("Dense", "Conv", "ConvT", "Pool", "Unpool", "Recurrent")


def lazy(family, kind, **neuron):
    """Make a block of which all that can have one value a channel has."""
    if kind not in ("Pool", "Unpool"):
        neuron = {"norm": norm.MeanOnlyBatchNorm} | neuron
    return make(family, kind, EACH | neuron, **({"delay": True} if kind in DELAYED else {}))


def per_channel(block):
    """Return the parameters that have one value a channel."""
    names = ("decay", "delta.threshold", "delay.delay")
    return {n: p for n, p in block.named_parameters() if n.endswith(names)}


@cells_of["neuron"]
def test_sizes_are_known_when_the_channels_are(family, kind):
    block = lazy(family, kind)
    found = per_channel(block)
    assert found
    assert all(is_lazy(p) == (kind in UNKNOWN) for p in found.values())
    before = {n: (id(p), None if is_lazy(p) else p.shape) for n, p in found.items()}
    buffers = {n: b.shape for n, b in block.named_buffers()}
    block(events(kind))
    channels = KINDS[kind].outputs[0]
    for name, parameter in per_channel(block).items():
        assert parameter.numel() == channels, name
        assert id(parameter) == before[name][0], "optimizers hold it"
        if kind not in UNKNOWN:
            assert parameter.shape == before[name][1], name
            assert (parameter >= 0).all()
    if kind not in UNKNOWN:
        assert {n: b.shape for n, b in block.named_buffers()} == buffers


@cells_of["neuron"]
def test_building_draws_no_more_than_lava_dl(family, kind):
    states = []
    for options in ({}, EACH):
        torch.manual_seed(1)
        make(family, kind, options, **({"delay": True} if options and kind in DELAYED else {}))
        states.append(torch.get_rng_state())
    same(*states)


def test_the_first_call_draws_in_lava_dls_order():
    block = lazy("cuba", "Dense", current_decay=(0.1, 0.4), voltage_decay=(0.05, 0.3))
    provisional = {n: p.detach().clone() for n, p in per_channel(block).items()}
    assert provisional["neuron.current_decay"].min() >= 409
    assert provisional["neuron.current_decay"].max() <= 1639
    assert provisional["delay.delay"].unique().numel() == 5
    assert block.neuron.current_decay_min == 0.1
    assert not block.delay.init
    assert block.delay.shape == (5,)
    x = events("Dense")
    torch.manual_seed(4)
    block(x)
    torch.manual_seed(4)
    want = [
        4096 * (0.1 + (0.4 - 0.1) * torch.rand(5)), 4096 * (0.05 + (0.3 - 0.05) * torch.rand(5)),
        torch.rand(5),
    ]  # fmt: skip
    for values, drawn in zip(per_channel(block).values(), want, strict=True):
        same(values.detach(), drawn)
    assert not hasattr(block.neuron, "current_decay_min")
    assert block.delay.init
    torch.manual_seed(4)
    block(x)
    for values, drawn in zip(per_channel(block).values(), want, strict=True):
        same(values.detach(), drawn)


def checkpoint(block):
    other = lazy("rf", "Dense")
    other(events("Dense"))
    block.load_state_dict(other.state_dict())


def step(block):
    optimizer = torch.optim.SGD(block.parameters(), 0.0)
    for parameter in block.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def by_hand(block):
    with torch.no_grad():
        for parameter in per_channel(block).values():
            parameter.mul_(0.5)


WRITES = {
    "checkpoint": checkpoint,
    "optimizer": step,
    "hand": by_hand,
    "copy": lambda block: None,
    "pickle": lambda block: None,
}


@pytest.mark.parametrize("how", WRITES)
def test_what_was_written_is_not_drawn_again(how):
    block = lazy("rf", "Dense", period=(5, 20), log_init=False)
    if how == "copy":
        block = copy.deepcopy(block)
    if how == "pickle":
        block = pickle.loads(pickle.dumps(block))
    WRITES[how](block)
    block.neuron.clamp()
    want = {n: p.detach().clone() for n, p in per_channel(block).items()}
    x = events("Dense")
    before = torch.get_rng_state()
    block(x)
    same(torch.get_rng_state(), before)
    for name, parameter in per_channel(block).items():
        same(parameter.detach(), want[name])


def test_moving_and_saving_do_not_count_as_writing():
    block = lazy("cuba", "Dense").half().to("cpu")
    torch.save(block.state_dict(), os.devnull)
    other = lazy("cuba", "Dense")
    x = events("Dense")
    torch.manual_seed(3)
    want = other(x)
    torch.manual_seed(3)
    same(block(x), want)
    for a, b in zip(block.parameters(), other.parameters(), strict=True):
        same(a.detach(), b.detach())


def test_parameters_of_somebody_else_leave_the_draw_for_later():
    block, twin = lazy("cuba", "Dense"), lazy("cuba", "Dense")
    given = {n: p.detach().clone() for n, p in twin.named_parameters()}
    x = events("Dense")
    before = torch.get_rng_state()
    functional_call(block, given, x)
    same(torch.get_rng_state(), before)
    for call in (block, twin):
        torch.manual_seed(3)
        call(x)
    for a, b in zip(block.parameters(), twin.parameters(), strict=True):
        same(a.detach(), b.detach())


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@cells_of["neuron"]
def test_ddp_takes_a_network_that_was_never_called(family, kind, one_process):
    if not any(p.requires_grad for p in make(family, kind).parameters()):
        kind = "Dense"  # a block that is sized by its input would learn nothing else
    block = lazy(family, kind)
    if kind in UNKNOWN:
        with pytest.raises(RuntimeError, match="uninitialized parameters"):
            torch.nn.parallel.DistributedDataParallel(block)
        return
    want = {n: p.detach().clone() for n, p in per_channel(block).items()}
    ddp = torch.nn.parallel.DistributedDataParallel(block)
    for _ in range(2):  # the second forward finds out whether every gradient came
        ddp(events(kind)).sum().backward()
    block.neuron.clamp()
    for name, parameter in per_channel(block).items():
        same(parameter.detach(), want[name])
        assert parameter.grad.isfinite().all()


@cells_of["neuron"]
def test_averages_begin_before_the_first_call(family, kind):
    if kind in UNKNOWN:
        pytest.skip("torch's averages do not take parameters without a size")
    block = lazy(family, kind)
    average = AveragedModel(block, use_buffers=True)
    for _ in range(2):
        block(events(kind))
        average.update_parameters(block)
    for a, b in zip(average.module.parameters(), block.parameters(), strict=True):
        same(a.detach(), b.detach())


@cells_of["neuron"]
def test_fresh_blocks_load_trained_ones_either_way(family, kind):
    trained = lazy(family, kind)
    trained(events(kind))
    x = events(kind)
    want = trained.eval()(x)
    for assign in (False, True):
        fresh = lazy(family, kind).eval()
        fresh.load_state_dict(trained.state_dict(), assign=assign)
        before = torch.get_rng_state()
        same(fresh(x), want)
        same(torch.get_rng_state(), before)


@cells_of["neuron"]
def test_checkpoints_of_one_value_load(family, kind):
    """They come from networks that share a parameter, or from older ones never called."""
    state = lazy(family, kind).state_dict()
    for name in per_channel(lazy(family, kind)):
        state[name] = torch.full((1,), 0.0 if name == "delay.delay" else 300.0)
    block = lazy(family, kind)
    block.load_state_dict(state, strict=True)
    torch.manual_seed(2)
    block(events(kind))
    for name, parameter in per_channel(block).items():
        assert parameter.numel() == KINDS[kind].outputs[0]
        if name == "delay.delay":
            assert parameter.unique().numel() == parameter.numel(), "that zero was never drawn"
        elif not name.endswith("cos_decay"):
            assert (parameter == 300).all(), name


ALONE = {
    "cuba": lambda: cuba.Neuron(1.0, 0.25, 0.1, shared_param=False),
    "rf": lambda: rf.Neuron(1.0, 8, 0.1, shared_param=False),
    "sigma_delta": lambda: sigma_delta.Neuron(1.0, torch.relu, shared_param=False),
    "Delta": lambda: delta.Delta(1.0, shared_param=False),
    "Delay": lambda: Delay(max_delay=62),
}


def of(name, x):
    return (x, x) if name == "rf" else x


@pytest.mark.parametrize("name", ALONE)
def test_alone_torchs_conventions_hold(name):
    module = ALONE[name]()
    unsized = [n for n, p in module.named_parameters() if isinstance(p, UninitializedParameter)]
    assert unsized
    state = module.state_dict()
    assert all(isinstance(state[n], UninitializedParameter) for n in unsized)
    twin, fresh = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    fresh.load_state_dict(state, strict=True)
    for other in (twin, fresh):
        assert [n for n, p in other.named_parameters() if is_lazy(p)] == unsized
    x = of(name, torch.randn(2, 3, 9))
    torch.manual_seed(1)
    want = module(x)
    torch.manual_seed(1)
    same(twin(x), want)
    fresh.load_state_dict(module.state_dict(), strict=True)
    same(fresh(x), want)
    assert all(type(p) is torch.nn.Parameter for p in module.parameters())
    with pytest.raises(RuntimeError, match="uninitialized parameter"):
        module.load_state_dict(ALONE[name]().state_dict())


@pytest.mark.parametrize("name", ALONE)
def test_a_first_call_under_compile_asks_for_one_before(name):
    module = ALONE[name]()
    with raises_in_a_graph("call the network once before it is compiled"):
        torch.compile(module, backend="eager", fullgraph=True)(of(name, torch.randn(2, 3, 9)))


@pytest.mark.parametrize("fake", [FakeTensorMode, lambda: torch.device("meta")])
@cells_of["neuron"]
def test_blocks_are_built_without_memory(family, kind, fake):
    with fake():
        for neuron in ({}, EACH):
            make(family, kind, neuron, **({"delay": True} if kind in DELAYED else {}))


@pytest.fixture
def default_dtype(request):
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@cells_of["neuron"]
def test_the_default_type_changes_nothing(family, kind, dtype, default_dtype):
    trained = lazy(family, kind)
    want = trained(events(kind))
    x = events(kind)
    default_dtype(dtype)
    block = lazy(family, kind)
    for name, parameter in block.named_parameters():
        if not is_lazy(parameter):
            assert parameter.dtype == torch.float32, name
    assert all(b.dtype == torch.float32 for b in block.buffers())
    block.load_state_dict(trained.state_dict())
    y = block(x)
    assert y.dtype == torch.float32
    same(y, want)
    if kind in UNKNOWN:
        neuron = lazy(family, kind).neuron
        z = torch.rand(2, 3, 9, dtype=torch.float32)
        neuron((z, z) if neuron.complex else z)
        assert all(p.dtype == torch.float32 for p in neuron.parameters())


def frozen(kind):
    return {
        "one": lambda: neurons.cuba.Neuron(1.0, 0.5, 0.5),
        "channels": lambda: neurons.cuba.Neuron(1.0, 0.5, 0.5, shared_param=False),
        "rotation": lambda: neurons.rf.Neuron(1.0, 8, 0.5),
        "adaptive": lambda: neurons.alif.Neuron(1.0, 0.5, 0.5, 0.5, 0.5, 0.5),
    }[kind]()


@pytest.mark.parametrize("kind", ["one", "channels", "rotation", "adaptive"])
@pytest.mark.parametrize("called", [False, True])
def test_frozen_parameters_must_be_finite_too(kind, called):
    neuron = frozen(kind)
    x = torch.randn(2, 3, 5)
    x = (x, x) if neuron.complex else x
    if called or kind == "channels":
        neuron(x)
        neuron(x)
    name, parameter = list(neuron.named_parameters())[-1]
    with torch.no_grad():
        parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match=f"{name} of a .* is not finite"):
        neuron(x)


def test_delays_and_excitations_must_be_finite():
    block, kwta = make("cuba", "Dense", delay=True), make("cuba", "KWTA")
    block(events("Dense"))
    for module, parameter in ((block, block.delay.delay), (kwta, kwta.self_excitation)):
        with torch.no_grad():
            parameter.fill_(float("inf"))
        with pytest.raises(ValueError, match="is not finite"):
            module(events("Dense"))


@pytest.mark.parametrize("kind", DELAYED)
@pytest.mark.parametrize("family", ["cuba", "rf"])
def test_blocks_are_built_in_inference_mode(family, kind):
    with torch.inference_mode():
        torch.manual_seed(0)
        block = make(family, kind, delay=True)
        got = block(events(kind))
    torch.manual_seed(0)
    same(got, make(family, kind, delay=True)(events(kind)))
