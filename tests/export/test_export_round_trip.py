"""What is saved, loads as a network with the same spikes."""

import copy
from typing import Any

import pytest
import torch
from export_networks import a_few_networks, each_network, network, spikes
from export_trees import assert_same_tree, tree
from known import opened
from torch import nn

from lapilli import export

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")


@pytest.mark.parametrize("with_state", [False, True], ids=["weights", "state"])
@each_network
def test_loaded_network_gives_equal_spikes(name, with_state, tmp_path):
    net, shape = network(name)
    x = spikes(3, *shape, 60)
    want = copy.deepcopy(net)(x)
    assert want.count_nonzero(), "a silent network shows nothing"
    export.save(net, tmp_path / "a.net", target="lapilli", with_state=with_state)
    loaded: Any = export.load(tmp_path / "a.net")
    assert [b.shape for b in loaded] == [b.shape for b in net]
    assert [type(b) for b in loaded] == [type(b) for b in net]
    assert not loaded.training
    torch.testing.assert_close(loaded(x), want, rtol=0, atol=0)


@a_few_networks
def test_saving_a_loaded_network_gives_the_file_again(name, tmp_path):
    net, _ = network(name)
    export.save(net, tmp_path / "a.net", target="lapilli")
    export.save(export.load(tmp_path / "a.net"), tmp_path / "b.net", target="lapilli")
    one, other = tree(tmp_path / "a.net"), tree(tmp_path / "b.net")
    for params in [k for k in one if k.endswith("@params")]:
        for each in (one, other):
            each.pop(params)  # masks and weight norm are part of the weights now
    assert_same_tree(one, other)


@a_few_networks
def test_state_comes_back_exactly(name, tmp_path):
    net, _ = network(name)
    export.save(net, tmp_path / "a.net", target="lapilli", with_state=True)
    loaded = export.load(tmp_path / "a.net")
    want = nn.ModuleDict({"blocks": net}).state_dict()
    assert loaded.state_dict().keys() == want.keys()
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, want[key], rtol=0, atol=0)


def test_options_come_back(tmp_path):
    net, _ = network("options")
    export.save(net, tmp_path / "a.net", target="lapilli", with_state=True)
    loaded: Any = export.load(tmp_path / "a.net")
    first, own = loaded[0], net[0]
    assert first.delay_shift is False
    for name in ("tau_rho", "scale_rho", "w_scale", "requires_grad", "persistent_state"):
        assert getattr(first.neuron, name) == getattr(own.neuron, name), name
    assert first.neuron.drop.p == own.neuron.drop.p
    assert first.neuron.current_decay.requires_grad


def test_equal_networks_give_equal_files(tmp_path):
    net, _ = network("image")
    export.save(net, tmp_path / "a.net", target="lapilli", with_state=True)
    export.save(copy.deepcopy(net), tmp_path / "b.net", with_state=True)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_load_leaves_the_random_generator_alone(tmp_path):
    net, _ = network("norm, delay, weight norm")
    export.save(net, tmp_path / "a.net", target="lapilli")
    before = torch.get_rng_state()
    export.load(tmp_path / "a.net")
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_loaded_delays_and_decays_are_not_drawn_again(tmp_path):
    net, shape = network("delay of one channel")
    export.save(net, tmp_path / "a.net", target="lapilli")
    loaded: Any = export.load(tmp_path / "a.net")
    loaded.train()(spikes(2, *shape, 20))
    assert loaded[0].delay.delay.item() == int(net[0].delay.delay.item())


def test_event_rates_of_a_loaded_network(tmp_path):
    net, shape = network("mlp")
    export.save(net, tmp_path / "a.net", target="lapilli")
    loaded: Any = export.load(tmp_path / "a.net")
    x = spikes(2, *shape, 30)
    plain = loaded(x)
    loaded[1].count_log = True
    y, rates = loaded(x)
    torch.testing.assert_close(y, plain, rtol=0, atol=0)
    assert len(rates) == 1
    assert 0 < rates[0] < 1


def test_odd_weights_of_a_hook_stay(tmp_path):
    net, shape = network("delay")

    def odd(weight, descale=False):
        units = (weight * 64).round().clamp(-127, 127)
        return units if descale else units / 64

    net[0].synapse.pre_hook_fx = odd
    x = spikes(2, *shape, 60)
    want = net(x)
    export.save(net, tmp_path / "a.net", target="lapilli")
    with opened(tmp_path / "a.net") as file:
        assert (file["layer/0/weight"][()] % 2 == 1).any()
    loaded = export.load(tmp_path / "a.net")
    torch.testing.assert_close(loaded(x), want, rtol=0, atol=0)
    export.save(loaded, tmp_path / "b.net")
    torch.testing.assert_close(export.load(tmp_path / "b.net")(x), want, rtol=0, atol=0)
