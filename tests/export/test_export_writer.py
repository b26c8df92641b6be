"""The format as the writer produces it, what it says of netx, and what saving must not change."""

import copy
import json
import warnings
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from export_networks import (
    CUBA,
    MASK,
    MEAN,
    ROTATING,
    conv_net,
    mlp,
    network,
    settle,
    settled_dense,
    spikes,
)
from export_trees import saved
from known import wrong
from lapilli.blocks import cuba, rf
from test_export_limits import broken
from torch import nn

from lapilli import export, neurons


def shown(data, layer):
    """Shape and type of each dataset of a layer."""
    prefix = f"layer/{layer}/"
    return {
        k.removeprefix(prefix): (np.shape(v), np.asarray(v).dtype.str.lstrip("<|"))
        for k, v in data.items()
        if k.startswith(prefix)
    }


NEURON = {
    "neuron/type": ((), "S4"),
    "neuron/iDecay": ((), "i8"),
    "neuron/vDecay": ((), "i8"),
    "neuron/vThMant": ((), "i8"),
    "neuron/refDelay": ((), "i8"),
    "neuron/gradedSpike": ((), "b1"),
}


def dense_shapes(inputs, outputs):
    return NEURON | {
        "type": ((1,), "S10"),
        "shape": ((1,), "i8"),
        "inFeatures": ((), "i8"),
        "outFeatures": ((), "i8"),
        "weight": ((outputs, inputs), "f4"),
    }


def test_mlp_of_the_specification(tmp_path):
    net = settle(mlp(), (34,))
    data = saved(net, tmp_path, strict=True)
    assert shown(data, 0) == dense_shapes(34, 16) | {"delay": ((16,), "f4")}
    assert shown(data, 1) == dense_shapes(16, 8)
    assert shown(data, 2) == dense_shapes(8, 3)
    first = {k.removeprefix("layer/0/"): v for k, v in data.items() if k.startswith("layer/0/")}
    assert first["type"].tolist() == [b"dense"]
    assert first["neuron/type"] == b"CUBA"
    numbers = ("iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike")
    assert [first[f"neuron/{n}"] for n in numbers] == [1024, 123, 80, 1, False]
    assert (first["weight"] % 2 == 0).all()
    weight = net[0].synapse.effective_weight().detach().flatten(1).numpy()
    np.testing.assert_array_equal(first["weight"], weight * 64)
    np.testing.assert_array_equal(first["delay"], np.floor(net[0].delay.delay.detach().numpy()))


def test_conv_net_of_the_specification(tmp_path):
    data = saved(settle(conv_net(), (2, 12, 10)), tmp_path, strict=True)
    types = [data[f"layer/{i}/type"][0] for i in range(5)]
    assert types == [b"input", b"conv", b"conv", b"flatten", b"dense"]
    shapes = [data[f"layer/{i}/shape"].tolist() for i in range(5)]
    assert shapes == [[2, 12, 10], [8, 12, 10], [16, 5, 4], [320, 1, 1], [11]]
    assert shown(data, 0) == {"type": ((1,), "S10"), "shape": ((3,), "i8")}
    assert shown(data, 1) == NEURON | {
        "type": ((1,), "S10"),
        "shape": ((3,), "i8"),
        "inChannels": ((), "i8"),
        "outChannels": ((), "i8"),
        "kernelSize": ((2,), "i8"),
        "stride": ((2,), "i8"),
        "padding": ((2,), "i8"),
        "dilation": ((2,), "i8"),
        "groups": ((), "i8"),
        "weight": ((8, 2, 3, 3), "f4"),
        "bias": ((8,), "f4"),
    }
    assert shown(data, 3) == {"type": ((1,), "S10"), "shape": ((3,), "i8")}
    assert shown(data, 4) == dense_shapes(320, 11)


