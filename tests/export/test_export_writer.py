"""The format as the writer produces it, its limits, and what saving must not do."""

import copy
import errno
import json
import os
import warnings

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
from export_trees import datasets
from lapilli.blocks import cuba, rf
from torch import nn

from lapilli import export, neurons


def saved(net, tmp_path, **options):
    """Save a network and return the datasets of the file."""
    export.save(net, tmp_path / "a.net", **options)
    with h5py.File(tmp_path / "a.net") as file:
        return datasets(file)


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
        attributes = dict(file["layer/0"].attrs)
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


# values that change


def test_clamped_weights_are_reported(tmp_path):
    net = settled_dense()
    with torch.no_grad():
        net.synapse.weight.view(-1)[:2] = torch.tensor([5.0, -4.5])
    with pytest.warns(
        export.QuantisationWarning, match=r"layer 0 \(cuba.Dense\): weight: 2 values"
    ):
        weight = saved([net], tmp_path)["layer/0/weight"]
    assert weight.reshape(-1)[:2].tolist() == [254, -256]
    with pytest.raises(ValueError, match=r"largest excess 1\.03125"):
        export.save([net], tmp_path / "b.net", strict=True)
    assert not (tmp_path / "b.net").exists()


def test_clamped_norm_is_reported(tmp_path):
    net = settled_dense(params=MEAN)
    net.neuron.norm.running_mean[1] = -7
    with pytest.warns(export.QuantisationWarning, match="bias: 1 values"):
        assert saved([net], tmp_path)["layer/0/bias"][1] == 256


def test_weights_without_hook_are_rounded_and_reported(tmp_path):
    net = settled_dense(pre_hook_fx=None)
    with torch.no_grad():
        net.synapse.weight.fill_(0.265625)
    with pytest.warns(
        export.QuantisationWarning, match=r"rounded to 8 bit, largest error 0.015625"
    ):
        weight = saved([net], tmp_path)["layer/0/weight"]
    assert (weight == 16).all()


def test_hook_without_descale(tmp_path):
    net = settled_dense(pre_hook_fx=lambda w: torch.sign(w) / 2)
    weight = saved([net], tmp_path, strict=True)["layer/0/weight"]
    np.testing.assert_array_equal(
        weight, 32 * torch.sign(net.synapse.weight.detach()).flatten(1).numpy()
    )


# limits


def broken(name, value):
    """A block with one value that the format cannot hold."""
    net = settled_dense(delay=True, params=MEAN)
    with torch.no_grad():
        match name:
            case "weight":
                net.synapse.weight[0, 0] = value
            case "hook":
                net.synapse.pre_hook_fx = lambda w: torch.full_like(w, value)
            case "bias":
                net.neuron.norm.running_mean[0] = value
            case "bias hook":
                net.neuron.norm.pre_hook_fx = lambda m: torch.full_like(m, value)
            case "delay":
                net.delay.delay[0] = value
            case "threshold":
                net.neuron._threshold = value
            case _:
                getattr(net.neuron, name).fill_(value)
    return net


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weight", torch.nan, "weight: holds values that are not finite"),
        ("weight", torch.inf, "weight: holds values that are not finite"),
        ("hook", 4.0, "weight: holds 256; allowed are -256 to 254"),
        ("hook", -4.1, "weight: holds -262; allowed are -256 to 254"),
        ("bias", torch.nan, "bias: holds values that are not finite"),
        ("bias hook", 4.0, "bias: holds -256; allowed are -254 to 256"),
        ("delay", torch.nan, "delay: holds values that are not finite"),
        ("threshold", 2048.0, "neuron/vThMant: holds 131072; allowed are 1 to 131071"),
        ("threshold", 0.001, "neuron/vThMant: holds 0; allowed are 1 to 131071"),
        ("current_decay", 4097.0, "neuron/iDecay: holds 4097; allowed are 0 to 4096"),
        ("current_decay", torch.nan, "neuron/iDecay: holds values that are not finite"),
        ("voltage_decay", -1.0, "neuron/vDecay: holds -1; allowed are 0 to 4096"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::lapilli.export.QuantisationWarning")
def test_values_beyond_the_chip_are_refused(name, value, message, tmp_path):
    net = [settled_dense(), broken(name, value)]
    net[0].synapse = net[1].synapse.__class__(6, 6, pre_hook_fx=net[0].synapse.pre_hook_fx)
    net[0].neuron.shape = torch.Size((6,))
    with pytest.raises(ValueError, match=rf"layer 1 \(cuba.Dense\): {message}"):
        export.save(net, tmp_path / "a.net", target="lapilli")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::lapilli.export.QuantisationWarning")
@pytest.mark.parametrize(
    ("name", "value", "dataset", "written"),
    [
        ("hook", 3.96875, "weight", 254),
        ("hook", -4.0, "weight", -256),
        ("delay", 62.9, "delay", 62),
        ("delay", 1000.0, "delay", 62),
        ("delay", -0.5, "delay", 0),
        ("threshold", 2047.984375, "neuron/vThMant", 131071),
        ("threshold", 1 / 64, "neuron/vThMant", 1),
        ("current_decay", 4096.0, "neuron/iDecay", 4096),
        ("voltage_decay", 0.0, "neuron/vDecay", 0),
        ("voltage_decay", 0.5, "neuron/vDecay", 0),
        ("voltage_decay", 1.5, "neuron/vDecay", 2),
    ],
)
def test_values_at_the_limits_are_written(name, value, dataset, written, tmp_path):
    data = saved([broken(name, value)], tmp_path, target="lapilli")
    assert np.asarray(data[f"layer/0/{dataset}"]).reshape(-1)[0] == written


def test_learned_decays_are_written_as_forward_clamps_them(tmp_path):
    net = settled_dense(params={"requires_grad": True})
    with torch.no_grad():
        net.neuron.current_decay.fill_(5000)
    assert saved([net], tmp_path)["layer/0/neuron/iDecay"] == 4096
    assert net.neuron.current_decay.item() == 5000


@pytest.mark.parametrize("make", [cuba.Flatten, lambda: cuba.Dense(CUBA, 6, 4), cuba.Input,
                                  lambda: cuba.TimeDecimation(2)])  # fmt: skip
def test_block_without_shape_is_refused(make, tmp_path):
    with pytest.raises(
        RuntimeError, match=r"layer 0 \(cuba\.\w+\) does not know its shape.*forward"
    ):
        export.save([make()], tmp_path / "a.net")


def test_block_without_drawn_decays_is_refused(tmp_path):
    own = CUBA | {"shared_param": False}
    with pytest.raises(RuntimeError, match=r"layer 0 \(cuba.Affine\)"):
        export.save([cuba.Affine(own, 6, 4)], tmp_path / "a.net")


def test_dense_at_every_position_is_refused(tmp_path):
    net = settle(cuba.Dense(CUBA, 2, 4), (2, 3, 3))
    with pytest.raises(ValueError, match="Conv with kernel_size=1"):
        export.save([net], tmp_path / "a.net")


def test_unknown_norm_is_refused(tmp_path):
    net = settle(cuba.Dense(CUBA | {"norm": nn.Identity}, 6, 4), (6,))
    with pytest.raises(ValueError, match=r"norm Identity is not one of lapilli\.neurons\.norm"):
        export.save([net], tmp_path / "a.net")


def test_layers_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"layer 1 \(cuba.Dense\): weight: has 6 inputs.* 4 neurons"
    ):
        export.save([settled_dense(), settled_dense()], tmp_path / "a.net")


