"""``overflow=`` and the count of overflows of neuron modules, in layers and in network files."""

import copy
import pickle
from typing import Any

import pytest
import torch
from known import present
from lapilli.neurons.errors import ArgumentError
from table import ROWS, each, each_that
from torch.utils.checkpoint import checkpoint

import lapilli
from lapilli import blocks, export

pytestmark = pytest.mark.turns

RULED = ("cuba", "rf", "rf_iz")


def one_soon(condition):
    """Run a test for the rows that satisfy a condition, but for CUBA among the slow ones.

    Loops by another rule, and those that count, are compiled for each of them.
    """
    rows = [
        pytest.param(row, id=row.name, marks=() if row.name == "cuba" else pytest.mark.slow)
        for row in ROWS
        if condition(row)
    ]
    return pytest.mark.parametrize("row", rows)


each_with_rule = one_soon(lambda row: row.name in RULED)
each_without = each_that(lambda row: row.name not in RULED)
each_fixed_point = one_soon(lambda row: row.name != "sigma_delta")

FAR = 900.0  # most inputs stay below 24 bits, which end at 2048, and sums do not
STILL = {"threshold": 30.0, "current_decay": 0.0, "voltage_decay": 0.1}


def strong(row, **shape):
    return row.input(2, 3, 20, scale=FAR)


@each_with_rule
def test_the_rule_is_an_argument_and_an_attribute(row):
    x = strong(row)
    wide, narrow = row.make(), row.make(overflow="loihi")
    assert (wide.overflow, narrow.overflow) == ("saturate", "loihi")
    assert "overflow=loihi" in repr(narrow)
    assert "overflow" not in repr(wide)
    want = narrow.dynamics(x)
    assert all(states.abs().max() <= 2048 for states in want)
    assert not torch.equal(wide.dynamics(x)[0], want[0])
    wide.overflow = "loihi"
    for got, states in zip(wide.dynamics(x), want, strict=True):
        assert torch.equal(got, states)


@each_with_rule
def test_forward_equals_its_parts_by_the_chips_rule(row):
    neuron, x = row.make(overflow="loihi"), strong(row)
    states = neuron.dynamics(x)
    tested = states[1:] if row.name == "cuba" else states
    assert torch.equal(neuron(x), neuron.spike(*tested))


@each_with_rule
def test_copies_keep_the_rule(row):
    neuron = row.make(overflow="loihi")
    assert "overflow" not in " ".join(neuron.state_dict())
    for other in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert other.overflow == "loihi"


@each
def test_unknown_rules_raise(row):
    with pytest.raises(ArgumentError, match="got 'wrap'"):
        row.make(overflow="wrap")


@each_without
def test_neurons_that_lava_does_not_simulate_refuse_its_rule(row):
    with pytest.raises(ArgumentError, match=r"Lava's model|lava's netx"):
        row.make(overflow="loihi")
    neuron = row.make()
    with pytest.raises(ArgumentError, match=r"Lava's model|lava's netx"):
        neuron.overflow = "loihi"


@each_fixed_point
def test_overflows_are_counted_on_demand(row):
    neuron = row.make()
    huge = row.map(lambda x: x.detach() * 1e6, strong(row))
    neuron(huge)
    assert neuron.overflows is None
    neuron.count_overflows = True
    assert neuron.overflows == 0
    neuron(row.input(2, 3, 20))
    assert neuron.overflows == 0
    first = neuron(huge)
    once = neuron.overflows
    assert 0 < once <= first.numel()
    neuron(huge)
    assert neuron.overflows == 2 * once
    neuron.reset_state()
    assert neuron.overflows == 0
    neuron.dynamics(huge)
    assert neuron.overflows > 0
    lapilli.reset_state(torch.nn.Sequential(neuron))
    assert neuron.overflows == 0
    with pytest.raises(AttributeError, match="reset_state"):
        neuron.overflows = 0


@each_with_rule
def test_fewer_bits_overflow_more(row):
    counts = []
    for rule in ("saturate", "loihi"):
        neuron = row.make(overflow=rule)
        neuron.count_overflows = True
        neuron(strong(row))
        counts.append(neuron.overflows)
    assert counts[0] == 0 < counts[1]


