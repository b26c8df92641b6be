"""What changes a block: what no file can hold is refused, what only looks or folds in is not."""

import functools
from typing import Any

import pytest
import torch
from export_networks import (
    CUBA,
    MEAN,
    SENDING,
    settle,
    settled_dense,
    spikes,
)
from known import opened
from lapilli.blocks import cuba, sigma_delta
from torch import nn
from torch.nn.utils import parametrize, prune

from lapilli import export, neurons

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")


def own_class(scale):
    class Own(cuba.Dense):
        def forward(self, x):
            return super().forward(x * scale)

    return Own


def own_neuron():
    class Own(neurons.cuba.Neuron):
        def forward(self, x, delay_shift=False):
            return super().forward(x + 0.25, delay_shift)

    block = settled_dense()
    own: Any = Own(**CUBA)
    own.shape = block.neuron.shape
    block.neuron = own
    return block


def hooked(register, function):
    block = settled_dense()
    getattr(block, register)(function)
    return block


def own_activation(x):
    return x.clamp(0, 1)


own_activation.__name__ = "relu"


def sending(activation):
    params = SENDING | {"activation": activation}
    return settle(sigma_delta.Dense(params, 6, 4, weight_scale=3), (6,))


def inverted(module, given, y: Any):
    return 1 - y


CHANGED = {
    "a subclass": lambda: settle(own_class(2.0)(CUBA, 6, 4, weight_scale=3), (6,)),
    "a forward of the instance": lambda: _with_forward(settled_dense(weight_scale=3)),
    "a neuron": own_neuron,
    "a hook": lambda: hooked("register_forward_hook", inverted),
    "a hook before": lambda: hooked("register_forward_pre_hook", lambda m, i: i[0] * 3),
    "a hook of the synapse": lambda: _with_synapse_hook(settled_dense(weight_scale=3)),
    "an activation of the same name": lambda: sending(own_activation),
    "a slope": lambda: sending(functools.partial(nn.functional.leaky_relu, negative_slope=0.5)),
}


def _with_forward(block):
    block.forward = lambda x: cuba.Dense.forward(block, x.roll(1, dims=1))
    return block


def _with_synapse_hook(block):
    block.synapse.register_forward_hook(lambda m, i, z: z * 2)
    return block


@pytest.mark.parametrize("name", CHANGED)
def test_what_changes_a_block_is_refused(name, tmp_path):
    block: Any = CHANGED[name]()
    net = nn.Sequential(settle(cuba.Dense(CUBA, 6, 6), (6,)), block)
    with pytest.raises(ValueError, match=r"layer 1, 1 \(\w+.Dense\): .*differ between the network"):
        export.save(net, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
    assert [f for f in export.check(net, "lapilli") if f.blocks and "differ" in f.problem]
    with opened(tmp_path / "block", "w") as file:
        with pytest.raises(ValueError, match="differ between the network and its file"):
            block.export_hdf5(file.create_group("layer/0"))
        assert not len(file["layer/0"])
    export.save(net, tmp_path / "a.net", verify=False)
    assert (tmp_path / "a.net").exists()


def test_hooks_that_only_look_change_nothing(tmp_path):
    net = nn.Sequential(settled_dense())
    net[0].register_forward_hook(lambda m, i, y: None)
    export.save(net, tmp_path / "a.net", strict=True)
    assert len(net[0]._forward_hooks) == 1


def test_parametrisations_and_pruning(tmp_path):
    parametrised = settled_dense(weight_scale=3)
    parametrize.register_parametrization(parametrised.synapse, "weight", Doubled())
    pruned = settle(cuba.Dense(CUBA, 4, 4, weight_scale=3), (4,))
    prune.l1_unstructured(pruned.synapse, "weight", amount=0.5)
    net = nn.Sequential(parametrised, pruned)
    x = spikes(2, 6, 60)
    want = net(x)
    export.save(net, tmp_path / "a.net")
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), want, rtol=0, atol=0)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize("family", [cuba, sigma_delta], ids=lambda f: f.__name__)
def test_a_hook_of_an_input_is_refused(family, tmp_path):
    params = SENDING if family is sigma_delta else CUBA
    block = family.Input(params, weight=1.5)
    block.pre_hook_fx = lambda x, descale=False: 64 * x if descale else x
    net = [settle(block, (6,))]
    with pytest.raises(ValueError, match=r"layer 0 \(\w+.Input\): pre_hook_fx: of an Input block"):
        export.save(net, tmp_path / "a.net", verify=False)
    assert "pre_hook_fx" in next(f.problem for f in export.check(net) if f.blocks)


def odd(weight, descale=False):
    units = (weight * 64).round().clamp(-127, 127)
    return units if descale else units / 64


def test_a_hook_of_a_norm_stays(tmp_path):
    net: Any = nn.Sequential(settle(cuba.Dense(CUBA | MEAN, 6, 4, weight_scale=3), (6,)))
    net[0].neuron.norm.running_mean = torch.tensor([3.0, -5.0, 7.0, 1.0]) / 64
    net[0].neuron.norm.pre_hook_fx = odd
    x = spikes(2, 6, 60)
    want = net(x)
    for _ in range(2):
        export.save(net, tmp_path / "a.net")
        with opened(tmp_path / "a.net") as file:
            assert file["layer/0/bias"][()].tolist() == [-3, 5, -7, -1]
        net = export.load(tmp_path / "a.net")
        torch.testing.assert_close(net(x), want, rtol=0, atol=0)


def test_quantisation_of_a_neuron_of_its_own(tmp_path):
    class Coarse(neurons.cuba.Neuron):
        def quantize_8bit(self, weight, descale=False):
            units = (weight * 4).round() * 16
            return units if descale else units / 64

    class Dense(cuba.Dense):
        def _new_neuron(self, **params):
            return Coarse(**params)

    net = nn.Sequential(settle(Dense(CUBA, 6, 4, weight_scale=3), (6,)))
    x = spikes(2, 6, 60)
    export.save(net, tmp_path / "a.net")
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), net(x), rtol=0, atol=0)


def test_dropout_that_a_file_cannot_name(tmp_path):
    net = [settled_dense(params={"dropout": nn.Identity()})]
    with pytest.raises(ValueError, match="dropout is a Identity; the file can name"):
        export.save(net, tmp_path / "a.net")


def test_rounded_values_are_no_difference(tmp_path):
    """They are reported as a warning; the other layers are still compared."""
    net = nn.Sequential(settled_dense(pre_hook_fx=None), settle(cuba.Dense(CUBA, 4, 4), (4,)))
    with pytest.warns(export.QuantisationWarning, match="pre_hook_fx is None"):
        export.save(net, tmp_path / "a.net")

    net[1].register_forward_hook(inverted)
    with pytest.warns(export.QuantisationWarning), pytest.raises(ValueError, match="layer 1, 1 "):
        export.save(net, tmp_path / "b.net")
