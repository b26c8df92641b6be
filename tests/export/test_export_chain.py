"""The file is the network: the order in which blocks run, and what no file can hold."""

import copy
import functools
import re

import h5py
import numpy as np
import pytest
import torch
from export_networks import (
    CUBA,
    MEAN,
    PER_CHANNEL,
    ROTATING,
    SENDING,
    network,
    settle,
    settled_dense,
    spikes,
)
from lapilli.blocks import cuba, rf, rf_iz, sigma_delta
from torch import nn
from torch.nn.utils import parametrize, prune

from lapilli import export, neurons

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")


class Three(nn.Module):
    """Three blocks of six neurons, run as the test says."""

    def __init__(self, run=None, **arguments):
        super().__init__()
        for name in "abc":
            setattr(self, name, cuba.Dense(CUBA, 6, 6, weight_scale=3, **arguments))
        self.run = run

    def forward(self, x):
        return self.run(self, x)


class OfBlocks(nn.Module):
    """What scripts for lava-dl write."""

    def __init__(self, run, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def loop(net, x):
    for block in net.blocks:
        x = block(x)
    return x


def loop_with_counts(net, x):
    rates = []
    for block in net.blocks:
        x, rate = block(x)
        rates.append(rate)
    return x, torch.stack([r for r in rates if r is not None])


def loop_over_functions(net, x):
    """Views, copies and what a loss wants, none of which changes a value."""
    frames = net.blocks[0](x.float())
    flat = net.blocks[1](frames.contiguous().reshape(len(x), -1, x.shape[-1]))
    return {"rates": flat.mean(-1), "spikes": flat.unsqueeze(2).squeeze(2)}


def image_blocks():
    return [
        cuba.Conv(CUBA, 2, 4, 3, stride=2, weight_scale=3),
        cuba.Dense(CUBA, 4 * 5 * 4, 5, weight_scale=4),
    ]


# name -> (network, shape of a sample)
CHAINS = {
    "a loop": (lambda: OfBlocks(loop, network("image")[0]), (2, 8, 7)),
    "counts": (
        lambda: OfBlocks(
            loop_with_counts,
            [
                cuba.Conv(CUBA, 2, 4, 3, weight_scale=3, count_log=True),
                cuba.Flatten(count_log=True),
                cuba.Dense(CUBA, 96, 5, weight_scale=4, count_log=True),
            ],
        ),
        (2, 8, 6),
    ),
    "functions without effect": (
        lambda: OfBlocks(loop_over_functions, image_blocks()), (2, 12, 10),
    ),
    "a flatten of torch": (
        lambda: nn.Sequential(image_blocks()[0], nn.Flatten(1, 3), image_blocks()[1]), (2, 12, 10),
    ),
    "another order": (lambda: Three(lambda n, x: n.b(n.c(n.a(x)))), (6,)),
    "a block twice": (lambda: Three(lambda n, x: n.c(n.a(n.b(n.a(x))))), (6,)),
    "a list of modules": (
        lambda: [
            Three(lambda n, x: n.c(n.a(n.b(x)))),
            nn.Sequential(cuba.Dense(CUBA, 6, 4, weight_scale=3)),
        ],
        (6,),
    ),
    "compiled": (lambda: torch.compile(Three(lambda n, x: n.b(n.c(n.a(x))))), (6,)),
}  # fmt: skip


def run(net, x):
    if isinstance(net, list):
        for module in net:
            x = module(x)
        return x
    y = net(x)
    y = y["spikes"] if isinstance(y, dict) else y
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("name", [n for n in CHAINS if n != "compiled"])
def test_the_file_runs_as_the_network(name, tmp_path):
    make, shape = CHAINS[name]
    net = make()
    x = spikes(2, *shape, 50)
    with torch.no_grad():
        run(net, x)
        for module in net if isinstance(net, list) else [net]:
            module.eval()
        want = run(net, x)
    assert want.count_nonzero(), "a silent network shows nothing"
    export.save(net, tmp_path / "a.net", target="lapilli")
    loaded = export.load(tmp_path / "a.net")
    torch.testing.assert_close(run(loaded, x), want, rtol=0, atol=0)
    assert not [f for f in export.check(net, "lapilli") if f.blocks]


def test_blocks_that_torch_does_not_know_of(tmp_path):
    """They are in a list of Python's: ``eval()`` does not reach them, but the file is for eval."""
    block = settled_dense(params={"dropout": neurons.Dropout(0.9)}, weight_scale=3)
    net = OfBlocks(loop, [])
    del net.blocks
    net.blocks = [block.train()]
    export.save(net, tmp_path / "a.net")
    x = spikes(2, 6, 60)
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), block.eval()(x), rtol=0, atol=0)


