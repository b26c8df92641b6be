"""The integer interpreter: equal to training, and right by hand where the chip's limits count."""

import numpy as np
import pytest
import torch
from export_networks import (
    CUBA,
    ROTATING,
    SENDING,
    SLOW_NETWORKS,
    each_network,
    network,
    settle,
    spikes,
)
from golden_cases import cases
from golden_runs import run
from known import opened
from lapilli.blocks import cuba, rf, sigma_delta

from lapilli import export

pytestmark = [
    pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning"),
    pytest.mark.filterwarnings("ignore::lapilli.export.QuantisationWarning"),
]


def golden():
    """Every case of lava-dl's blocks and networks; one of each class in the quick suite."""
    seen = set()
    for case in cases("block") + cases("export"):
        if "c0/in/x" not in case.entries:
            continue
        key = case.name if case.kind == "export" else case.target
        yield pytest.param(case, marks=[pytest.mark.slow] * (key in seen), id=case.name)
        seen.add(key)


def assert_runs_as(net, path, x, unit=1):
    with torch.no_grad():
        want = net(x)
    want = want[0] if isinstance(want, tuple) else want
    result = export.run(path, x.numpy(), unit=unit)
    assert result.output.dtype == np.int64
    got = torch.from_numpy(result.output / result.unit).float()
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    return want, result


@pytest.mark.parametrize("case", list(golden()))
def test_blocks_and_networks_of_lava_dl(case, tmp_path):
    module, _ = run(case)
    export.save(module.blocks if case.kind == "export" else [module], tmp_path / "a.net",
                target="lapilli")  # fmt: skip
    x = case.arrays["c0/in/x"]
    unit = 1 if torch.equal(x, x.round()) else 4096
    assert_runs_as(export.load(tmp_path / "a.net"), tmp_path / "a.net", x, unit)


@each_network
def test_networks(name, tmp_path):
    assert_network_runs(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_NETWORKS)
def test_recurrent_networks(name, tmp_path):
    assert_network_runs(name, tmp_path)


def assert_network_runs(name, tmp_path):
    net, shape = network(name)
    export.save(net, tmp_path / "a.net", target="lapilli")
    want, _ = assert_runs_as(net, tmp_path / "a.net", spikes(3, *shape, 60))
    assert want.count_nonzero(), "a silent network shows nothing"


def test_a_loihi_that_does_not_overflow_is_slayer(tmp_path):
    net, shape = network("mlp")
    export.save(net, tmp_path / "a.net")
    x = spikes(3, *shape, 60).numpy()
    slayer, loihi = (export.run(tmp_path / "a.net", x, overflow=o) for o in ("slayer", "loihi"))
    np.testing.assert_array_equal(slayer.output, loihi.output)
    assert slayer.overflows == loihi.overflows == 0


@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_encoding_of_an_input_block(kind, tmp_path):
    net = settle(cuba.Input(CUBA | {"graded_spike": True}, weight=1.5, bias=-0.25), (6,))
    export.save([net], tmp_path / "a.net")
    x = torch.randn(2, 6, 40) * 3  # beyond the grid of [-4, 4)
    x[0, 0, :4] = torch.tensor([1.5, 2.5, -1.5, -2.5]) / 32  # ties of the rounding
    if kind == "integers":
        unit = 64
        x = torch.round(x * unit) / unit
        with torch.no_grad():
            want = net(x)
        got = export.run(tmp_path / "a.net", (x * unit).to(torch.int32).numpy(), unit=unit)
        np.testing.assert_array_equal(got.output, want.numpy() * got.unit)
    else:
        assert_runs_as(net, tmp_path / "a.net", x)


def test_fractions_of_a_fed_first_layer(tmp_path):
    net = settle(sigma_delta.Dense(SENDING, 6, 4, weight_scale=3), (6,))
    export.save([net], tmp_path / "a.net")
    x = torch.round(torch.randn(2, 6, 40) * 16) / 4096
    _, result = assert_runs_as(net, tmp_path / "a.net", x, unit=4096)
    again = export.run(tmp_path / "a.net", (x * 4096).to(torch.int64).numpy(), unit=4096)
    np.testing.assert_array_equal(result.output, again.output)


# 24 bits, by hand


def integrator(path, weight, threshold, *, block="Affine"):
    """One neuron that forgets nothing, so that every step adds ``weight`` to its current."""
    params = {"threshold": threshold, "current_decay": 0.0, "voltage_decay": 1.0}
    net = getattr(cuba, block)(params, 1, 1)
    with torch.no_grad():
        net.synapse.weight.fill_(weight)
    export.save([settle(net, (1,))], path)
    return path


LIMIT = 2**23