@each_fixed_point
def test_a_count_changes_nothing(row):
    neuron, x = row.make(persistent_state=True), strong(row)
    want = [neuron(x), neuron(x)]
    neuron.reset_state()
    neuron.count_overflows = True
    for y in want:
        assert torch.equal(neuron(x), y)


@pytest.mark.slow
@each_fixed_point
def test_recurrent_layers_count(row):
    module = getattr(blocks, row.name)
    layer = module.Recurrent(row.arguments, 6, 4)
    layer.neuron.count_overflows = True
    x = torch.rand(2, 6, 20)
    layer(x)
    assert layer.neuron.overflows == 0
    y = layer(x * 1e12)
    assert 0 < layer.neuron.overflows <= y.numel()


@pytest.mark.slow
def test_checkpointed_layers_count_once():
    neuron = blocks.cuba.Dense(STILL | {"overflow": "loihi"}, 5, 4)
    x = torch.full((2, 5, 30), 1e4)
    neuron(x)
    neuron.neuron.count_overflows = True
    neuron(x)
    once = neuron.neuron.overflows
    assert present(once) > 0
    neuron.neuron.reset_state()
    checkpoint(neuron, x, use_reentrant=False).sum().backward()
    assert neuron.neuron.overflows == once


def test_transforms_refuse_to_count():
    neuron = blocks.cuba.Dense(STILL, 5, 4)
    neuron(torch.zeros(1, 5, 3))
    neuron.neuron.count_overflows = True
    with pytest.raises(RuntimeError, match="count_overflows = False"):
        torch.func.vmap(neuron)(torch.zeros(2, 1, 5, 3))


@each_with_rule
def test_files_keep_the_rule(row, tmp_path):
    """A network whose states wrap around gives the same from its file, and in integers."""
    torch.manual_seed(0)
    params = row.arguments | {"overflow": "loihi"}
    params |= {"decay": 0.0, "period": 7.0, "threshold": 2000.0} if row.pair else STILL
    net: Any = torch.nn.Sequential(getattr(blocks, row.name).Dense(params, 120, 8)).eval()
    x = (torch.rand(2, 120, 200) < 0.8).float()
    synapse = net[0].synapse
    for part in (synapse.real, synapse.imag) if row.pair else (synapse,):
        torch.nn.init.constant_(part.weight[:5], 3.96875)
        torch.nn.init.constant_(part.weight[5:], -4.0)
    if row.pair:  # a resonator adds up what comes once in its period
        x = x * (torch.arange(200) % 7 < 3)
    net(x)
    net[0].neuron.count_overflows = True
    want = net(x)
    assert net[0].neuron.overflows > 0
    export.save(net, tmp_path / "a.net", target="lapilli")
    loaded: Any = export.load(tmp_path / "a.net")
    assert loaded[0].neuron.overflow == "loihi"
    assert torch.equal(loaded(x), want)
    ran = export.run(tmp_path / "a.net", x.numpy())
    assert torch.equal(torch.from_numpy(ran.output).float(), want)
    assert ran.overflows > 0
    net[0].neuron.overflow = "saturate"
    assert not torch.equal(net(x), want)
    export.save(net, tmp_path / "b.net", target="lapilli")
    assert torch.equal(export.load(tmp_path / "b.net")(x), net(x))


def test_steps_one_by_one_follow_the_rule_and_count():
    """The prepared way of a step a call (blocks/stream.py) is left where states are counted."""
    layer = blocks.cuba.Dense(STILL | {"persistent_state": True}, 5, 4, pre_hook_fx=None)
    torch.nn.init.constant_(layer.synapse.weight, 3.0)
    x = torch.full((1, 5, 40), 20.0)
    wants, counts = [], []
    for rule in ("saturate", "loihi"):
        layer.neuron.overflow = rule
        lapilli.reset_state(layer)
        layer.neuron.count_overflows = True
        wants.append(layer(x))
        counts.append(layer.neuron.overflows)
        for counting in (True, False):
            layer.neuron.count_overflows = counting
            lapilli.reset_state(layer)
            with torch.no_grad():
                got = torch.cat([layer(step) for step in x.split(1, -1)], -1)
            assert torch.equal(got, wants[-1])
            assert layer.neuron.overflows == (counts[-1] if counting else None)
    assert not torch.equal(*wants)
    assert counts[0] == 0 < counts[1]
