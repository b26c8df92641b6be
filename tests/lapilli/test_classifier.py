import pytest
import torch
from spikes_of_lava_dl import S
from tolerances import FLOAT32
from torch.testing import assert_close

from lapilli.classifier import MovingWindow, Rate


def test_rate_values_of_lava_dl():
    assert Rate.rate(S).tolist() == [[0.5, 0.375, 0.375], [0.5, 0.375, 0.5]]
    assert Rate.predict(S).tolist() == [0, 0]  # the second sample ties: the first class wins
    assert Rate()(S).dtype == torch.int64
    want = torch.tensor([0.3999997, 0.2999998, 0.2999998])
    assert_close(Rate.confidence(S)[0], want, **FLOAT32)


def test_window_values_of_lava_dl():
    window = MovingWindow(3)
    want = [[0, 0, 0, 2, 2, 1, 1, 0], [0, 0, 0, 0, 2, 2, 1, 1]]
    assert window(S).tolist() == want
    assert window.predict(S).tolist() == want
    assert window.rate(S).shape == S.shape
    ramp = [sum(S[0, 0, max(0, t - 2) : t + 1].tolist()) / 3 for t in range(8)]
    assert_close(window.rate(S)[0, 0], torch.tensor(ramp), **FLOAT32)


@pytest.mark.parametrize("make", [lambda mode: Rate.confidence(S, mode),
                                  lambda mode: MovingWindow(3, mode).confidence(S),
                                  lambda mode: MovingWindow(3).confidence(S, mode)])  # fmt: skip
def test_modes(make):
    softmax = make("softmax")
    assert_close(softmax.sum(1), torch.ones_like(softmax[:, 0]), **FLOAT32)
    assert_close(make("logsoftmax").exp(), softmax, **FLOAT32)
    assert (make("probability").sum(1) < 1 + 1e-6).all()
    with pytest.raises(ValueError, match="'rate'; expected one of probability, softmax, logsoft"):
        make("rate")


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float16])
def test_any_dtype_counts_as_float32(dtype):
    assert_close(Rate.rate(S.to(dtype)), Rate.rate(S), rtol=0, atol=0)
    assert_close(
        MovingWindow(3).confidence(S.to(dtype)), MovingWindow(3).confidence(S), rtol=0, atol=0
    )
    assert Rate.rate(S.double()).dtype == torch.float64


def test_class_axes_are_flattened():
    spikes = torch.zeros(2, 3, 2, 2, 5)
    spikes[0, 1, 0, 1] = 1
    spikes[1, 2, 1, 1] = 1
    assert Rate.predict(spikes).tolist() == [5, 11]
    assert MovingWindow(2)(spikes)[:, -1].tolist() == [5, 11]
    assert Rate.confidence(spikes).shape == (2, 12)
    assert Rate.rate(spikes).shape == (2, 3, 2, 2)


def test_errors():
    with pytest.raises(ValueError, match=r"got shape \(3, 5\)"):
        Rate.predict(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="time_window must be .* of at least 1; got 0"):
        MovingWindow(0)


def test_lengths_leave_the_rest_out():
    lengths = torch.tensor([3, 8])
    output = S.clone()
    output[0, :, 3:] = float("nan")
    for whole in (Rate.rate, Rate.confidence, Rate.predict):
        got = whole(output, lengths=lengths)
        assert_close(got[:1], whole(S[:1, :, :3]), **FLOAT32)
        assert_close(got[1:], whole(S[1:]), **FLOAT32)
    assert torch.equal(Rate()(output, lengths), Rate.predict(output, lengths))
    with pytest.raises(ValueError, match=r"lengths are 0\.\.8; expected 1\.\.8 steps"):
        Rate.rate(S, torch.tensor([0, 8]))
