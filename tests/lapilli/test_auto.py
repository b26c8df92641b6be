from typing import Any

import h5py
import pytest
import torch
from known import opened, wrong
from lapilli.blocks import cuba, sigma_delta
from torch.testing import assert_close

from lapilli import export
from lapilli.slayer.auto import SequentialNetwork, get_classes, get_neuron_params
from lapilli.slayer.utils.utils import event_rate

NEURON = {"threshold": 0.5, "current_decay": 0.25, "voltage_decay": 0.1}
X = (torch.rand(3, 2, 4, 4, 12) < 0.4).float()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        cuba.Conv(NEURON, 2, 3, 3, weight_scale=2),
        cuba.Flatten(),
        cuba.Dense(NEURON, 12, 5, weight_scale=4),
    ).eval()


@pytest.fixture
def file(net, tmp_path):
    net(X)
    export.save(net, tmp_path / "a.net")
    return tmp_path / "a.net"


def test_same_spikes(net, file):
    again = SequentialNetwork(str(file))
    assert not again.training
    assert isinstance(again.blocks, torch.nn.ModuleList)
    assert net(X).any()
    assert_close(again(X), net(X), rtol=0, atol=0)
    file.rename(file.with_name("moved"))  # nothing holds it


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reduction(net, file, reduction):
    want = getattr(net(X), reduction)(-1)
    assert_close(SequentialNetwork(file, reduction=reduction)(X), want, rtol=0, atol=0)
    conv = SequentialNetwork(file, reduction=reduction)
    del conv.blocks[1:]  # several axes after the channels
    want = getattr(net[0](X), reduction)((2, 3, 4))
    assert_close(conv(X), want)


def test_count_log(net, file):
    output, counts = SequentialNetwork(file, count_log=True)(X)
    assert_close(output, net(X), rtol=0, atol=0)
    assert counts.shape == (1, 3)
    want, y = [], X
    for block in net:
        y = block(y)
        want.append(event_rate(y))
    assert_close(counts[0], torch.tensor(want))


def test_persistent_state(net, file):
    again = SequentialNetwork(file, persistent_state=True)
    pieces = torch.cat([again(x) for x in X.split(5, -1)], -1)
    assert_close(pieces, net(X), rtol=0, atol=0)


def test_persistent_state_of_sigma_delta(tmp_path):
    q = {"threshold": 0.1, "activation": torch.relu}
    net = torch.nn.Sequential(
        sigma_delta.Input(q), sigma_delta.Dense(q, 4, 6), sigma_delta.Output(q, 6, 2)
    )
    x = torch.rand(2, 4, 10)
    want = net(x)
    export.save(net, tmp_path / "a.net")
    again = SequentialNetwork(tmp_path / "a.net", persistent_state=True)
    assert_close(torch.cat([again(p) for p in x.split(3, -1)], -1), want, rtol=0, atol=0)


def test_weight_norm(net, file):
    again = SequentialNetwork(file, weight_norm=True)
    names = set(again.state_dict())
    assert {f"blocks.{i}.synapse.weight_{v}" for i in (0, 2) for v in "gv"} <= names
    assert_close(again(X), net(X), rtol=0, atol=0)


def test_refusals(file, tmp_path):
    with pytest.raises(ValueError, match="'max'; expected 'sum', 'mean' or None"):
        SequentialNetwork(file, reduction=wrong("max"))
    with pytest.raises(FileNotFoundError):
        SequentialNetwork(tmp_path / "none.net")


TYPES = {
    None: "cuba", "CUBA": "cuba", "LOIHI": "cuba", "ALIF": "alif", "RF_PHASE": "rf",
    "RF_IZHIKEVICH": "rf_iz", "ADRF_PHASE": "adrf", "ADRF_IZHIKEVICH": "adrf_iz",
    "SDNN": "sigma_delta", b"CUBA": "cuba",
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_classes(name):
    neuron, block = get_classes(name)
    assert neuron.__name__ == f"lapilli.neurons.{TYPES[name]}"
    assert block.__name__ == f"lapilli.blocks.{TYPES[name]}"


def test_unknown_class():
    with pytest.raises(ValueError, match="'LIF'; expected one of CUBA"):
        get_classes("LIF")


def test_neuron_params(file):
    with opened(file) as handle:
        group = handle["layer/2/neuron"]
        neuron, _ = get_classes(group["type"][()])
        params = get_neuron_params(group, neuron)
    assert params == {
        "threshold": 0.5, "current_decay": 0.25, "voltage_decay": round(0.1 * 4096) / 4096,
    }  # fmt: skip


def strip(path):
    """Make a file look like one of lava-dl: without attributes and extensions of lapilli."""
    with opened(path, "r+") as handle:
        for group in (handle, *handle["layer"].values()):
            group.pop("lapilli", None)
            for name in list(group.attrs):
                del group.attrs[name]


def test_shapes_of_older_files(net, file):
    """lava-dl once wrote [1, 1, n] for a flattened layer and [n, 1, 1] for those after it."""
    strip(file)
    with h5py.File(file, "r+") as handle:
        for layer, shape in (("1", (1, 1, 12)), ("2", (5, 1, 1))):
            del handle[f"layer/{layer}/shape"]
            handle[f"layer/{layer}/shape"] = shape
    again = SequentialNetwork(file)
    assert again.blocks[2].shape == (5,)
    assert_close(again(X), net(X), rtol=0, atol=0)


def test_thresholds_below_the_grid(tmp_path):
    """A threshold learned to less than 1/64 is 0 in the file; every change is sent then."""
    q = {"threshold": 0.1, "activation": torch.relu}
    net: Any = torch.nn.Sequential(sigma_delta.Input(q), sigma_delta.Dense(q, 4, 6)).eval()
    x = torch.rand(2, 4, 10)
    net(x)
    with torch.no_grad():
        net[1].neuron.delta.threshold.fill_(0.001)
        want = net(x)
    export.save(net, tmp_path / "a.net", target="lapilli")
    strip(tmp_path / "a.net")
    with opened(tmp_path / "a.net") as handle:
        assert handle["layer/1/neuron/vThMant"][()] == 0
    again: Any = SequentialNetwork(tmp_path / "a.net")
    assert again.blocks[1].neuron.delta.threshold.item() == 1 / 4096
    assert want.any()
    assert (again(x) != 0).sum() >= (want != 0).sum()