def test_a_compiled_network_is_saved_without_compiling(tmp_path):
    make, shape = CHAINS["compiled"]
    net = make()
    plain = net._orig_mod
    with torch.no_grad():
        want = plain.eval()(spikes(2, *shape, 50))
    export.save(net, tmp_path / "a.net")
    assert len(export.load(tmp_path / "a.net")) == 3
    assert want.shape == (2, 6, 50)


def test_one_block_twice_is_two_layers(tmp_path):
    net = Three(lambda n, x: n.c(n.a(n.b(n.a(x)))))
    settle(net, (6,))
    export.save(net, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        weights = [file[f"layer/{i}/weight"][()] for i in range(4)]
    np.testing.assert_array_equal(weights[0], weights[2])
    assert (weights[0] != weights[1]).any()


NO_CHAINS = {
    "a residue": (
        lambda n, x: (lambda h: n.c(h + n.b(h)))(n.a(x)),
        r"c \(cuba.Dense\) does not get the output of b \(cuba.Dense\), which runs before it, but "
        r"something computed in the network's forward, such as a sum",
    ),
    "a concatenation": (
        lambda n, x: (lambda h: n.c(torch.cat([h[:, :3], n.b(h)[:, 3:]], 1)))(n.a(x)),
        r"c \(cuba.Dense\) does not get the output of b",
    ),
    "a function": (lambda n, x: n.c(n.b(n.a(x) * 2)), r"b \(cuba.Dense\) does not get .* of a"),
    "a rectifier": (lambda n, x: n.c(n.b(torch.relu(n.a(x)))), r"b \(cuba.Dense\) does not get"),
    "a function in place": (lambda n, x: n.c(n.b(n.a(x).mul_(2))), r"b \(cuba.Dense\) does not"),
    "another order of neurons": (
        lambda n, x: n.c(n.b(n.a(x).flip(1))), r"b \(cuba.Dense\) does not get the output of a",
    ),
    "an earlier output": (
        lambda n, x: (lambda h: (n.b(h), n.c(h))[1])(n.a(x)),
        r"c \(cuba.Dense\) gets the output of a \(cuba.Dense\), not the output of b",
    ),
    "the input again": (
        lambda n, x: (n.a(x), n.c(n.b(x)))[1],
        r"b \(cuba.Dense\) gets the network's input, not the output of a",
    ),
    "a function of the input": (
        lambda n, x: n.c(n.b(n.a(x / 2))), r"a \(cuba.Dense\) does not get the network's input",
    ),
    "a function of the output": (
        lambda n, x: n.c(n.b(n.a(x))).mean(-1),
        r"does not return the output of c \(cuba.Dense\), its last block",
    ),
    "a block that never runs": (lambda n, x: n.b(n.a(x)), r"c \(cuba.Dense\) does not run"),
    "a block without its call": (
        lambda n, x: n.c(n.b.forward(n.a(x))), r"b \(cuba.Dense\) does not run",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_CHAINS)
def test_what_is_no_chain_is_refused_and_named(name, tmp_path):
    forward, message = NO_CHAINS[name]
    net = Three(lambda n, x: n.c(n.b(n.a(x))))
    settle(net, (6,))
    net.run = forward
    with pytest.raises(ValueError, match=message) as refused:
        export.save(net, tmp_path / "a.net")
    assert "give save the blocks as a list" in str(refused.value)
    with pytest.raises(ValueError, match=message):
        export.save(net, tmp_path / "a.net", verify=False)
    assert not list(tmp_path.iterdir())
    (finding,) = [f for f in export.check(net) if f.blocks]
    assert re.search(message, finding.problem)
    assert finding.remedy.endswith("in their order, are meant")
    export.save([net.a, net.b, net.c], tmp_path / "a.net")


def by_slices(x):
    x[..., 100:] = 0
    return x


WITHOUT_EFFECT = {
    "a clamp": (lambda x: x.clamp(-1000, 1000), "clamp"),
    "a clamp in place": (lambda x: x.clamp_(-1000, 1000), "clamp_"),
    "a clamp into itself": (lambda x: torch.clamp(x, max=1000, out=x), "clamp"),
    "a cut": (lambda x: x[..., :1000], "__getitem__"),
    "the last steps": (lambda x: x[:, :, -1000:], "__getitem__"),
    "every row of a list": (lambda x: x[torch.arange(len(x))], "__getitem__"),
    "a choice": (lambda x: torch.where(x > 100, torch.zeros_like(x), x), "gt"),
    "a factor": (lambda x: x * 1, "mul"),
    "a half": (lambda x: x.half().float(), "half"),
    "half by to": (lambda x: x.to(torch.float16).to(torch.float32), "to"),
    "rounding": (lambda x: x.round(), "round"),
    "zeros written": (by_slices, "__setitem__"),
    "then a view": (lambda x: x.clamp(max=50).flatten(1).view(x.shape).clone(), "clamp"),
    "a module": (nn.Hardtanh(-50, 50), "hardtanh"),
    "a part": (lambda x: x.split(1000, -1)[0], "split"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_on_the_probe_alone_is_refused(name, tmp_path):
    act, function = WITHOUT_EFFECT[name]
    net = Three(lambda n, x: n.c(n.b(n.a(x))))
    settle(net, (6,))
    for forward, place in (
        (lambda n, x: n.c(n.b(act(n.a(x)))), r"b \(cuba.Dense\) gets the output of a"),
        (lambda n, x: n.c(n.b(n.a(act(x)))), r"a \(cuba.Dense\) gets the network's input"),
        (lambda n, x: act(n.c(n.b(n.a(x)))), r"returns the output of c \(cuba.Dense\)"),
    ):
        net.run = forward
        with pytest.raises(ValueError, match=rf"{place}.*by way of {function}.*changed nothing"):
            export.save(net, tmp_path / "a.net")
        assert not list(tmp_path.iterdir())


HANDED_ON = {
    "dropout": nn.Dropout(0.5).eval(),
    "identity": nn.Identity(),
    "views": lambda x: x.unsqueeze(2).flatten(1, 2).view(x.shape).contiguous(),
    "whole dimensions": lambda x: x[:, :, None][..., 0, 0:][:],
    "a copy": lambda x: x.detach().clone().to("cpu", torch.float32),
    "there and back": lambda x: x.movedim(-1, 1).transpose(1, 2).data,
    "what is only looked at": lambda x: (x.sum(), x.clamp(0, 1).mean(), x)[2],
}


@pytest.mark.parametrize("name", HANDED_ON)
def test_what_only_hands_on_is_no_difference(name, tmp_path):
    act = HANDED_ON[name]
    net = Three(lambda n, x: act(n.c(act(n.b(act(n.a(act(x))))))))
    settle(net, (6,))
    export.save(net, tmp_path / "a.net")
    assert len(export.load(tmp_path / "a.net")) == 3


def test_silent_layers_hide_nothing(tmp_path):
    """No spike leaves the first block, so that a factor behind it has no effect on this input."""
    net = Three(lambda n, x: n.c(n.b(n.a(x) * 3)))
    settle(net, (6,))
    net.a.synapse.weight.data.zero_()
    assert not net.a(spikes(1, 6, 32)).any()
    with pytest.raises(ValueError, match=r"b \(cuba.Dense\) does not get the output of a"):
        export.save(net, tmp_path / "a.net", target="lapilli")


def test_blocks_beside_those_of_the_network_count_if_they_run(tmp_path):
    net = OfBlocks(lambda n, x: n.last(loop(n, x)), [settled_dense()])
    net.last = settle(cuba.Dense(CUBA, 4, 3, weight_scale=3), (4,))
    net.teacher = settled_dense()
    export.save(net, tmp_path / "a.net")
    assert len(export.load(tmp_path / "a.net")) == 2


def test_a_block_that_keeps_its_state_cannot_be_two_layers(tmp_path):
    block = settle(cuba.Dense(CUBA | {"persistent_state": True}, 6, 6), (6,))
    with pytest.raises(ValueError, match=r"0 \(cuba.Dense\) runs twice and keeps its state"):
        export.save(nn.Sequential(block, block), tmp_path / "a.net")


# what changes a block


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
    own = Own(**CUBA)
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


CHANGED = {
    "a subclass": lambda: settle(own_class(2.0)(CUBA, 6, 4, weight_scale=3), (6,)),
    "a forward of the instance": lambda: _with_forward(settled_dense(weight_scale=3)),
    "a neuron": own_neuron,
    "a hook": lambda: hooked("register_forward_hook", lambda m, i, y: 1 - y),
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
    block = CHANGED[name]()
    net = nn.Sequential(settle(cuba.Dense(CUBA, 6, 6), (6,)), block)
    with pytest.raises(ValueError, match=r"layer 1, 1 \(\w+.Dense\): .*differ between the network"):
        export.save(net, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
    assert [f for f in export.check(net, "lapilli") if f.blocks and "differ" in f.problem]
    with h5py.File(tmp_path / "block", "w") as file:
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
    net = nn.Sequential(settle(cuba.Dense(CUBA | MEAN, 6, 4, weight_scale=3), (6,)))
    net[0].neuron.norm.running_mean = torch.tensor([3.0, -5.0, 7.0, 1.0]) / 64
    net[0].neuron.norm.pre_hook_fx = odd
    x = spikes(2, 6, 60)
    want = net(x)
    for _ in range(2):
        export.save(net, tmp_path / "a.net")
        with h5py.File(tmp_path / "a.net") as file:
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
    net[1].register_forward_hook(lambda m, i, y: 1 - y)
    with pytest.warns(export.QuantisationWarning), pytest.raises(ValueError, match="layer 1, 1 "):
        export.save(net, tmp_path / "b.net")


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
    net = Busy()
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
    net = Three(lambda n, x: n.c(n.b(n.a(x))))
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
    net = nn.Sequential(
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


# norms of Input blocks, thresholds, delays


@pytest.mark.parametrize("norm", ["MeanOnlyBatchNorm", "WgtScaleBatchNorm"])
@pytest.mark.parametrize("family", [cuba, rf_iz], ids=lambda f: f.__name__)
def test_the_norm_of_an_input_stays(family, norm, tmp_path):
    params = CUBA if family is cuba else ROTATING
    params = params | {"norm": getattr(neurons.norm, norm), "threshold": 0.25}
    net = nn.Sequential(family.Input(params, weight=1.5, bias=0.25))
    settle(net, (6,))
    x = torch.rand(2, 6, 60)
    want = net(x)
    assert want.count_nonzero()
    with pytest.warns(export.NetxCompatibilityWarning, match=r"norm of complex .* Input blocks"):
        export.save(net, tmp_path / "a.net")
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), want, rtol=0, atol=0)
    result = export.run(tmp_path / "a.net", x.numpy())
    np.testing.assert_array_equal(result.output / result.unit, want.detach().numpy())


@pytest.mark.parametrize("kind", ["Input", "Output"])
def test_what_sigma_delta_ends_do_not_use(kind, tmp_path):
    """They have neither a norm nor a bias of the neuron in forward, and none in the file."""
    make = getattr(sigma_delta, kind)
    sizes = () if kind == "Input" else (6, 4)
    block = make(SENDING | MEAN, *sizes)
    settle(block, (6,))
    block.neuron.set_bias(0.5)
    export.save([block], tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        assert "bias" not in file["layer/0"]
    x = torch.randn(2, 6, 30)
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), block(x), rtol=0, atol=0)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.1])
def test_thresholds_of_sigma_delta(threshold, shared, tmp_path):
    params = SENDING | {"threshold": threshold, "shared_param": shared}
    net = nn.Sequential(settle(sigma_delta.Dense(params, 6, 4, weight_scale=3), (6,)))
    x = torch.randn(2, 6, 60) / 8
    want = net(x)
    assert want.count_nonzero()
    export.save(net, tmp_path / "a.net", target="lapilli", strict=True)
    loaded = export.load(tmp_path / "a.net")
    torch.testing.assert_close(loaded(x), want, rtol=0, atol=0)
    assert loaded[0].neuron.delta.tau_grad == 1


@pytest.mark.parametrize("shared", [True, False])
def test_learned_thresholds_come_back_exactly(shared, tmp_path):
    params = SENDING | {"shared_param": shared}
    net = nn.Sequential(settle(sigma_delta.Dense(params, 6, 4, weight_scale=3), (6,)))
    values = net[0].neuron.delta.threshold.data
    values += torch.arange(values.numel()).view_as(values) / 77 + 0.005
    with pytest.warns(export.QuantisationWarning, match="vThMant: threshold rounded to 1/64, larg"):
        export.save(net, tmp_path / "a.net", target="lapilli")
    loaded = export.load(tmp_path / "a.net")
    torch.testing.assert_close(loaded[0].neuron.delta.threshold.data, values, rtol=0, atol=0)
    x = torch.randn(2, 6, 60) / 8
    torch.testing.assert_close(loaded(x), net(x), rtol=0, atol=0)
    values.fill_(torch.nan)
    with pytest.raises(ValueError, match="neuron/vThMant: holds values that are not finite"):
        export.save(net, tmp_path / "a.net")


def test_delays_beyond_the_chip(tmp_path):
    net = nn.Sequential(settled_dense(delay=True, weight_scale=3))
    net[0].delay.delay.data = torch.tensor([1.5, 70.0, 1e9, -3.0])
    x = spikes(2, 6, 100)
    with pytest.warns(export.QuantisationWarning, match="delay: 3 values beyond .*as forward uses"):
        export.save(net, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        assert file["layer/0/delay"][()].tolist() == [1, 62, 62, 0]
    want = net(x)
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), want, rtol=0, atol=0)
    net[0].delay.max_delay = 100
    with pytest.warns(export.QuantisationWarning, match="max_delay is 100, but the chip delays by"):
        export.save(net, tmp_path / "a.net")
    finding = next(f for f in export.check(net) if "max_delay is 100" in f.problem)
    assert not finding.blocks
    assert (finding.limit, finding.remedy[:19]) == ("0 to 62 whole steps", "set max_delay to 62")


def test_delays_in_steps_of_another_length(tmp_path):
    net = nn.Sequential(settled_dense(delay=True, weight_scale=3))
    net[0].delay.delay.data = torch.tensor([1.5, 4.0, 7.0, 0.0])
    net[0].delay.sampling_time = 2
    x = spikes(2, 6, 60)
    export.save(net, tmp_path / "a.net")
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["iDecay", "vDecay"])
def test_one_decay_a_channel_and_the_other_for_all(name, tmp_path):
    net = nn.Sequential(settled_dense(weight_scale=3))
    export.save(net, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "a") as file:
        group = file["layer/0/neuron"]
        value = group[name][()]
        del group[name]
        group[name] = [value] * 4
    x = spikes(2, 6, 60)
    loaded = export.load(tmp_path / "a.net")
    torch.testing.assert_close(loaded(x), net(x), rtol=0, atol=0)
    export.save(loaded, tmp_path / "b.net")
    torch.testing.assert_close(export.load(tmp_path / "b.net")(x), net(x), rtol=0, atol=0)


