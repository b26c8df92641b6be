"""lapilli's blocks inside DDP, FSDP2, distributed checkpoints and averaged models."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from faults import ADDS_UP
from known import present
from lapilli.blocks import alif, cuba, rf, sigma_delta
from tolerances import SHARED_GRADIENT
from torch import distributed
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close
from turns import soon

from lapilli import export
from lapilli.data import Dataset, Samples
from lapilli.program.recipes import RECIPES
from lapilli.training import Rates, fit

STEPS, BATCH = 16, 6
LEAKY: dict[str, Any] = {
    "threshold": 0.75, "current_decay": 0.25, "voltage_decay": 0.125, "requires_grad": True,
}  # fmt: skip
TURNS: dict[str, Any] = {"threshold": 0.25, "period": 8, "decay": 0.1, "requires_grad": True}
ADAPTS: dict[str, Any] = {"threshold_step": 0.125, "threshold_decay": 0.2, "refractory_decay": 0.5}
SENDS: dict[str, Any] = {
    "threshold": 0.125,
    "activation": torch.nn.functional.relu,
    "requires_grad": True,
}
WIDE: dict[str, Any] = {"weight_scale": 3}


def leaky(**changes):
    """Layers with everything that a CUBA layer can learn."""
    neuron = LEAKY | {"shared_param": False} | changes
    return [
        cuba.Dense(neuron, 6, 8, weight_norm=True, delay=True, **WIDE),
        cuba.Dense(neuron, 8, 4, **WIDE),
    ]


def frames(**changes):
    neuron = LEAKY | changes
    return [
        cuba.Conv(neuron, 2, 3, 3, padding=1, **WIDE), cuba.Pool(neuron, 2), cuba.Flatten(),
        cuba.Dense(neuron, 3 * 2 * 2, 4, **WIDE),
    ]  # fmt: skip


NETS = {
    "cuba": (leaky, (6,)),
    "conv": (frames, (2, 4, 4)),
    "recurrent": (lambda **n: [cuba.Recurrent(LEAKY | n, 6, 5, **WIDE)], (6,)),
    "kwta": (lambda **n: [cuba.KWTA(LEAKY | n, 6, 5, 2, **WIDE)], (6,)),
    "alif": (lambda **n: [alif.Dense(LEAKY | ADAPTS | n, 6, 5, **WIDE)], (6,)),
    "rf": (
        lambda **n: [rf.Dense(TURNS | {"shared_param": False} | n, 6, 5, delay=True, **WIDE)],
        (6,),
    ),
    "sigma_delta": (
        lambda **n: [
            sigma_delta.Input(SENDS | n), sigma_delta.Dense(SENDS | n, 6, 8, **WIDE),
            sigma_delta.Output(SENDS | n, 8, 4, **WIDE),
        ],
        (6,),
    ),
    "affine": (
        lambda **n: [*leaky(**n)[:1], cuba.Affine(LEAKY | n, 8, 4, dynamics=False)], (6,)
    ),
}  # fmt: skip
each_net = pytest.mark.parametrize("name", soon(("cuba", "conv"), NETS))


def network(name, **neuron) -> Any:
    torch.manual_seed(1)
    return torch.nn.Sequential(*NETS[name][0](**neuron))


def batch(name, samples=BATCH, seed=2):
    """Events of all ranks, and the share of this one."""
    torch.manual_seed(seed)
    x = (torch.rand(samples, *NETS[name][1], STEPS) < 0.4).float()
    return x, x[distributed.get_rank() :: distributed.get_world_size()]


def loss(y):
    """Mean over samples of something that is linear in no output."""
    return (y.mean(-1) - 0.3).square().flatten(1).sum(1).mean()


def same(a, b):
    assert_close(a, b, rtol=0, atol=0)


def gradients_are(net, want):
    for (key, one), other in zip(net.named_parameters(), want.parameters(), strict=True):
        if not other.requires_grad:
            continue
        assert one.grad is not None, f"{key} has no gradient"
        got = one.grad.full_tensor() if isinstance(one.grad, DTensor) else one.grad
        atol = SHARED_GRADIENT * other.grad.abs().max().item()
        assert_close(got, other.grad, rtol=0, atol=atol, msg=lambda m, key=key: f"{key}: {m}")


def same_in_all(tensors):
    """Whether all ranks hold the same tensors."""
    found = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, [t.detach() for t in tensors])
    for one, *others in zip(*found, strict=True):
        for other in others:
            same(one, other)


# DDP


def train_ddp(name):
    net, alone = network(name), network(name)
    x, mine = batch(name)
    parallel = DistributedDataParallel(net)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.01) for n in (net, alone)]
    for _ in range(3):
        y, want = parallel(mine), alone(x)
        loss(y).backward()
        loss(want).backward()
        same(y, want[distributed.get_rank() :: distributed.get_world_size()])
        gradients_are(net, alone)
        same_in_all([p.grad for p in net.parameters() if p.requires_grad])
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        same_in_all(net.parameters())
        alone.load_state_dict(net.state_dict())  # rounding must not add up over the steps


@each_net
def test_ddp_trains_as_one_process(both, name):
    both(train_ddp, name)


def persist_ddp(name):
    net, alone = network(name, persistent_state=True), network(name, persistent_state=True)
    parallel = DistributedDataParallel(net)
    mine = batch(name, seed=distributed.get_rank())[1]  # other samples on each rank
    for part in mine.split(5, -1):
        same(parallel(part), alone(part))
    for block in net:  # or the state has never counted
        if hasattr(block, "neuron"):
            block.neuron.reset_state()
    return bool((parallel(mine[..., -1:]) != alone(mine[..., -1:])).any())


@each_net
def test_every_rank_keeps_its_own_state(both, name):
    both(persist_ddp, name)


# FSDP2


def shard(name) -> Any:
    alone, net = network(name), network(name)
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    for block in net:
        if next(block.parameters(), None) is not None:
            fully_shard(block, mesh=mesh)
    return fully_shard(net, mesh=mesh), alone


def train_fsdp(name):
    net, alone = shard(name)
    x, mine = batch(name)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.01) for n in (net, alone)]
    for _ in range(3):
        y, want = net(mine), alone(x)
        same(y, want[distributed.get_rank() :: distributed.get_world_size()])
        loss(y).backward()
        loss(want).backward()
        gradients_are(net, alone)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():  # rounding must not add up over the steps
            for one, other in zip(net.parameters(), alone.parameters(), strict=True):
                other.copy_(one.full_tensor())
    assert all(isinstance(p, DTensor) for p in net.parameters())


def adds_up():
    """Whether gloo adds up the gradients of a plain layer, in place of taking their mean."""
    layer: Any = torch.nn.Linear(1, 1)
    fully_shard(layer, mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))
    layer(torch.ones(1, 1)).backward()
    return layer.weight.grad.full_tensor().item() != 1


@each_net
def test_fsdp_trains_as_one_process(both, name):
    if any(both(adds_up)):
        ADDS_UP.skip()
    both(train_fsdp, name)


def refuse_to_export():
    net, _ = shard("cuba")
    with pytest.raises(ValueError, match=r"layer 0: \S+ is divided among processes"):
        export.save(net, "never.net", input_shape=(6,))


def test_a_divided_network_is_in_no_file(both):
    both(refuse_to_export)


# checkpoints


def save_sharded(name, folder):
    net, _ = shard(name)
    mine = batch(name)[1]
    loss(net(mine)).backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    save({"model": get_model_state_dict(net)}, checkpoint_id=folder)
    return net(batch(name)[0]).detach()


def load_sharded(name, folder):
    net, _ = shard(name)
    state = {"model": get_model_state_dict(net)}
    load(state, checkpoint_id=folder)
    set_model_state_dict(net, state["model"])
    return net(batch(name)[0]).detach()


@each_net
def test_a_sharded_checkpoint_loads_into_fresh_networks(both, name, tmp_path):
    """In two processes and, sharded no longer, in one."""
    want, other = both(save_sharded, name, str(tmp_path))
    same(want, other)
    for got in both(load_sharded, name, str(tmp_path)):
        same(got, want)
    net = network(name)
    state = {"model": net.state_dict()}
    load(state, checkpoint_id=tmp_path, no_dist=True)
    net.load_state_dict(state["model"])
    torch.manual_seed(2)
    same(net((torch.rand(BATCH, *NETS[name][1], STEPS) < 0.4).float()).detach(), want)


def save_ddp(name, folder):
    net = network(name)
    parallel = DistributedDataParallel(net)
    x, mine = batch(name)
    loss(parallel(mine)).backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    save({"model": net.state_dict()}, checkpoint_id=folder)
    return net(x).detach()


@each_net
def test_a_checkpoint_of_ddp_loads_into_a_fresh_network(both, name, tmp_path):
    want, other = both(save_ddp, name, str(tmp_path))
    same(want, other)
    net = network(name)
    state = {"model": net.state_dict()}
    load(state, checkpoint_id=tmp_path, no_dist=True)
    net.load_state_dict(state["model"])
    torch.manual_seed(2)
    same(net((torch.rand(BATCH, *NETS[name][1], STEPS) < 0.4).float()).detach(), want)


# the recipes of ``lapilli train``


def samples(recipe, number, steps):
    """Random events in the shape of a recipe's data."""
    shape = {"digits": (64,), "nmnist": (2312,), "shd": (700,), "dvsgesture": (2, 32, 32)}[recipe]
    torch.manual_seed(3)
    spikes = (torch.rand(number, steps, *shape) < 0.1).float().movedim(1, -1)
    return Samples(spikes, torch.arange(number) % 10)