def test_version_block(tmp_path):
    saved(settle(mlp(), (34,)), tmp_path)
    with h5py.File(tmp_path / "a.net") as file:
        root = dict(file.attrs)
        assert (root["format"], root["format_version"], root["num_layers"]) == (
            b"lapilli-net",
            2,
            3,
        )
        assert list(file) == ["layer"]
        attributes: dict[str, Any] = dict(file["layer/0"].attrs)
    assert (attributes["module"], attributes["block"]) == (b"cuba", b"Dense")
    assert not attributes["inserted"]
    params = json.loads(attributes["params"])
    assert (params["in_neurons"], params["out_neurons"], params["delay"]) == (34, 16, True)
    assert params["neuron_params"]["threshold"] == 1.25


def test_dense_on_an_image_gets_a_flatten(tmp_path):
    net, _ = network("tuple dense")
    data = saved(net, tmp_path)
    types = [data[f"layer/{i}/type"][0] for i in range(3)]
    assert types == [b"flatten", b"dense", b"dense"], "flattens after a dense layer are not written"
    with h5py.File(tmp_path / "a.net") as file:
        assert file["layer/0"].attrs["inserted"]
        assert not file["layer/1"].attrs["inserted"]


def test_affine_never_fires(tmp_path):
    net, _ = network("tuple dense")
    data = saved(net, tmp_path)
    assert data["layer/2/neuron/vThMant"] == 262143
    assert "layer/2/bias" in data


def test_affine_without_dynamics_has_no_neuron(tmp_path):
    refused = r"adds up what an Affine without dynamics gives: layer 0 \(cuba.Affine\)"
    with pytest.warns(export.NetxCompatibilityWarning, match=refused):
        data = saved([cuba.Affine(CUBA, 6, 4, dynamics=False)], tmp_path)
    assert not [k for k in data if "neuron" in k]


def test_masked_weights_are_zero(tmp_path):
    net, _ = network("mask and weight norm")
    with torch.no_grad():
        net[0].synapse.weight_v.fill_(1)  # as an optimiser that knows of no mask
    weight = saved(net, tmp_path)["layer/0/weight"]
    assert not weight[~MASK.numpy()].any()
    assert weight[MASK.numpy()].all()


# where blocks are found


