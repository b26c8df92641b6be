"""What stands against deploying a network: before training, after it, and of a file."""

import copy
import re
from pathlib import Path

import pytest
import torch
from cells import CELLS, events, make
from export_networks import (
    ADAPTING,
    CUBA,
    MEAN,
    NETWORKS,
    PER_CHANNEL,
    ROTATING,
    SCALE,
    SENDING,
    a_few_networks,
    network,
    settle,
    settled_dense,
)
from known import wrong
from lapilli.blocks import adrf, alif, cuba, rf, sigma_delta
from lapilli.export.deployment import findings
from lapilli.export.network import describe
from torch import nn

from lapilli import export, neurons

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")


def changed(**values):
    """A block whose parameters are set to one value each."""
    net = settled_dense(delay=True)
    with torch.no_grad():
        for name, value in values.items():
            owner = {"delay": net.delay, "weight": net.synapse}.get(name, net.neuron)
            getattr(owner, name).fill_(value)
    return net


def hooked(value, **arguments):
    return settled_dense(pre_hook_fx=lambda w: torch.full_like(w, value), **arguments)


def threshold(value):
    net = settled_dense()
    net.neuron._threshold = value
    return net


def dense(params, *, family=cuba, **arguments):
    return settle(family.Dense(params, 6, 4, weight_scale=2, **arguments), (6,))


def image(kind, *arguments, family=cuba, params=CUBA, **options):
    return settle(getattr(family, kind)(params, *arguments, **options), (2, 4, 4))


# block -> words of what is said against it
ERRORS = {
    "weight of a hook": (lambda: hooked(4.5), "weight: holds 288; limit: -256 to 254; .*clamp"),
    "not finite": (lambda: changed(weight=torch.nan), "weight: holds .*diverged"),
    "delay": (lambda: changed(delay=torch.nan), "delay: holds .*not finite.*diverged"),
    "threshold": (lambda: threshold(2048.0), "vThMant: holds 131072; limit: 1 to 131071"),
    "decay": (lambda: changed(current_decay=5000.0), "iDecay: holds 5000; limit: 0 to 4096"),
    "at every position": (
        lambda: settle(cuba.Dense(CUBA, 2, 4), (2, 3, 3)), "Conv with kernel_size=1",
    ),
    "scale": (lambda: dense(CUBA | {"scale": 50}), "powers of two only; limit: 1, 2, 4"),
    "graded": (lambda: dense(CUBA | {"graded_spike": True}), "binary, not graded"),
    "exponent": (lambda: cuba.Affine(CUBA | SCALE, 6, 4), "exponent of a norm; .*MeanOnly"),
    "bias and delay": (lambda: dense(CUBA | MEAN, delay=True), "does not delay the bias"),
    "all zero": (lambda: hooked(0.0), "all zero"),
    "lost bits": (lambda: hooked(-1.0), "loses bits"),
    "pool": (lambda: image("Pool", 2), "no convT, pool"),
    "unpool": (lambda: image("Unpool", 2), "no convT, pool"),
    "convT": (lambda: image("ConvT", 2, 3, 2), "no convT, pool"),
    "average": (lambda: cuba.Average(4), "no convT, pool"),
    "decimation": (lambda: settle(cuba.TimeDecimation(2), (4,)), "no convT, pool"),
    "conv delay": (lambda: image("Conv", 2, 3, 2, delay=True), "delays of conv"),
    "alif": (lambda: dense(CUBA | ADAPTING, family=alif), "no ALIF"),
    "adrf": (lambda: dense(ROTATING | ADAPTING, family=adrf), "without adaptation"),
    "complex conv": (lambda: image("Conv", 2, 3, 2, family=rf, params=ROTATING), "complex weights"),
    "complex norm": (lambda: dense(ROTATING | MEAN, family=rf), "norm of complex"),
    "complex delay": (lambda: dense(ROTATING, family=rf, delay=True), "complex dense"),
    "complex input": (lambda: settle(rf.Input(ROTATING), (4,)), "no Input block with"),
    "activation": (
        lambda: dense(SENDING | {"activation": torch.tanh}, family=sigma_delta), "always uses relu",
    ),
    "error": (lambda: dense(SENDING | {"cum_error": True}, family=sigma_delta), "cumulative"),
    "thresholds": (lambda: dense(SENDING | PER_CHANNEL, family=sigma_delta), "per channel"),
}  # fmt: skip


def pair(first, second):
    return lambda: [settle(first, (6,)), settle(second, (4,))]


