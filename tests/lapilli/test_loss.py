"""Losses: the values of lava-dl, gradients, reductions, and what each of them allows."""

from typing import Any

import pytest
import torch
from known import present, wrong
from spikes_of_lava_dl import LABELS, LABELS_IN_TIME, ONE_HOT, D, S
from tolerances import FLOAT32, TRANSFORM
from torch.testing import assert_close

from lapilli.filter import conv, fast_conv
from lapilli.loss import SparsityEnforcer, SpikeMax, SpikeMoid, SpikeRate, SpikeTime

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
    "time": (SpikeTime(), D, 13.69012, (18.4345, -1.37217, -0.273137, -0.0801177)),
    "time, short": (
        SpikeTime(2, length=4), D, 16.30043, (8.48777, -0.560169, -0.722343, -0.289498),
    ),
    "time, second order": (
        SpikeTime(2, filter_order=2), D, 13.73475, (33.8082, -3.07279, 0.833093, -0.0539026),
    ),
    "time, third order": (
        SpikeTime(2, filter_order=3, reduction="mean"), D, 0.5076364,
        (2.17473, -0.314114, 0.0762907, 0.0137612),
    ),
    "max": (SpikeMax(), LABELS, 2.215575, (-0.0848517, 0.0999999, -0.233333, -0.159091)),
    "max, softmax": (
        SpikeMax(mode="softmax"), LABELS, 2.200695, (0, 0.0452081, -0.085104, -0.0816348),
    ),
    "max, mean": (
        SpikeMax(mode="logsoftmax", reduction="mean"), LABELS, 2.200695 / 2,
        (0, 0.0452081 / 2, -0.085104 / 2, -0.0816348 / 2),
    ),
    "max, window": (
        SpikeMax(3, "softmax"), LABELS, 17.44524, (0, 0.370818, -0.666667, -0.235167),
    ),
    "max, labels in time": (
        SpikeMax(3, "softmax"), LABELS_IN_TIME, 17.11191, (0, 0.370818, 0, 0.0981659),
    ),
    "moid": (SpikeMoid(), ONE_HOT, 4.741601, (1.64538, 0.0778074, -0.0509167, -0.0471926)),
    "moid, alpha and theta": (
        SpikeMoid(alpha=0.5, theta=0.25), ONE_HOT, 4.650049,
        (3.10782, 0.155615, -0.109456, -0.0943852),
    ),
    "moid, window": (
        SpikeMoid(3, alpha=0.5, theta=0.25), ONE_HOT, 35.79848,
        (20.0435, 1.08314, -0.8132, -0.30562),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_values_of_lava_dl(name, device):
    loss, label, value, gradient = GOLDEN[name]
    spikes = S.clone().to(device).requires_grad_()
    got = loss.to(device)(spikes, label.to(device))
    got.backward()
    g = present(spikes.grad).cpu()
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
        SpikeRate(0.9, 0.1, reduction=wrong("median"))
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        SpikeRate(0.9, 0.1)(S[0], LABELS)


# all losses alike: (loss, its target for spikes [2, 3, 8])
TARGETS = {
    "time": (lambda **o: SpikeTime(3, length=20, filter_order=2, **o), D),
    "rate": (lambda **o: SpikeRate(0.7, 0.1, **o), LABELS),
    "rate, window": (lambda **o: SpikeRate(0.7, 0.1, 3, **o), LABELS_IN_TIME),
    "max": (lambda **o: SpikeMax(**o), LABELS),
    "max, window": (lambda **o: SpikeMax(5, **o), LABELS_IN_TIME),
    "softmax": (lambda **o: SpikeMax(mode="softmax", **o), LABELS),
    "softmax, window": (lambda **o: SpikeMax(5, "softmax", **o), LABELS),
    "moid": (lambda **o: SpikeMoid(alpha=0.4, theta=0.3, **o), ONE_HOT.double()),
    "moid, window": (lambda **o: SpikeMoid(3, alpha=0.4, **o), ONE_HOT[..., None].expand(2, 3, 8)),
}


@pytest.fixture(params=TARGETS)
def problem(request):
    return TARGETS[request.param]


def test_gradients_of_every_loss(problem):
    make, target = problem
    spikes = torch.rand(2, 3, 8, dtype=torch.float64).add(0.1).requires_grad_()
    torch.autograd.gradcheck(lambda s: make().double()(s, target), spikes)
    torch.autograd.gradgradcheck(lambda s: make().double()(s, target), spikes, fast_mode=True)


def test_reductions_of_every_loss(problem):
    make, target = problem
    terms = make(reduction="none")(S, target)
    assert terms.ndim == 1
    assert_close(make()(S, target), terms.sum(), **FLOAT32)
    assert_close(make(reduction="mean")(S, target), terms.mean(), **FLOAT32)
    with pytest.raises(ValueError, match="expected one of sum, mean, none"):
        make(reduction="max")


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16])
def test_any_dtype_counts_as_float32_in_every_loss(problem, dtype):
    make, target = problem
    loss = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(S.to(dtype), target)
    assert got.dtype == torch.float32
    assert_close(got, loss(S, target.float() if target.dtype == torch.float64 else target),
                 rtol=0, atol=0)  # fmt: skip


def test_memory_layout_does_not_matter(problem):
    make, target = problem
    rows = torch.rand(2, 8, 3)  # as a layer leaves it
    apart = rows.movedim(1, -1)
    assert_close(make()(apart, target), make()(apart.contiguous(), target), **FLOAT32)


