"""Losses whose labels or targets are arranged otherwise, and sequences of unequal length."""

import pytest
import torch
from known import present
from spikes_of_lava_dl import LABELS, LABELS_IN_TIME, ONE_HOT, D, S
from tolerances import FLOAT32
from torch.testing import assert_close

from lapilli.loss import SpikeMax, SpikeMoid, SpikeRate, SpikeTime

ONE = S[:, :1]  # one output


@pytest.mark.parametrize("shape", [(2, 1), (2, 1, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kind", [lambda w: SpikeRate(0.2, 0.03, w), SpikeMax])
def test_labels_of_whole_samples_with_axes_of_size_one(kind, window, shape):
    loss = kind(window)
    assert_close(loss(S, LABELS.reshape(shape)), loss(S, LABELS), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 1, 8), (2, 8, 1)], ids=str)
@pytest.mark.parametrize("kind", [lambda w: SpikeRate(0.2, 0.03, w), SpikeMax])
def test_labels_in_time_with_axes_of_size_one(kind, shape):
    loss = kind(3)
    assert_close(loss(S, LABELS_IN_TIME.reshape(shape)), loss(S, LABELS_IN_TIME), rtol=0, atol=0)


def test_a_single_sample_may_have_a_label_without_axes():
    assert_close(
        SpikeRate(0.2, 0.03)(S[:1], LABELS[0]), SpikeRate(0.2, 0.03)(S[:1], LABELS[:1]),
        rtol=0, atol=0,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 2), (2, 1, 1)], ids=str)
@pytest.mark.parametrize("window", [None, 3])
def test_probabilities_of_one_output(window, shape):
    loss, label = SpikeMoid(window), torch.tensor([1.0, 0.25])
    rates = loss._rates(ONE)
    desired = label.view(2, 1, *(1,) * (rates.ndim - 2)).expand_as(rates)
    want = torch.nn.functional.binary_cross_entropy(rates.sigmoid(), desired, reduction="sum")
    assert_close(loss(ONE, label.reshape(shape)), want, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(6,), (2, 3, 1), (2, 1, 3), (2, 3, 1, 1)], ids=str)
def test_probabilities_arranged_otherwise(shape):
    loss = SpikeMoid()
    assert_close(loss(S, ONE_HOT.reshape(shape)), loss(S, ONE_HOT), rtol=0, atol=0)
    image = torch.rand(2, 2, 3, 8)
    label = torch.rand(2, 2, 3)
    assert_close(loss(image, label), loss(image, label.flatten(1)), rtol=0, atol=0)
    in_time = torch.rand(2, 2, 3, 8)
    window = SpikeMoid(3)
    assert_close(window(image, in_time), window(image, in_time.flatten(1, 2)), rtol=0, atol=0)


def test_transposed_labels_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\); got \(3, 2\)"):
        SpikeMoid()(S, ONE_HOT.t())


def test_spike_time_takes_targets_arranged_otherwise():
    loss, image = SpikeTime(), torch.rand(2, 3, 1, 1, 8)
    assert_close(loss(S, image), loss(S, image[:, :, 0, 0]), rtol=0, atol=0)
    assert_close(loss(image, S), loss(image[:, :, 0, 0], S), rtol=0, atol=0)


LENGTHS = torch.tensor([5, 8])  # of the two samples
WITH_LENGTHS = {
    "rate": (SpikeRate, (0.7, 0.1), LABELS),
    "rate, window": (SpikeRate, (0.7, 0.1, 3), LABELS),
    "max": (SpikeMax, (), LABELS),
    "max, window": (SpikeMax, (3, "softmax"), LABELS),
    "moid": (SpikeMoid, (), ONE_HOT),
    "moid, window": (SpikeMoid, (3,), ONE_HOT),
    "time": (SpikeTime, (), D),
}


@pytest.mark.parametrize("name", WITH_LENGTHS)
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_lengths_are_those_of_samples_by_themselves(name, reduction):
    kind, arguments, label = WITH_LENGTHS[name]
    loss = kind(*arguments, reduction=reduction)
    spikes = torch.rand(S.shape)
    spikes[0, :, 5:] = float("nan")  # nobody looks there
    spikes.requires_grad_()
    got = loss(spikes, label, LENGTHS)
    got.sum().backward()
    assert present(spikes.grad)[0, :, :5].any()
    assert not present(spikes.grad)[0, :, 5:].nan_to_num(1).any()

    def alone(n):
        length = int(LENGTHS[n])
        own = label[n : n + 1, ..., :length] if label is D else label[n : n + 1]
        each = kind(*arguments, reduction="none")
        return each(spikes.detach()[n : n + 1, :, :length], own)

    terms = torch.cat([alone(0), alone(1)])
    if reduction == "none":
        assert_close(got.detach()[got != 0], terms[terms != 0], **FLOAT32)
    else:
        assert_close(got.detach(), getattr(terms, reduction)(), **FLOAT32)


@pytest.mark.parametrize("name", WITH_LENGTHS)
def test_full_lengths_change_nothing(name):
    kind, arguments, label = WITH_LENGTHS[name]
    loss = kind(*arguments)
    assert_close(loss(S, label, torch.tensor([8, 8])), loss(S, label), **FLOAT32)


def test_lengths_that_do_not_fit():
    loss = SpikeRate(0.7, 0.1)
    for wrong in (torch.tensor([5]), torch.tensor([5.0, 8.0]), torch.tensor([[5], [8]])):
        with pytest.raises(ValueError, match=r"lengths must hold integers of shape \(2,\)"):
            loss(S, LABELS, wrong)
    for wrong in (torch.tensor([0, 8]), torch.tensor([5, 9])):
        with pytest.raises(ValueError, match=r"lengths are \d\.\.\d; expected 1\.\.8 steps"):
            loss(S, LABELS, wrong)
        with pytest.raises(ValueError, match=r"lengths are \d\.\.\d; expected 1\.\.8 steps"):
            SpikeRate(0.7, 0.1, moving_window=3)(S, LABELS, wrong)