class Holder(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.loss = nn.Linear(2, 2)


def test_blocks_are_found_in_order():
    a, b, c = (settled_dense() for _ in range(3))
    nested = nn.Sequential(nn.ModuleDict({"z": a, "a": nn.Sequential(b, nn.Identity())}), c)
    for net in ([a, b, c], (a, b, c), nested, Holder([a, b, c]), Holder([nn.Sequential(a, b), c])):
        assert export.blocks_of(net) == [a, b, c]
    assert export.blocks_of(a) == [a]


def test_a_block_used_twice_is_two_layers(tmp_path):
    block = settle(cuba.Dense(CUBA, 6, 6), (6,))
    export.save(nn.Sequential(block, block), tmp_path / "a.net")
    assert len(export.load(tmp_path / "a.net")) == 2


# warnings about netx


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: cuba.Pool(CUBA, 2), (2, 4, 4), "no convT, pool"),
        (lambda: cuba.Unpool(CUBA, 2), (2, 4, 4), "no convT, pool"),
        (lambda: cuba.ConvT(CUBA, 2, 2, 2), (2, 4, 4), "no convT, pool"),
        (lambda: cuba.Average(4), (8,), "no convT, pool"),
        (lambda: cuba.TimeDecimation(2), (8,), "no convT, pool"),
        (lambda: cuba.Dense(CUBA | {"graded_spike": True}, 6, 4), (6,), "binary, not graded"),
        (lambda: cuba.Conv(CUBA, 2, 2, 2, delay=True), (2, 4, 4), "ignores the delays"),
        (lambda: cuba.Dense(CUBA | MEAN, 6, 4, delay=True), (6,), "does not delay the bias"),
        (lambda: cuba.Dense(CUBA | {"norm": neurons.norm.WgtScaleBatchNorm}, 6, 4), (6,),
         "ignores the exponent"),
        (lambda: cuba.Dense(CUBA | {"scale": 50}, 6, 4), (6,), "powers of two"),
        (lambda: cuba.Dense(CUBA, 6, 4, weight_scale=0), (6,), "all zero"),
        (lambda: cuba.Dense(CUBA, 6, 4, pre_hook_fx=lambda w: -torch.ones_like(w)), (6,),
         "minimum is a power of two"),
    ],
)  # fmt: skip
def test_what_netx_cannot_run_is_said(make, shape, message, tmp_path):
    net = [settle(make(), shape)]
    with pytest.warns(export.NetxCompatibilityWarning, match=f"{message}.*layer 0") as caught:
        export.save(net, tmp_path / "a.net")
    assert len([w for w in caught if w.category is export.NetxCompatibilityWarning]) == 1
    with pytest.raises(ValueError, match=message):
        export.save(net, tmp_path / "b.net", strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export.save(net, tmp_path / "c.net", target="lapilli", strict=True)


@pytest.mark.parametrize("kind", [("Recurrent", 6, 4), ("KWTA", 6, 4, 2)], ids=lambda k: k[0])
def test_complex_recurrence_is_refused_for_netx(kind, tmp_path):
    name, *sizes = kind
    net = [settle(getattr(rf, name)(ROTATING, *sizes), (6,))]
    with pytest.raises(
        NotImplementedError, match=rf"layer 0 \(rf.{name}\): netx would load it and"
    ):
        export.save(net, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
    export.save(net, tmp_path / "a.net", target="lapilli", strict=True)


def test_one_warning_for_each_cause(tmp_path):
    net = settle(nn.Sequential(cuba.Pool(CUBA, 2), cuba.Pool(CUBA, 2)), (2, 8, 8))
    with pytest.warns(export.NetxCompatibilityWarning, match=r"layer 0 .*1 ") as caught:
        export.save(net, tmp_path / "a.net")
    assert len(caught) == 1


# one block


def test_export_block_fills_a_group_or_leaves_it(tmp_path):
    with h5py.File(tmp_path / "a.net", "w") as file:
        settled_dense().export_hdf5(file.create_group("layer/0"))
        group = file.create_group("layer/1")
        with pytest.raises(ValueError, match=r"block for /layer/1 \(cuba.Dense\): weight"):
            export.export_block(broken("weight", torch.nan), group)
        assert not len(group)
        assert not len(group.attrs)
        with pytest.raises(ValueError, match="/layer/0 is not empty"):
            export.export_block(settled_dense(), wrong(file["layer/0"]))


def test_file_of_single_blocks_loads(tmp_path):
    net, shape = network("delay")
    with h5py.File(tmp_path / "a.net", "w") as file:
        for i, block in enumerate(net):
            block.export_hdf5(file.create_group(f"layer/{i}"))
    x = spikes(2, *shape, 60)
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), net(x), rtol=0, atol=0)


# side effects


@pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["image", "options", "mask and weight norm", "channel decays"])
def test_saving_changes_nothing(name, training, tmp_path):
    net, _ = network(name)
    net.train(training)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3)
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    gradients = {k: p.grad for k, p in net.named_parameters()}
    before = copy.deepcopy(net.state_dict())
    buffers = {k: v.clone() for k, v in net.named_buffers()}
    identities = {k: id(p) for k, p in net.named_parameters()}
    generator = torch.get_rng_state()
    export.save(net, tmp_path / "a.net", with_state=True)
    torch.testing.assert_close(torch.get_rng_state(), generator)
    assert {k: id(p) for k, p in net.named_parameters()} == identities
    for key, parameter in net.named_parameters():
        assert parameter.grad is gradients[key]
        assert parameter.grad is None or bool((parameter.grad == 1).all())
    assert all(m.training is training for m in net.modules())
    torch.testing.assert_close(dict(net.state_dict()), dict(before), rtol=0, atol=0)
    torch.testing.assert_close(dict(net.named_buffers()), buffers, rtol=0, atol=0)