# what only the layer behind makes wrong
ERRORS_OF_PAIRS = {
    "scale of sigma-delta": (
        pair(
            sigma_delta.Dense(SENDING | {"scale": 128}, 6, 4, weight_scale=2),
            sigma_delta.Dense(SENDING, 4, 4, weight_scale=2),
        ),
        "multiples of 1/4096; limit: scale 64",
    ),
    "spikes and events": (
        pair(
            cuba.Dense(CUBA, 6, 4, weight_scale=3),
            sigma_delta.Dense(SENDING, 4, 4, weight_scale=2),
        ),
        "a spike on as 1 and a sigma-delta event as 4096",
    ),
    "a readout inside": (
        pair(cuba.Affine(CUBA, 6, 4, weight_scale=3), cuba.Dense(CUBA, 4, 4, weight_scale=3)),
        "neither the voltage of an Affine nor the sum of an Output",
    ),
    "a sum inside": (
        pair(
            sigma_delta.Output(SENDING, 6, 4, weight_scale=3),
            sigma_delta.Dense(SENDING, 4, 4, weight_scale=3),
        ),
        "neither the voltage of an Affine nor the sum of an Output",
    ),
}


@pytest.mark.parametrize("name", ERRORS_OF_PAIRS)
def test_what_cannot_stand_before_another_layer(name):
    make, words = ERRORS_OF_PAIRS[name]
    net = make()
    (finding,) = [f for f in export.check(net) if f.blocks]
    assert_matches(str(finding), rf"layer 0 \(\w+\.\w+\): error: .*{words}")
    assert not [f for f in export.check(net[:1]) if f.blocks]


