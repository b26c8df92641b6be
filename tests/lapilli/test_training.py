import pytest
import torch
from lapilli.blocks import cuba
from torch.testing import assert_close

from lapilli.data import Dataset, Samples
from lapilli.loss import SpikeRate
from lapilli.training import Rates, accuracy, evaluate, fit, layer_outputs, parameter_groups

NEURON = {
    "threshold": 1.25,
    "current_decay": 0.25,
    "voltage_decay": 0.03,
    "tau_grad": 0.03,
    "requires_grad": True,
}
RATES = Rates(weights=0.03, decays=0.05)
LOSS = SpikeRate(0.3, 0.0)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(cuba.Dense(NEURON, 6, 12), cuba.Dense(NEURON, 12, 2))


def two_classes(samples=64):
    """Whether the first or the second half of the channels is the busy one."""
    labels = torch.arange(samples) % 2
    busy = (torch.arange(6) // 3)[None, :] == labels[:, None]
    spikes = (torch.rand(samples, 16, 6) < torch.where(busy, 0.8, 0.2)[:, None]).float()
    return Samples(spikes.movedim(1, -1), labels)


def train(**changes):
    torch.manual_seed(1)
    data = Dataset(two_classes(), two_classes(32), classes=2)
    net = network()
    settings = {"epochs": 5, "batch_size": 16, "rates": RATES, **changes}
    return net, list(fit(net, data, LOSS, **settings))


def test_learns():
    _, history = train()
    assert [e.number for e in history] == [1, 2, 3, 4, 5]
    assert history[-1].loss < history[0].loss / 2
    assert history[-1].test_accuracy > 0.95
    assert history[-1].train_accuracy > 0.95
    assert all(e.seconds > 0 for e in history)


def test_same_seed_same_network():
    (one, first), (two, second) = train(), train()
    assert [(e.loss, e.test_accuracy) for e in first] == [(e.loss, e.test_accuracy) for e in second]
    for name, value in one.state_dict().items():
        assert_close(value, two.state_dict()[name], rtol=0, atol=0)
    other = train(seed=1)[0].state_dict()
    assert any(not torch.equal(v, other[k]) for k, v in one.state_dict().items())


def test_decays_learn_at_their_own_rate():
    net = network()
    others, decays = parameter_groups(net, Rates(weights=0.5, decays=0.25))
    assert (others["lr"], decays["lr"]) == (0.5, 0.25)
    names = {id(p): n for n, p in net.named_parameters()}
    assert {names[id(p)] for p in others["params"]} == {"0.synapse.weight", "1.synapse.weight"}
    assert all(names[id(p)].endswith("_decay_update") for p in decays["params"])
    assert len(decays["params"]) == 4
    fixed = cuba.Dense({**NEURON, "requires_grad": False}, 6, 12)
    assert len(parameter_groups(fixed, RATES)) == 1


def test_evaluation_restores_the_mode():
    net, samples = network(), two_classes(8)
    net.train()
    output = evaluate(net, samples, batch_size=3)
    assert net.training
    assert not output.requires_grad
    assert output.shape == (8, 2, 16)
    outputs = layer_outputs(net, samples.spikes)
    assert [o.shape for o in outputs] == [(8, 12, 16), (8, 2, 16)]
    assert_close(outputs[-1].detach(), output, rtol=0, atol=0)


def test_accuracy():
    output = torch.zeros(4, 2, 8)
    output[:3, 1] = 1
    assert accuracy(output, torch.tensor([1, 1, 0, 0])) == 0.75


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch_size": 65}])
def test_nothing_to_train(changes):
    with pytest.raises(ValueError, match="expected at least 1 epoch of 1 batch"):
        train(**changes)
