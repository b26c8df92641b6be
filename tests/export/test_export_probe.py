"""The probe that saving runs a network on: it leaves no trace, and what it needs to know."""

import copy
from typing import Any

import h5py
import pytest
import torch
from export_networks import (
    CUBA,
    MEAN,
    PER_CHANNEL,
    ROTATING,
    settle,
    settled_dense,
    spikes,
)
from lapilli.blocks import cuba, rf
from own_modules import Three
from torch import nn
from torch.nn.utils import prune

from lapilli import export, neurons

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")


# the probe leaves no trace


class Busy(nn.Module):
    """Keeps what a forward leaves: outputs with a history, counts, state."""

    def __init__(self):
        super().__init__()
        own = CUBA | MEAN | {"persistent_state": True, "dropout": neurons.Dropout(0.5)}
        own |= {"requires_grad": True}
        self.blocks = nn.ModuleList(
            [
                cuba.Dense(own, 6, 6, weight_scale=3, delay=True, weight_norm=True),
                cuba.Recurrent(own | {"norm": None}, 6, 5, weight_scale=3),
            ]
        )
        self.outputs, self.calls = [], 0
        self.noise = torch.Generator()  # deepcopy takes it

    def forward(self, x):
        self.calls += 1
        torch.rand(3)
        for block in self.blocks:
            x = block(x)
            self.outputs.append(x)
        return x


def everything(net):
    found = {f"{n}.{k}": v for n, m in net.named_modules() for k, v in vars(m).items()}
    return {k: v for k, v in found.items() if not k.endswith(("_modules", "_parameters"))}


@pytest.mark.parametrize("training", [True, False])
def test_the_probe_leaves_no_trace(training, tmp_path):
    net: Any = Busy()
    net(spikes(3, 6, 20))
    net.train(training)
    with torch.no_grad():
        net.blocks[0].delay.delay.copy_(torch.tensor([1.0, 70.0, 3.0, 0.0, 9.0, 2.5]))
        net.blocks[0].neuron.current_decay.fill_(5000)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    buffers = {k: v.clone() for k, v in net.named_buffers()}
    before = {k: (id(v), copy.copy(v)) for k, v in everything(net).items()}
    outputs = list(net.outputs)
    example = spikes(2, 6, 7)
    generator = torch.get_rng_state()
    with pytest.warns(export.QuantisationWarning, match="delay: 1 values beyond"):
        export.save(net, tmp_path / "a.net", example=example)
    torch.testing.assert_close(torch.get_rng_state(), generator)
    torch.testing.assert_close(dict(net.state_dict()), state, rtol=0, atol=0)
    torch.testing.assert_close(dict(net.named_buffers()), buffers, rtol=0, atol=0)
    after = everything(net)
    assert after.keys() == before.keys()
    for key, (identity, value) in before.items():
        assert id(after[key]) == identity, key
        if isinstance(value, list | dict) and not key.endswith("_buffers"):
            assert len(after[key]) == len(value), key
        elif isinstance(value, int | float | str):
            assert after[key] == value, key
    assert all(one is other for one, other in zip(net.outputs, outputs, strict=True))


def test_the_state_of_the_moment_does_not_matter(tmp_path):
    net = Busy()
    net(spikes(1, 6, 20))
    net.outputs.clear()
    net.eval()
    export.save(net, tmp_path / "a.net")
    net(spikes(1, 6, 20))
    export.save(net, tmp_path / "b.net")
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_a_network_that_cannot_be_copied(tmp_path):
    net: Any = Three(lambda n, x: n.c(n.b(n.a(x))))
    settle(net, (6,))
    with h5py.File(tmp_path / "held", "w") as file:
        net.log = file
        with pytest.raises(ValueError, match="the network cannot be copied to run it on a probe"):
            export.save(net, tmp_path / "a.net")
        export.save([net.a, net.b, net.c], tmp_path / "a.net")


# the probe itself


class Encoding(nn.Module):
    """Takes an image without time, and a number."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([settled_dense()])

    def forward(self, x, steps):
        return self.blocks[0](x)[..., :steps]


def test_an_example_where_the_blocks_do_not_tell(tmp_path):
    net = Encoding()
    with pytest.raises(ValueError, match=r"does not suit the network's forward.*give example="):
        export.save(net, tmp_path / "a.net")
    export.save(net, tmp_path / "a.net", example=(spikes(2, 6, 12), 12))
    with pytest.raises(ValueError, match="does not return the output"):
        export.save(net, tmp_path / "a.net", example=(spikes(2, 6, 12), 11))
    with pytest.raises(ValueError, match=r"example does not suit layer 0 \(cuba.Dense\)"):
        export.save(net, tmp_path / "a.net", example=(spikes(2, 5, 12), 12))


@pytest.mark.parametrize("how", ["example", "input_shape"])
def test_saving_before_the_first_forward(how, tmp_path):
    net: Any = nn.Sequential(
        cuba.Conv(CUBA | {"requires_grad": True}, 2, 4, 3, weight_scale=3, delay=True),
        cuba.Flatten(),
        cuba.Dense(CUBA, 96, 5, weight_scale=4),
    )
    given = {"example": spikes(1, 2, 8, 6, 9), "input_shape": (2, 8, 6)}
    with pytest.raises(RuntimeError, match="does not know its shape"):
        export.save(net, tmp_path / "a.net")
    export.save(net, tmp_path / "a.net", target="lapilli", **{how: given[how]})
    assert net[0].shape is None
    assert not net[0].delay.init
    loaded = export.load(tmp_path / "a.net")
    x = spikes(2, 2, 8, 6, 50)
    torch.testing.assert_close(loaded(x), net.eval()(x), rtol=0, atol=0)


def test_decays_that_are_drawn_later_are_refused(tmp_path):
    net = nn.Sequential(cuba.Dense(CUBA | PER_CHANNEL, 6, 4))
    with pytest.raises(RuntimeError, match="has not drawn its parameters"):
        export.save(net, tmp_path / "a.net", input_shape=(6,))


@pytest.mark.parametrize(
    "make",
    [
        lambda: cuba.Conv(CUBA, 2, 3, (3, 2), (2, 3), (1, 0), (2, 1), weight_scale=3),
        lambda: cuba.ConvT(CUBA, 2, 3, (3, 2), (2, 3), (1, 0), (1, 2), weight_scale=3),
        lambda: cuba.Pool(CUBA, (2, 3)),
        lambda: cuba.Pool(CUBA, 3, stride=2),
        lambda: cuba.Unpool(CUBA, 2),
        lambda: cuba.TimeDecimation(64),
        lambda: cuba.Flatten(),
        lambda: cuba.Average(7),
        lambda: cuba.Dense(CUBA, (10, 11, 2), 4),
        lambda: rf.Input(ROTATING),
    ],
)
def test_the_blocks_tell_the_input(make, tmp_path):
    net = [settle(make(), (2, 11, 10))] if not isinstance(make(), cuba.Average) else [make()]
    export.save(net, tmp_path / "a.net", target="lapilli")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "tool",
    [
        lambda synapse: prune.l1_unstructured(synapse, "weight", 0.4),
        nn.utils.weight_norm, nn.utils.spectral_norm,
    ],
)  # fmt: skip
def test_a_network_under_torch_s_tools_need_not_have_run(tool, tmp_path):
    net = nn.Sequential(*(cuba.Dense(CUBA, 6, 6, weight_scale=3) for _ in range(2)))
    tool(net[0].synapse)
    x = spikes(2, 6, 20)
    export.save(net, tmp_path / "a.net", example=x)
    assert torch.equal(export.load(tmp_path / "a.net")(x), net.eval()(x))
