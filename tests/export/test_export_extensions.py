"""What lapilli adds to netx's format: norms of inputs, thresholds, delays, a decay a channel."""

from typing import Any

import h5py
import numpy as np
import pytest
import torch
from export_networks import (
    CUBA,
    MEAN,
    ROTATING,
    SENDING,
    settle,
    settled_dense,
    spikes,
)
from known import opened
from lapilli.blocks import cuba, rf, rf_iz, sigma_delta
from torch import nn
from turns import soon

from lapilli import export, neurons

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")


@pytest.mark.parametrize("norm", ["MeanOnlyBatchNorm", "WgtScaleBatchNorm"])
@pytest.mark.parametrize("family", soon((cuba,), (cuba, rf_iz)), ids=lambda f: f.__name__)
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
    with opened(tmp_path / "a.net") as file:
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
    loaded: Any = export.load(tmp_path / "a.net")
    torch.testing.assert_close(loaded(x), want, rtol=0, atol=0)
    assert loaded[0].neuron.delta.tau_grad == 1


@pytest.mark.parametrize("shared", [True, False])
def test_learned_thresholds_come_back_exactly(shared, tmp_path):
    params = SENDING | {"shared_param": shared}
    net: Any = nn.Sequential(settle(sigma_delta.Dense(params, 6, 4, weight_scale=3), (6,)))
    values = net[0].neuron.delta.threshold.data
    values += torch.arange(values.numel()).view_as(values) / 77 + 0.005
    with pytest.warns(export.QuantisationWarning, match="vThMant: threshold rounded to 1/64, larg"):
        export.save(net, tmp_path / "a.net", target="lapilli")
    loaded: Any = export.load(tmp_path / "a.net")
    torch.testing.assert_close(loaded[0].neuron.delta.threshold.data, values, rtol=0, atol=0)
    x = torch.randn(2, 6, 60) / 8
    torch.testing.assert_close(loaded(x), net(x), rtol=0, atol=0)
    values.fill_(torch.nan)
    with pytest.raises(ValueError, match="neuron/vThMant: holds values that are not finite"):
        export.save(net, tmp_path / "a.net")


def test_delays_beyond_the_chip(tmp_path):
    net: Any = nn.Sequential(settled_dense(delay=True, weight_scale=3))
    net[0].delay.delay.data = torch.tensor([1.5, 70.0, 1e9, -3.0])
    x = spikes(2, 6, 100)
    with pytest.warns(export.QuantisationWarning, match="delay: 3 values beyond .*as forward uses"):
        export.save(net, tmp_path / "a.net")
    with opened(tmp_path / "a.net") as file:
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
    net: Any = nn.Sequential(settled_dense(delay=True, weight_scale=3))
    net[0].delay.delay.data = torch.tensor([1.5, 4.0, 7.0, 0.0])
    net[0].delay.sampling_time = 2
    x = spikes(2, 6, 60)
    export.save(net, tmp_path / "a.net")
    torch.testing.assert_close(export.load(tmp_path / "a.net")(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["iDecay", "vDecay"])
def test_one_decay_a_channel_and_the_other_for_all(name, tmp_path):
    net = nn.Sequential(settled_dense(weight_scale=3))
    export.save(net, tmp_path / "a.net")
    with opened(tmp_path / "a.net", "a") as file:
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
    with opened(tmp_path / "a.net") as file:
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
