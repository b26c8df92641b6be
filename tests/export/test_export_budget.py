"""What a network takes of a chip, and how much it works: counted by hand and by NeuroBench."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from known import present
from lapilli.export.deployment.chip import Chip, budget

from lapilli import export, slayer
from lapilli.program.cli import main

CUBA = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.03}
RF = {"threshold": 1.0, "period": 8.0, "decay": 0.1}
SIGMA_DELTA = {"threshold": 0.1, "activation": torch.nn.functional.relu}
block = slayer.block


def spikes(*shape, share=0.2):
    return (torch.rand(shape) < share).float()


def dense(inputs=6, outputs=5, **options) -> Any:
    net = torch.nn.Sequential(block.cuba.Dense(CUBA, inputs, outputs, weight_scale=4, **options))
    net(spikes(2, inputs, 10))
    return net


def test_a_dense_layer_by_hand():
    net = dense(delay=True)
    weight = net[0].synapse.weight
    with torch.no_grad():
        weight.copy_(torch.arange(-15, 15).view(weight.shape) / 32)  # -30..28 in the file, one zero
        net[0].delay.delay.fill_(3.0)
    found = budget(net).layers[0]
    assert (found.neurons, found.synapses, found.weights, found.axons) == (5, 29, 29, 6)
    assert (found.weight_bits, found.states, found.delays, found.shared) == (5, 2, 5, False)
    assert found.memory_bits == 29 * 5 + 5 * (2 * 24 + 6)
    assert (found.cores, found.binds) == (1, "neurons")


def test_a_kernel_is_stored_once():
    net: Any = torch.nn.Sequential(block.cuba.Conv(CUBA, 2, 4, 3, weight_scale=4))
    net(spikes(1, 2, 8, 8, 4))
    found = budget(net).layers[0]
    stored = int((net[0].neuron.quantize_8bit(net[0].synapse.weight) != 0).sum())
    assert (found.neurons, found.weights, found.shared) == (4 * 36, stored, True)
    assert found.synapses == 36 * stored
    assert found.memory_bits == stored * found.weight_bits + 144 * 48


@pytest.mark.parametrize(
    ("limits", "cores", "binds"),
    [
        ({"neurons": 2}, 3, "neurons"), ({"synapses": 10, "cores": 4}, 10, "synapses"),
        ({"memory": 20}, 4, "memory"),
    ],
)  # fmt: skip
def test_the_limit_that_binds(limits, cores, binds):
    net = dense()
    with torch.no_grad():  # 25 synapses of 5 bits
        net[0].synapse.weight.copy_((torch.arange(30).view(5, 6, 1, 1, 1) % 6 > 0) * 15 / 32)
        net[0].synapse.weight[0, 1] = -1 / 32
    found = budget(net, chip=Chip(**limits))
    taken = found.layers[0]
    assert (taken.synapses, taken.weight_bits) == (25, 5)
    assert taken.memory_bits == 25 * 5 + 5 * 48
    if binds == "memory":
        cores = -(-taken.memory_bits // 160)
    assert (found.cores, taken.binds, found.binds) == (cores, binds, 0)
    assert found.chips == -(-cores // found.chip.cores)
    assert binds in str(found)
    assert found.advice
    assert found.advice in str(found)


def test_shared_weights_that_fit_no_core_raise():
    net = torch.nn.Sequential(block.cuba.Conv(CUBA, 2, 4, 3, weight_scale=4))
    net(spikes(1, 2, 8, 8, 4))
    with pytest.raises(ValueError, match=r"shared weights of a layer take .* use fewer channels"):
        budget(net, chip=Chip(memory=16))


def test_layers_without_neurons_take_nothing():
    net = torch.nn.Sequential(block.cuba.Flatten(), block.cuba.Dense(CUBA, 18, 3))
    net(spikes(1, 2, 3, 3, 4))
    found = budget(net, spikes(1, 2, 3, 3, 4))
    assert (found.layers[0].cores, found.layers[0].binds) == (0, None)
    assert present(found.activity)[0].operations == 0


NETS = {
    "dense": (lambda: [block.cuba.Dense(CUBA, 6, 5, weight_scale=4)], (6,)),
    "conv": (
        lambda: [block.cuba.Conv(CUBA, 2, 4, 3, 2, 1, groups=2, weight_scale=4)], (2, 9, 7),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("whole", [True, False])
def test_operations_are_those_of_neurobench(kind, whole):
    layers = pytest.importorskip(
        "neurobench.metrics.utils.layers", reason="the package neurobench is not installed"
    )
    make, shape = NETS[kind]
    net: Any = torch.nn.Sequential(*make())
    x = spikes(3, *shape, 10) * (1 if whole else 2)
    net(x)
    weight = net[0].neuron.quantize_8bit(net[0].synapse.weight)
    if kind == "dense":
        layer = torch.nn.Linear(6, 5, bias=False)
        layer.weight.data = weight.detach().flatten(1)
    else:
        layer = torch.nn.Conv2d(2, 4, 3, 2, 1, groups=2, bias=False)
        layer.weight.data = weight.detach().squeeze(-1)
    frames = x.movedim(-1, 1).flatten(0, 1)
    effective, binary = layers.single_layer_MACs(frames, layer)
    every, _ = layers.single_layer_MACs(frames, layer, total=True)
    found = present(budget(net, x).activity)[0]
    assert found.operations * 30 == pytest.approx(effective)
    assert found.dense_operations * 30 == pytest.approx(every)
    assert found.products == (not binary) == (not whole)


def test_operations_by_hand():
    net = dense()
    with torch.no_grad():
        net[0].synapse.weight[:, 2] = 0
        net[0].synapse.weight[:, 4] = 1
    x = torch.zeros(2, 6, 10)
    x[0, 2, 3] = x[0, 4, 3] = x[1, 4, 9] = 1
    found = budget(net, x)
    first = present(found.activity)[0]
    assert first.operations * 20 == 10  # two spikes at input 4, to five neurons
    assert first.dense_operations == 30
    assert first.input_density == pytest.approx(3 / 120)
    assert (found.operations, found.dense_operations) == (5, 300)
    assert (found.samples, found.steps) == (2, 10)


@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("family", ["cuba", "rf"])
def test_feedback_is_counted_where_it_is_sent(family, delay):
    kinds = getattr(block, family)
    net: Any = torch.nn.Sequential(
        kinds.Recurrent(CUBA if family == "cuba" else RF, 6, 5, weight_scale=4, delay=delay)
    )
    x = spikes(2, 6, 12, share=0.5)
    with torch.no_grad():
        net(x)
        if delay:
            net[0].delay.delay.fill_(3.0)
        alone = getattr(block, family).Recurrent(
            CUBA if family == "cuba" else RF, 6, 5, weight_scale=4, delay_shift=False
        )
        alone.load_state_dict(net[0].state_dict(), strict=False)
        sent = alone(x) != 0
    assert sent[..., :-1].any()
    synapses: Any = net[0].input_synapse, net[0].recurrent_synapse
    inputs, feedback = (s.effective_weight() for s in synapses)
    pair = family == "rf"
    want = 0
    for weights, events in ((inputs, x != 0), (feedback, sent[..., :-1])):
        for part in weights if pair else (weights,):
            want += int((events.sum((0, 2)) * (part.flatten(1) != 0).sum(0)).sum())
    found = present(budget(net, x).activity)[0]
    assert found.operations * 24 == pytest.approx(want)
    assert found.dense_operations * 24 == (6 * 24 + 5 * 22) * 5 * (2 if pair else 1)


def test_a_file_and_its_network_agree(tmp_path):
    net = torch.nn.Sequential(
        block.sigma_delta.Input(SIGMA_DELTA),
        block.sigma_delta.Dense(SIGMA_DELTA, 6, 5, weight_scale=3),
        block.sigma_delta.Output(SIGMA_DELTA, 5, 2),
    )
    x = torch.rand(2, 6, 10)
    net.eval()(x)
    path = tmp_path / "a.net"
    export.save(net, path)
    assert budget(path, x) == budget(net, x) == export.budget(net, x.numpy())
    assert budget(path).activity is None
    assert present(budget(net, x).activity)[1].products


def test_wrong_input_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="has samples"):
        budget(dense(), spikes(2, 7, 10))
    with pytest.raises(ValueError, match="no multiple of 1/1"):
        budget(dense(), torch.full((1, 6, 3), 0.5))
    with pytest.raises(FileNotFoundError):
        budget(tmp_path / "none.net")
    fresh = torch.nn.Sequential(block.cuba.Dense(CUBA, 6, 5), block.cuba.Dense(CUBA, 5, 2))
    assert budget(fresh, input_shape=(6,)).cores == 2


def test_command(tmp_path, capsys):
    path, data = tmp_path / "a.net", tmp_path / "x.npy"
    net = dense()
    export.save(net, path)
    x = spikes(2, 6, 10).numpy()
    np.save(data, x)

    def printed(*arguments):
        assert main(["check", str(path), *arguments]) == 0
        return capsys.readouterr().out

    table = printed("--budget", "--data", str(data))
    assert str(budget(path, x)) in table
    assert "can be deployed" in table
    found = json.loads(printed("--budget", "--data", str(data), "--json"))
    assert found["budget"]["layers"][0]["synapses"] == budget(path).layers[0].synapses
    first = present(budget(path, x).activity)[0]
    assert found["budget"]["activity"][0]["operations"] == first.operations
    assert found["findings"] == []
    np.save(data, 2**20 * x)
    assert "states leave 24 bits" in printed("--data", str(data))