@pytest.mark.parametrize("net", [nn.Sequential(nn.Linear(2, 2)), [3], nn.ReLU(), nn.Sequential()])
def test_what_is_no_block_is_refused(net, tmp_path):
    with pytest.raises(TypeError, match=r"neither a block of lapilli\.blocks nor a container"):
        export.save(net, tmp_path / "a.net")


def test_unknown_target_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'netx' or 'lapilli'; got 'loihi'"):
        export.save([settled_dense()], tmp_path / "a.net", target="loihi")


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
            export.export_block(settled_dense(), file["layer/0"])


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


# the file on the disk


def old_file(tmp_path):
    path = tmp_path / "a.net"
    export.save([settled_dense()], path)
    return path, path.read_bytes()


@pytest.mark.parametrize("where", ["file_image", "read_back", "os.fsync", "os.replace"])
def test_a_failure_leaves_the_old_file(where, tmp_path, monkeypatch):
    path, before = old_file(tmp_path)

    def fail(*_args):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(f"lapilli.export.network.saving.{where}", fail)
    with pytest.raises(OSError, match="no space left"):
        export.save([settled_dense(delay=True)], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch):
    path, before = old_file(tmp_path)
    write = h5py.Group.__setitem__

    def corrupt(group, name, value):
        write(group, name, value + 2 if name == "weight" else value)

    monkeypatch.setattr(h5py.Group, "__setitem__", corrupt)
    with pytest.raises(OSError, match="layer 0: weight did not reach the disk"):
        export.save([settled_dense()], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_open_elsewhere_is_replaced(tmp_path):
    path, _ = old_file(tmp_path)
    with h5py.File(path) as held:
        export.save([settled_dense(delay=True)], path)
        assert "delay" not in held["layer/0"]
    with h5py.File(path) as file:
        assert "delay" in file["layer/0"]


def test_new_files_have_the_usual_permissions(tmp_path):
    path, _ = old_file(tmp_path)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_a_link(tmp_path):
    path, before = old_file(tmp_path)
    (tmp_path / "link.net").symlink_to(path)
    export.save([settled_dense(delay=True)], tmp_path / "link.net")
    assert (tmp_path / "link.net").is_symlink()
    assert path.read_bytes() != before


def test_folders_that_cannot_take_the_file(tmp_path, monkeypatch):
    net = [settled_dense()]
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        export.save(net, tmp_path / "absent" / "a.net")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        export.save(net, tmp_path)

    def refuse(*_args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("lapilli.export.network.saving.os.open", refuse)  # root may write anywhere
    with pytest.raises(PermissionError, match=f"cannot write into the folder.*{tmp_path.name}"):
        export.save(net, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