# extensions


def test_extensions_are_in_one_group(tmp_path):
    """Whatever files of lava-dl have not; a reader may leave the group out."""
    net = [settle(rf.Dense(ROTATING | MEAN, 6, 4, weight_scale=3), (6,))]
    export.save(net, tmp_path / "a.net", target="lapilli")
    with h5py.File(tmp_path / "a.net") as file:
        group = file["layer/0"]
        assert "bias" not in group
        assert sorted(group["lapilli/bias"]) == ["imag", "real"]


def moved(file, index):
    """Bring the extensions of a layer to where format 1 had them."""
    group = file[f"layer/{index}"]
    for name in ("bias", "neuron/weight_exp"):
        for part in ("real", "imag"):
            if f"lapilli/{name}/{part}" in group:
                group[f"{name}/{part}"] = group[f"lapilli/{name}/{part}"][()]
    del group["lapilli"]
    file.attrs["format_version"] = 1


@pytest.mark.parametrize("norm", ["MeanOnlyBatchNorm", "WgtScaleBatchNorm"])
def test_files_of_format_1_load(norm, tmp_path):
    params = ROTATING | {"norm": getattr(neurons.norm, norm)}
    net = nn.Sequential(settle(rf.Dense(params, 6, 4, weight_scale=3), (6,)))
    x = spikes(2, 6, 60)
    want = net(x)
    export.save(net, tmp_path / "a.net", target="lapilli")
    with h5py.File(tmp_path / "a.net", "a") as file:
        moved(file, 0)
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), want, rtol=0, atol=0)


