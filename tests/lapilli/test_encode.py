import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tolerances import FLOAT32
from torch.testing import assert_close

from lapilli import encode


@given(st.integers(0, 16), st.integers(1, 64), st.sampled_from([0.25, 0.5, 1.0]))
def test_rate_counts_and_spaces_evenly(level, steps, max_rate):
    spikes = encode.rate(torch.tensor([[level / 16]]), steps, max_rate)[0, 0]
    assert set(spikes.tolist()) <= {0.0, 1.0}
    assert spikes.sum() == int(level * max_rate * steps / 16)
    gaps = spikes.nonzero().flatten().diff()
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), st.integers(1, 40))
def test_latency_is_earlier_for_larger_values(values, steps):
    spikes = encode.latency(torch.tensor([values]), steps)[0]
    assert spikes.shape == (len(values), steps)
    assert spikes.sum(-1).tolist() == [float(v > 0) for v in values]
    step = {v: int(s.argmax()) for v, s in zip(values, spikes, strict=True) if v > 0}
    for low in step:
        assert all(step[high] <= step[low] for high in step if high >= low)
    assert step.get(1.0, 0) == 0


@pytest.mark.parametrize("coder", [encode.rate, encode.latency])
def test_images_keep_their_axes(coder):
    values = torch.rand(2, 3, 4, 5)
    assert torch.equal(coder(values, 6).flatten(1, 3), coder(values.flatten(1), 6))
    assert coder(values.flatten(1), 6).movedim(-1, 1).is_contiguous()


def test_thermometer_of_numbers_and_signals():
    values = torch.tensor([[0.5, -1.0], [0.2, 3.0]])
    want = [[1, 0, 0, 0], [0, 0, 1, 1]]
    assert encode.thermometer(values, [0.2, 2.5]).tolist() == want
    signal = torch.stack([values, values.flip(0)], -1)
    got = encode.thermometer(signal, torch.tensor([0.2, 2.5]))
    assert got[..., 0].tolist() == want
    assert got[..., 1].tolist() == want[::-1]


def delta_by_hand(signal, threshold):
    """One channel, as the docstring says it."""
    sent, up, down = 0.0, [], []
    for value in signal:
        up.append(float(value - sent > threshold))
        down.append(float(sent - value > threshold))
        sent += threshold * (up[-1] - down[-1])
    return up, down


def test_delta_sends_changes_of_each_channel():
    signal = 3 * torch.randn(4, 3, 25)
    got = encode.delta(signal, 0.5)
    assert got.shape == (4, 6, 25)
    for sample, spikes in zip(signal, got, strict=True):
        for channel in range(3):
            up, down = delta_by_hand(sample[channel].tolist(), 0.5)
            assert (spikes[channel].tolist(), spikes[3 + channel].tolist()) == (up, down)


def test_delta_follows_a_slow_signal():
    signal = torch.sin(torch.linspace(0, 12, 200)).view(1, 1, -1)
    up, down = encode.delta(signal, 0.125)[0]
    rebuilt = 0.125 * (up - down).cumsum(-1)
    assert_close(rebuilt, signal[0, 0], rtol=0, atol=0.125 + FLOAT32["atol"])


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_values_beyond_0_to_1(bad):
    for coder in (encode.rate, encode.latency):
        with pytest.raises(ValueError, match=r"expected 0\.\.1"):
            coder(torch.tensor([[0.5, bad]]), 8)
    with pytest.raises(ValueError, match="max_rate"):
        encode.rate(torch.tensor([[0.5]]), 8, bad)


def test_wrong_arguments():
    x = torch.full((2, 3), 0.5)
    for coder in (encode.rate, encode.latency):
        with pytest.raises(ValueError, match="steps is 0; expected at least 1"):
            coder(x, 0)
        with pytest.raises(ValueError, match=r"got shape \(3,\).* use values\.unsqueeze\(0\)"):
            coder(x[0], 4)
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        encode.thermometer(x[0], [0.5])
    for limits in ([], torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="limits must be one or more numbers"):
            encode.thermometer(x, limits)
    for threshold in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="threshold is"):
            encode.delta(x[None], threshold)
    with pytest.raises(ValueError, match=r"signal must be \[batch, channels, time\]"):
        encode.delta(x, 0.1)
    x[0, 0] = float("nan")
    for call in (lambda: encode.delta(x[None], 0.1), lambda: encode.thermometer(x, [0.5])):
        with pytest.raises(ValueError, match="not finite"):
            call()
