"""What layers do, and weights that start them at a wished rate."""

import copy
import warnings
from typing import Any

import pytest
import torch
from cells import CELLS, KINDS, NEURONS, events, make
from lapilli.blocks import cuba
from torch.testing import assert_close

import lapilli
from lapilli import Activity, SilentNeuronsWarning, init_rates_

NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.1}
SCALED = ("Dense", "Recurrent", "KWTA", "Conv", "ConvT")
MANY = {"out_neurons": 64, "in_neurons": 48, "weight_scale": 0.05}
IMAGES = {"in_features": 2, "out_features": 16, "kernel_size": 3, "weight_scale": 0.05}


def spikes(*shape, rate=0.2):
    torch.manual_seed(3)
    return (torch.rand(*shape) < rate).float()


def network(**options) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        cuba.Dense(NEURON, 12, 32, **options), cuba.Dense(NEURON, 32, 8, **options)
    )


@pytest.mark.parametrize(("family", "kind"), [c for c in CELLS if c[1] in SCALED], ids=str)
def test_every_layer_with_weights_starts_at_the_wished_rate(family, kind):
    images = "Conv" in kind
    block = make(family, kind, {}, **(IMAGES if images else MANY))
    x = spikes(16, 2, 7, 8, 40) if images else spikes(16, 48, 40)
    rate = 0.05
    (start,) = init_rates_(block, x, rate, tolerance=0.2)  # a competition has few rates
    with Activity(block) as activity, torch.no_grad():
        lapilli.reset_state(block)
        block(x)
    (layer,) = activity.layers()
    assert layer == start.after
    assert abs(layer.rate - rate) <= 0.2 * rate
    assert start.before.rate < rate / 2  # with weights that eight bits round to zero


def test_layers_are_visited_in_order_each_with_what_the_one_before_now_gives():
    net, x = network(), spikes(32, 12, 50)
    first, second = init_rates_(net, x, 0.15)
    assert (first.after.name, second.after.name) == ("0", "1")
    with Activity(net) as activity, torch.no_grad():
        net(x)
    for layer, start in zip(activity.layers(), (first, second), strict=True):
        assert layer == start.after
        assert layer.rate == pytest.approx(0.15, rel=0.1)
    drawn = network()
    ratio = net[0].synapse.weight / drawn[0].synapse.weight
    assert_close(ratio, torch.full_like(ratio, first.factor))


def test_weight_norm_scales_the_lengths_alone():
    net, drawn = network(weight_norm=True), network(weight_norm=True)
    init_rates_(net, spikes(32, 12, 50), {"0": 0.2})
    assert_close(net[0].synapse.weight_v, drawn[0].synapse.weight_v, rtol=0, atol=0)
    assert not torch.equal(net[0].synapse.weight_g, drawn[0].synapse.weight_g)
    assert_close(net[1].synapse.weight_g, drawn[1].synapse.weight_g, rtol=0, atol=0)


def test_feedback_pools_and_states_stay():
    torch.manual_seed(0)
    layer = cuba.Recurrent(NEURON | {"persistent_state": True}, 12, 32)
    feedback = layer.recurrent_synapse.weight.clone()
    init_rates_(layer, spikes(32, 12, 50), 0.2)
    assert_close(layer.recurrent_synapse.weight, feedback, rtol=0, atol=0)
    assert_close(layer.neuron.voltage_state, torch.zeros(1), rtol=0, atol=0)
    pool = make("cuba", "Pool")
    (start,) = init_rates_(pool, events("Pool"))
    assert start.factor == 1
    pool.synapse.weight.data.mul_(0.3)
    (start,) = init_rates_(pool, events("Pool"), {"": 0.4}, tolerance=0.5)
    assert start.factor != 1


def test_norms_are_as_before_and_dropout_does_not_act():
    torch.manual_seed(0)
    norm = lapilli.neurons.norm.MeanOnlyBatchNorm
    neuron = NEURON | {"norm": norm, "dropout": lapilli.neurons.Dropout(0.9)}
    net: Any = torch.nn.Sequential(cuba.Dense(neuron, 12, 64), torch.nn.Dropout(0.5))
    buffers = copy.deepcopy(dict(net.named_buffers()))
    (start,) = init_rates_(net, spikes(64, 12, 50), 0.2)
    assert start.after.rate == pytest.approx(0.2, rel=0.1)
    for name, buffer in net.named_buffers():
        assert_close(buffer, buffers[name], rtol=0, atol=0)
    assert net[0].neuron.drop.training


@pytest.mark.parametrize(
    ("x", "rate", "message"),
    [
        (torch.zeros(4, 12, 30), 0.1, "input is all zero"),
        (spikes(4, 12, 30, rate=0.01), 0.9, "nearest is"),
        (spikes(4, 12, 30), 1.5, "above 0 and below 1"),
        (spikes(4, 12, 30), {"7": 0.1}, "no layer '7'"),
    ],
)
def test_what_cannot_be_reached_raises_and_changes_nothing(x, rate, message):
    net, drawn = network(), network()
    with pytest.raises(ValueError, match=message):
        init_rates_(net, x, rate)
    for name, value in net.state_dict().items():
        assert_close(value, drawn.state_dict()[name], rtol=0, atol=0)


def test_shared_and_computed_weights_and_networks_without_blocks_raise():
    net = network()
    net[1] = cuba.Dense(NEURON, 12, 32)
    net[1].synapse.weight = net[0].synapse.weight
    with pytest.raises(ValueError, match="share a weight"):
        init_rates_(net, spikes(4, 12, 30))
    net = network()
    torch.nn.utils.parametrizations.orthogonal(net[0].synapse)
    with pytest.raises(ValueError, match="parametrisations"):
        init_rates_(net, spikes(4, 12, 30))
    with pytest.raises(ValueError, match="no block"):
        init_rates_(torch.nn.Linear(3, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="Input without a weight"):
        init_rates_(cuba.Input(NEURON), spikes(4, 12, 30), {"": 0.1})


def test_activity_counts_events_and_silent_neurons():
    net = network()
    net[0].synapse.weight.data[:10] = 0
    x = spikes(8, 12, 40)
    with Activity(net) as activity, torch.no_grad():
        hidden = net[0](x)
        net[0](x)  # counts as well
    (layer,) = activity.layers()
    assert (layer.name, layer.kind, layer.neurons) == ("0", "cuba.Dense", 32)
    assert layer.rate == pytest.approx(float((hidden != 0).float().mean()))
    assert layer.silent == int((hidden == 0).all(-1).all(0).sum()) >= 10
    net(x)  # outside of the context
    assert activity.layers() == [layer]
    assert not net[0]._forward_hooks


def test_the_warning_is_off_by_default_and_names_the_layer():
    net = network()
    net[0].synapse.weight.data.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Activity(net), torch.no_grad():
            net(spikes(8, 12, 40))
    with (
        pytest.warns(SilentNeuronsWarning, match=r"32 of 32 neurons of layer 0 \(cuba.Dense\)"),
        torch.no_grad(),
        Activity(net, warn_silent=0.5),
    ):
        net(spikes(8, 12, 40))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Activity(net, warn_silent=2)


def test_every_spiking_cell_is_counted():
    for family, kind in CELLS:
        if not KINDS[kind].neuron or kind in ("Affine", "Output"):
            continue
        block = make(family, kind, NEURONS[family], count_log=True)
        with Activity(block) as activity, torch.no_grad():
            block(events(kind))
        (layer,) = activity.layers()
        assert layer.kind == f"{family}.{kind}"
        assert 0 < layer.rate < 1
