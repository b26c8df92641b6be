"""Values that saving changes and reports, and those that it refuses, as no file can hold them."""

from typing import Any

import numpy as np
import pytest
import torch
from export_networks import (
    CUBA,
    MEAN,
    settle,
    settled_dense,
)
from export_trees import saved
from known import wrong
from lapilli.blocks import cuba
from torch import nn

from lapilli import export

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
    net: Any = [settled_dense(), broken(name, value)]
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
        export.save([settled_dense()], tmp_path / "a.net", target=wrong("loihi"))