FINE = {
    "an input without activation": lambda: sigma_delta.Input(SENDING | {"activation": None}),
    "an input with another one": lambda: sigma_delta.Input(SENDING | {"activation": torch.tanh}),
    "an output without activation": (
        lambda: sigma_delta.Output(SENDING | {"activation": None}, 6, 4, weight_scale=3)
    ),
    "an output with errors": (
        lambda: sigma_delta.Output(SENDING | {"cum_error": True}, 6, 4, weight_scale=3)
    ),
    "an output of another scale": (
        lambda: sigma_delta.Output(SENDING | {"scale": 128}, 6, 4, weight_scale=1)
    ),
    "a last layer of another scale": (
        lambda: sigma_delta.Dense(SENDING | {"scale": 128}, 6, 4, weight_scale=1)
    ),
    "no threshold": lambda: sigma_delta.Dense(SENDING | {"threshold": 0.0}, 6, 4, weight_scale=3),
    "a norm without effect": (
        lambda: rf.Dense(ROTATING | {"norm": neurons.norm.MeanOnlyBatchNorm}, 6, 4, weight_scale=3)
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_what_netx_runs_is_not_refused(name):
    """Each runs in Lava's netx as here: tests/conformance."""
    block = FINE[name]().eval()
    block(torch.zeros(1, 6, 4))
    assert not [f for f in export.check([block]) if f.blocks]


def test_the_weight_of_an_input_is_the_callers():
    block = settle(cuba.Input(CUBA, weight=1.5), (4,))
    (finding,) = export.check([block])
    assert not finding.blocks
    assert "net.in_layer.transform" in finding.remedy


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_deployed(name):
    make, words = ERRORS[name]
    block = make()
    before = copy.deepcopy(block.state_dict())
    found = [f for f in export.check([block]) if f.blocks]
    assert len(found) == 1
    pattern = rf"layer 0 \(\w+\.\w+\): error: .*{words}"
    (finding,) = found
    assert finding.problem
    assert finding.limit
    assert finding.remedy
    torch.testing.assert_close(dict(block.state_dict()), dict(before), equal_nan=True)
    assert "\n" not in str(finding)
    assert_matches(str(finding), pattern)


def assert_matches(text, pattern):
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


WARNINGS = {
    "clamped": (lambda: dense(CUBA, pre_hook_fx=None), "pre_hook_fx is None"),
    "delay": (
        lambda: changed(delay=70.0),
        "delay: 4 values beyond 0 to 62 steps .*as forward uses them",
    ),
    "rotation": (lambda: dense(ROTATING, family=rf), "can be 1/4096 low"),
    "fan-in": (
        lambda: settle(cuba.Dense(CUBA, 5000, 2, weight_scale=90), (5000,)),
        r"has 49\d\d synapses; limit: 4096 input axons",
    ),
    "24 bits": (
        lambda: settle(cuba.Dense(CUBA, 520, 2, pre_hook_fx=lambda w: w * 0 + 3.96875), (520,)),
        f"add up to {520 * 254 * 64} state units; limit: 8388607",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_deserves_a_look(name):
    make, words = WARNINGS[name]
    found = export.check([make()])
    assert found
    assert not any(f.blocks for f in found)
    assert_matches("\n".join(map(str, found)), f"layer 0 .*: warning: .*{words}")


def test_states_that_leave_24_bits_on_data(tmp_path):
    net = [WARNINGS["24 bits"][0]()]
    path = tmp_path / "a.net"
    export.save(net, path)
    some = torch.zeros(1, 520, 6)
    some[:, :32] = 1
    all_at_once = torch.ones(1, 520, 6)
    for given in (net, path):
        assert "leave 24 bits" not in str(export.check(given, data=some)[-1])
        finding = export.check(given, data=all_at_once)[-1]
        count = export.run(path, all_at_once.numpy(), overflow="loihi").overflows
        assert count > 0
        assert finding.problem == f"states leave 24 bits {count} times on the data"
        assert not finding.blocks
        assert finding.layer == 0
    with pytest.raises(ValueError, match="does not take"):
        export.check(path, data=some[:, 1:])


@pytest.mark.parametrize("kind", ["Conv", "ConvT"])
def test_fan_in_of_a_convolution_is_that_of_a_neuron(kind):
    groups = 2
    block = image(
        kind, 2, 4, 3, groups=groups, padding=1, pre_hook_fx=lambda w: torch.ones_like(w) * 3
    )
    (rows,) = findings._rows(describe.survey(block)[0])
    assert rows.shape[1] == 2 // groups * 3 * 3
    assert (rows == 192).all()


def test_before_training():
    net = nn.Sequential(
        cuba.Dense(CUBA | PER_CHANNEL, 12, 9, delay=True), cuba.Pool(CUBA, 2), cuba.Flatten()
    )
    found = export.check(net)
    unknown = [f for f in found if "has not run forward" in f.problem]
    assert [f.layer for f in unknown] == [0, 1, 2]
    assert any("no convT" in f.problem for f in found)
    assert all("input_shape" in f.remedy for f in unknown)


@a_few_networks
def test_a_shape_stands_for_a_forward(name):
    make, shape = NETWORKS[name]
    net = make()
    state = torch.get_rng_state()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = export.check(net, input_shape=shape)
    torch.testing.assert_close(torch.get_rng_state(), state)
    torch.testing.assert_close(dict(net.state_dict()), before)
    assert net.training
    assert not any("forward" in f.problem for f in found)
    assert any(f.blocks for f in found) == (name not in DEPLOYABLE)


DEPLOYABLE = {
    "mlp", "conv", "weight norm", "mask", "mask and weight norm", "delay", "mean norm",
    "delay of one channel", "channel decays", "decays of one channel", "tuple dense",
}  # fmt: skip


@a_few_networks
def test_a_file_and_its_network_have_the_same_errors(name, tmp_path):
    net, _ = network(name)
    export.save(net, tmp_path / "a.net", target="lapilli")
    of_file = {f.problem for f in export.check(tmp_path / "a.net") if f.blocks}
    assert of_file == {f.problem for f in export.check(net) if f.blocks}
    if not of_file:
        export.save(net, tmp_path / "b.net")


def test_the_format_alone(tmp_path):
    net, _ = network("image")
    assert export.check(net, "lapilli") == []


def test_shapes_that_do_not_fit():
    (finding,) = export.check([settled_dense(), settled_dense()])
    assert str(finding).startswith("network: error: layer 1 (cuba.Dense): weight: has 6 inputs")
    with pytest.raises(ValueError, match=r"input_shape \(5,\) does not suit layer 0 \(cuba.Dense"):
        export.check([cuba.Dense(CUBA, 6, 4)], input_shape=(5,))


def test_what_is_no_block():
    (finding,) = export.check(nn.Sequential(nn.Linear(2, 2)))
    assert finding.blocks
    assert "neither a block" in finding.problem


def test_unknown_target():
    with pytest.raises(ValueError, match="one of loihi2-netx, lapilli; got 'gpu'"):
        export.check([settled_dense()], wrong("gpu"))


@pytest.mark.slow
def test_the_readme_tells_what_netx_deploys():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (header,) = re.findall(r"^\| block \|(.*)\|$", readme, flags=re.M)
    (row,) = re.findall(r"^\| \*\*Lava's netx deploys\*\*[^|]*\|(.*)\|$", readme, flags=re.M)
    named = {
        family.strip(): {kind.strip() for kind in kinds.split(",")} - {""} | {"Flatten"}
        for family, kinds in zip(header.split("|"), row.split("|"), strict=True)
    }
    deployed = {family: set() for family in named}
    for family, kind in CELLS:
        block = make(family, kind).eval()
        block(events(kind))
        if not any(finding.blocks for finding in export.check(block)):
            deployed[family].add(kind)
    assert named == deployed
