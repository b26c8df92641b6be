import pytest
import torch
from spikes_of_lava_dl import LABELS, LABELS_IN_TIME, S
from tolerances import FLOAT32
from torch.testing import assert_close

from lapilli.loss import SpikeRate

# loss, label, its value, then its gradient: the sum, at [0, 0, 0], [0, 1, 3], [1, 2, 7]
GOLDEN = {
    "sum": (SpikeRate(0.2, 0.03), LABELS, 0.800475, (4.21, 0.1175, 0.04375, 0.075)),
    "mean": (
        SpikeRate(0.9, 0.1, reduction="mean"), LABELS, 0.1511458,
        (0.141667, 0.0166667, -0.021875, -0.0166667),
    ),
    "window": (
        SpikeRate(0.9, 0.1, moving_window=3), LABELS_IN_TIME, 7.457777,
        (2.75556, 0.466667, 0.155556, 0.155556),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_values_of_lava_dl(name, device):
    loss, label, value, gradient = GOLDEN[name]
    spikes = S.clone().to(device).requires_grad_()
    got = loss.to(device)(spikes, label.to(device))
    got.backward()
    g = spikes.grad.cpu()
    assert_close(got.detach().cpu(), torch.tensor(value), **FLOAT32)
    picked = torch.stack([g.sum(), g[0, 0, 0], g[0, 1, 3], g[1, 2, 7]])
    assert_close(picked, torch.tensor(gradient), **FLOAT32)


@pytest.mark.parametrize("window", [None, 1, 3, 11])
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_gradient(window, reduction):
    loss = SpikeRate(0.7, 0.1, moving_window=window, reduction=reduction).double()
    spikes = torch.rand(2, 3, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda s: loss(s, LABELS), spikes)


@pytest.mark.parametrize("window", [None, 3])
def test_reductions_agree(window):
    terms = SpikeRate(0.7, 0.1, window, "none")(S, LABELS)
    assert terms.shape == (2 * 3 * (1 if window is None else 8),)
    assert_close(SpikeRate(0.7, 0.1, window)(S, LABELS), terms.sum(), **FLOAT32)
    assert_close(SpikeRate(0.7, 0.1, window, "mean")(S, LABELS), terms.mean(), **FLOAT32)


def test_label_is_held_over_time():
    loss = SpikeRate(0.9, 0.1, moving_window=3)
    assert_close(
        loss(S, LABELS), loss(S, LABELS[:, None].expand(2, 8).contiguous()), rtol=0, atol=0
    )
    assert loss(S, LABELS) != loss(S, LABELS_IN_TIME)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_every_integer_is_a_label(dtype):
    loss = SpikeRate(0.9, 0.1)
    assert_close(loss(S, LABELS.to(dtype)), loss(S, LABELS), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 3])
def test_spikes_count_as_float32(dtype, window):
    loss = SpikeRate(0.9, 0.1, window)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(S.to(dtype), LABELS)
    assert got.dtype == torch.float32
    assert_close(got, loss(S, LABELS), rtol=0, atol=0)


def test_class_axes_are_flattened():
    spikes = torch.rand(2, 3, 2, 1, 8)
    loss = SpikeRate(0.9, 0.1)
    label = torch.tensor([0, 5])
    assert_close(loss(spikes, label), loss(spikes.reshape(2, 6, 8), label), rtol=0, atol=0)


def test_window_is_a_submodule_with_lava_dls_key():
    assert list(SpikeRate(0.9, 0.1, 3).state_dict()) == ["window.filter.filter"]
    assert not SpikeRate(0.9, 0.1).state_dict()
    assert SpikeRate(0.9, 0.1).window is None


@pytest.mark.parametrize("rates", [(1.5, 0.1), (0.5, -0.1), (float("nan"), 0.1)])
def test_rate_out_of_range(rates):
    with pytest.raises(AssertionError, match=r"expected a rate in 0\.\.1"):
        SpikeRate(*rates)


@pytest.mark.parametrize(
    ("label", "match"),
    [
        (torch.tensor([1, 3]), r"labels are 1\.\.3; expected 0\.\.2 for 3 classes"),
        (torch.tensor([-1, 2]), r"labels are -1\.\.2"),
        (torch.tensor([1, 2, 0]), r"of shape \(2,\); got torch.int64 of shape \(3,\)"),
        (torch.tensor([1.0, 2.0]), "got torch.float32"),
        (LABELS_IN_TIME, r"of shape \(2,\)"),
    ],
)
def test_wrong_labels(label, match):
    with pytest.raises(ValueError, match=match):
        SpikeRate(0.9, 0.1)(S, label)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="'median'; expected one of sum, mean, none"):
        SpikeRate(0.9, 0.1, reduction="median")
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        SpikeRate(0.9, 0.1)(S[0], LABELS)