def one_step(name):
    """Gradients of one step of a recipe, and what its epoch says."""
    recipe = RECIPES[name]
    torch.manual_seed(0)
    net = recipe.network()
    modules: Iterator[Any] = net.modules()
    for module in modules:  # what acts on the share of each process, not on the batch
        if hasattr(module, "drop"):
            module.drop = module.norm = None
    data = samples(name, 8, 20)
    settings = {"epochs": 1, "batch_size": 8, "rates": Rates(1e-5, 1e-5)}
    (epoch,) = fit(net, Dataset(data, samples(name, 5, 20), 10), recipe.loss, **settings)
    return epoch, {n: p.grad for n, p in net.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", soon(("digits",), RECIPES))
def test_gradients_of_the_recipes_are_those_of_one_process(both, name):
    (one, of_one), (two, of_two) = both(one_step, name)
    want, gradients = one_step(name)
    for found, epoch in ((of_one, one), (of_two, two)):
        assert epoch.loss == pytest.approx(want.loss, rel=1e-6)
        assert epoch.train_accuracy == want.train_accuracy
        assert epoch.test_accuracy == pytest.approx(want.test_accuracy)
        assert found.keys() == gradients.keys()
        for key, one in gradients.items():
            gradient = present(one)
            atol = SHARED_GRADIENT * gradient.abs().max().item()
            assert gradient.any(), key
            assert_close(found[key], gradient, rtol=0, atol=atol, msg=lambda m, k=key: f"{k}: {m}")


def uneven():
    data = Samples(torch.zeros(9, 64, 4), torch.zeros(9, dtype=torch.int64))
    with pytest.raises(ValueError, match="2 processes cannot share batches of 3 samples"):
        next(
            fit(
                RECIPES["digits"].network(), Dataset(data, data, 10), RECIPES["digits"].loss,
                epochs=1, batch_size=3, rates=Rates(),
            )
        )  # fmt: skip
    assert distributed.get_world_size() == 2


def test_what_cannot_be_shared(both):
    both(uneven)


# averaged models


@pytest.mark.parametrize("buffers", [False, True], ids=["parameters", "buffers too"])
@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.5)], ids=["mean", "ema"])
@each_net
def test_averaged_models(name, average, buffers):
    net = network(name, persistent_state=True)
    averaged = AveragedModel(net, multi_avg_fn=average, use_buffers=buffers)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    seen = []
    for samples in (2, 3, 1):  # another state each time
        torch.manual_seed(samples)
        x = (torch.rand(samples, *NETS[name][1], STEPS) < 0.4).float()
        loss(net(x)).backward()
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(net)
        seen.append([p.detach().clone() for p in net.parameters()])
    weights = (1 / 3, 1 / 3, 1 / 3) if average is None else (1 / 4, 1 / 4, 1 / 2)
    for parameter, *values in zip(averaged.module.parameters(), *seen, strict=True):
        want = sum(w * v for w, v in zip(weights, values, strict=True))
        assert_close(parameter.detach(), want)
    # its state is its own: at rest, whatever the network has kept
    fresh = copy.deepcopy(averaged.module)
    twin = network(name, persistent_state=True)
    twin.load_state_dict(fresh.state_dict())
    torch.manual_seed(7)
    x = (torch.rand(2, *NETS[name][1], STEPS) < 0.4).float()
    same(averaged(x).detach(), twin(x).detach())