# streaming


STREAMED = {
    "mlp": lambda: (cuba.Dense(CUBA, 6, 6, weight_scale=3), cuba.Dense(CUBA, 6, 6, weight_scale=3)),
    "recurrent": lambda: (cuba.Recurrent(CUBA, 6, 6, weight_scale=3),),
    "rf": lambda: (rf.Dense(ROTATING, 6, 6, weight_scale=4),),
    "sigma delta": lambda: (
        sigma_delta.Input(SENDING, weight=1.25),
        sigma_delta.Dense(SENDING, 6, 6, weight_scale=3, delay_shift=True),
        sigma_delta.Output(SENDING, 6, 3, weight_scale=3),
    ),
}


@pytest.mark.parametrize("name", STREAMED)
def test_pieces_give_the_whole(name, tmp_path):
    net = settle(nn.Sequential(*STREAMED[name]()), (6,))
    export.save(net, tmp_path / "a.net", target="lapilli")
    x = spikes(2, 6, 30)
    with torch.no_grad():
        want = export.load(tmp_path / "a.net")(x)
        assert want.count_nonzero()
        stream = export.load(tmp_path / "a.net", persistent_state=True)
        for _ in range(2):
            parts = [stream(piece) for piece in x.split([1] * 10 + [20], dim=-1)]
            torch.testing.assert_close(torch.cat(parts, -1), want, rtol=0, atol=0)
            stream.reset_state()
        again = export.load(tmp_path / "a.net", persistent_state=False)
        for _ in range(2):
            torch.testing.assert_close(again(x), want, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (lambda: cuba.TimeDecimation(4), "averages bins of 4 steps"),
        (lambda: cuba.Input(), "delays by one step without a neuron"),
    ],
)
def test_layers_that_cannot_run_in_pieces(block, words, tmp_path):
    export.save([settle(block(), (6,))], tmp_path / "a.net", target="lapilli")
    with pytest.raises(ValueError, match=rf"block 0 \(\w+\) {words}"):
        export.load(tmp_path / "a.net", persistent_state=True)
    export.load(tmp_path / "a.net", persistent_state=False)
