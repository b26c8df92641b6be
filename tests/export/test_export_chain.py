"""The file is the network: the order in which blocks run, and pieces that give the whole."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from export_networks import (
    CUBA,
    ROTATING,
    SENDING,
    network,
    settle,
    settled_dense,
    spikes,
)
from known import opened
from lapilli.blocks import cuba, rf, sigma_delta
from own_modules import OfBlocks, Three, loop
from torch import nn

from lapilli import export, neurons

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")


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
    net: Any = OfBlocks(loop, [])
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
    with opened(tmp_path / "a.net") as file:
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
    "something else first": (
        lambda n, x: (lambda y: [y * 2, y])(n.c(n.b(n.a(x)))),
        r"first of what the network returns is not the output of c \(cuba.Dense\), its last block",
    ),
    "an earlier output first": (
        lambda n, x: (lambda h: (h, n.c(n.b(h))))(n.a(x)),
        r"first of what the network returns is not the output of c",
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
    export.save([*net.children()], tmp_path / "a.net")


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
    net: Any = Three(lambda n, x: n.c(n.b(n.a(x) * 3)))
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