def test_labels_of_any_type_are_probabilities():
    for dtype in (torch.bool, torch.int32, torch.float16):
        assert_close(SpikeMoid()(S, ONE_HOT.to(dtype)), SpikeMoid()(S, ONE_HOT), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"labels are 0\.\.2; expected probabilities"):
        SpikeMoid()(S, 2 * ONE_HOT)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); got \(2,\)"):
        SpikeMoid()(S, LABELS)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) or \(2, 3, 8\); got \(2, 3, 7\)"):
        SpikeMoid(3)(S, S[..., 1:])
    with pytest.raises(ValueError, match="alpha is 0"):
        SpikeMoid(alpha=0)


def test_saturated_sigmoid_gives_what_lava_dl_gives():
    loss = SpikeMoid(alpha=0.01, theta=0.5)
    for spikes, label, value, gradient in ((1.0, 0, 100, 0), (0.0, 1, 50, -1.92875e-9)):
        s = torch.full((1, 1, 10), spikes, requires_grad=True)
        got = loss(s, torch.tensor([[label]]))
        got.backward()
        assert_close(got.detach(), torch.tensor(float(value)), **FLOAT32)
        want = torch.full_like(s, gradient)
        assert_close(s.grad, want, rtol=1e-4, atol=0)


def test_a_silent_class_gives_a_finite_loss_and_no_gradient():
    spikes = S.clone()
    spikes[0, 1] = 0  # the labelled class of the first sample
    spikes.requires_grad_()
    terms = SpikeMax(reduction="none")(spikes, LABELS)
    terms.sum().backward()
    assert_close(terms[0].detach(), torch.tensor(13.8155), **FLOAT32)
    assert not present(spikes.grad)[0].any()
    assert present(spikes.grad)[1].any()
    loss = SpikeMax(3)  # in the first steps of a window silence is the rule
    spikes = S.clone().requires_grad_()
    value = loss(spikes, LABELS_IN_TIME)
    value.backward()
    assert value.isfinite()
    assert present(spikes.grad).isfinite().all()


def test_modes_of_spike_max():
    assert_close(SpikeMax(mode="softmax")(S, LABELS), SpikeMax(mode="logsoftmax")(S, LABELS))
    with pytest.raises(ValueError, match="'max'; expected one of probability, softmax, logsoft"):
        SpikeMax(mode=wrong("max"))
    with pytest.raises(ValueError, match=r"labels are 1\.\.3"):
        SpikeMax()(S, torch.tensor([1, 3]))


def test_spike_time_takes_any_shape_and_differentiates_the_target():
    loss = SpikeTime(2, length=5)
    for shape in ((8,), (3, 8), (2, 3, 4, 5, 8)):
        a, b = torch.rand(shape, requires_grad=True), torch.rand(shape, requires_grad=True)
        loss(a, b).backward()
        assert_close(b.grad, -present(a.grad), rtol=0, atol=0)
        assert present(a.grad).any()
    for shape in ((3, 2, 8), (2, 3, 7), (1,)):
        with pytest.raises(ValueError, match=r"got \(2, 3, 8\) and \(" + str(shape)[1:-1]):
            loss(S, torch.zeros(shape))
    with pytest.raises(ValueError, match=r"filter_order must be .* of at least 1; got 0"):
        SpikeTime(filter_order=0)


def test_filter_of_spike_time():
    loss = SpikeTime(5, length=6, filter_order=2)
    k = torch.arange(6)
    assert_close(loss.filter.filter, ((k + 1) * torch.exp(-k / 5))[None], **FLOAT32)
    assert loss.filter(torch.ones(9)).shape == (1, 9)
    first = SpikeTime(5, length=6)
    assert [v.shape for v in first.state_dict().values()] == [(6,)]
    assert list(loss.state_dict()) == ["filter.filter"]
    for source, target in ((loss, first), (first, loss)):  # either shape loads into either
        target.load_state_dict(source.state_dict())
        assert_close(target.filter.filter.flatten(), source.filter.filter.flatten())


@pytest.mark.parametrize("length", [16, 40, 100])
@pytest.mark.parametrize("T", [1, 7, 64, 1001])
def test_long_filters_go_through_a_transform(length, T):
    x = (torch.rand(3, T) < 0.2).float().requires_grad_()
    response = torch.exp(-torch.arange(length) / 10)
    exact, quick = conv(x, response), fast_conv(x, response)
    assert_close(quick, exact, **TRANSFORM)
    g = torch.randn(3, T)
    want, got = (torch.autograd.grad(y, x, g)[0] for y in (exact, quick))
    assert_close(got, want, **TRANSFORM)


def test_sparsity_enforcer():
    enforcer = SparsityEnforcer(0.1, 2)
    assert enforcer.loss == 0
    busy, quiet = S.clone().requires_grad_(), (0.1 * S).requires_grad_()
    enforcer.append(-busy)
    enforcer.append(quiet)
    total: Any = enforcer.loss
    assert_close(total.detach(), torch.tensor(0.2278125), **FLOAT32)
    total.backward()
    # of |x| at 0 the gradient is 0
    assert_close(busy.grad, 0.028125 * S, **FLOAT32)
    assert not present(quiet.grad).any()
    assert len(enforcer.loss_list) == 2
    enforcer.clear()
    assert enforcer.loss_list == []
    enforcer.append(S.bool())
    assert enforcer.loss > 0