@pytest.mark.parametrize(("sign", "step"), [(1, 254 * 64), (-1, 256 * 64)])
def test_current_wraps_and_voltage_stays(sign, step, tmp_path):
    path = integrator(tmp_path / "a.net", sign * step / 4096, 1.0)
    x = np.ones((1, 1, 3 * LIMIT // step), np.int8)
    u = sign * step * np.arange(1, x.size + 1)  # the voltage forgets at once: v = u
    free = export.run(path, x)
    np.testing.assert_array_equal(free.output[0, 0], u)
    # over the current, and over the voltage
    assert free.overflows == 2 * (abs(u) >= LIMIT).sum() > 0
    held = export.run(path, x, overflow="loihi")
    wrapped = (u + LIMIT - 1) % (2 * LIMIT) - LIMIT + 1
    np.testing.assert_array_equal(held.output[0, 0], np.clip(wrapped, 1 - LIMIT, LIMIT - 1))
    assert 0 < held.overflows < free.overflows


def test_resonators_and_sums_stay_at_the_limit(tmp_path):
    affine = rf.Affine(ROTATING | {"period": 1e6, "decay": 0.0}, 1, 1)
    output = sigma_delta.Output(SENDING, 1, 1)
    for net in (affine, output):
        with torch.no_grad():
            for weight in net.synapse.parameters():
                weight.fill_(3.96875)
        export.save([settle(net, (1,))], tmp_path / "a.net")
        x = np.ones((1, 1, 2000), np.int8)
        free = export.run(tmp_path / "a.net", x)
        held = export.run(tmp_path / "a.net", x, overflow="loihi")
        assert free.overflows > 0
        reach = 2048 if net is affine else 32  # 24 bits over the state scale, and over its square
        assert held.output.max() / held.unit <= reach < free.output.max() / free.unit
        assert held.output.max() / held.unit > reach - 1


def test_nothing_is_a_float(tmp_path, monkeypatch):
    net, shape = network("sigma delta")
    export.save(net, tmp_path / "a.net")
    from lapilli.export.machine import interpreter
    from lapilli.export.machine import neurons as integer_neurons

    step = integer_neurons._SigmaDelta.step

    def watched(cells, *inputs):
        assert all(x.dtype == np.int64 for x in inputs)
        y = step(cells, *inputs)
        states = [v for v in vars(cells).values() if isinstance(v, np.ndarray)]
        assert all(s.dtype == np.int64 for s in (y, *states))
        return y

    monkeypatch.setattr(integer_neurons._SigmaDelta, "step", watched)
    result = interpreter.run(tmp_path / "a.net", spikes(1, *shape, 5).numpy())
    assert result.output.dtype == np.int64


# wrong input


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((2, 34, 5), "U1"), {}, "must hold numbers; got <U1"),
        (np.zeros((2, 34, 5), complex), {}, "must hold numbers; got complex128"),
        (np.zeros((34, 5)), {}, r"got shape \(34, 5\).*x\[np.newaxis\]"),
        (np.zeros((0, 34, 5)), {}, "not empty"),
        (np.zeros((2, 34, 0)), {}, "not empty"),
        (np.zeros((2, 33, 5)), {}, r"samples \(33,\), which layer 0 \(cuba.Dense\)"),
        (np.full((2, 34, 5), np.nan), {}, "not finite"),
        (np.full((2, 34, 5), 0.3), {}, r"holds 0\.3, which is no multiple of 1/1"),
        (np.full((2, 34, 5), 0.3), {"unit": 4096}, "no multiple of 1/4096"),
        (np.full((2, 34, 5), 2**40), {}, "beyond 32 bits"),
        (np.zeros((2, 34, 5)), {"unit": 0}, "unit must be at least 1"),
        (np.zeros((2, 34, 5)), {"overflow": "wrap"}, "one of slayer, loihi; got 'wrap'"),
    ],
)
def test_wrong_input(x, options, message, tmp_path):
    net, _ = network("mlp")
    export.save(net, tmp_path / "a.net")
    with pytest.raises(ValueError, match=message):
        export.run(tmp_path / "a.net", x, **options)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("conv", (2, 10, 12)), ("conv", (240,)), ("tuple dense", (23,)), ("image", (2, 8, 8))],
)
def test_input_of_another_shape(name, shape, tmp_path):
    net, _ = network(name)
    export.save(net, tmp_path / "a.net")
    with pytest.raises(ValueError, match="does not take"):
        export.run(tmp_path / "a.net", np.zeros((1, *shape, 3)))


def test_activation_without_integer_form(tmp_path):
    net = settle(sigma_delta.Dense(SENDING | {"activation": torch.tanh}, 6, 4), (6,))
    export.save([net], tmp_path / "a.net")
    with pytest.raises(export.NetworkFileError, match=r"/layer/0/neuron/activation: is 'tanh'"):
        export.run(tmp_path / "a.net", np.zeros((1, 6, 3)))


def test_file_of_lava_dl_without_options(tmp_path):
    """Without attributes the layers hop by the defaults of lava-dl; an Input alone does not."""
    net, shape = network("conv")
    export.save(net, tmp_path / "a.net")
    with opened(tmp_path / "a.net", "a") as file:
        for owner in (file, *file["layer"].values()):
            for name in list(owner.attrs):
                del owner.attrs[name]
    x = spikes(2, *shape, 40)
    want, _ = assert_runs_as(export.load(tmp_path / "a.net"), tmp_path / "a.net", x)
    torch.testing.assert_close(want, net(x), rtol=0, atol=0)
