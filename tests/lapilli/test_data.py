import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lapilli.data import Samples, digits, rate_code
from lapilli.extras import MissingExtraError


@given(st.integers(0, 16), st.integers(1, 64), st.sampled_from([0.25, 0.5, 1.0]))
def test_rate_code_counts_and_spaces_evenly(level, steps, max_rate):
    spikes = rate_code(torch.tensor([[level / 16]]), steps, max_rate)[0, 0]
    assert set(spikes.tolist()) <= {0.0, 1.0}
    assert spikes.sum() == int(level * max_rate * steps / 16)
    gaps = spikes.nonzero().flatten().diff()
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_rate_code_refuses(bad):
    with pytest.raises(ValueError, match=r"expected 0\.\.1"):
        rate_code(torch.tensor([[0.5, bad]]), 8)
    with pytest.raises(ValueError, match="max_rate"):
        rate_code(torch.tensor([[0.5]]), 8, bad)


def test_digits():
    data = digits()
    assert (len(data.train), len(data.test), data.classes) == (1437, 360, 10)
    assert data.train.spikes.shape == (1437, 64, 32)
    # all 1,797 images, each once: a pixel of grey level k spikes k times
    levels = torch.cat([data.train.spikes, data.test.spikes]).sum(-1)
    assert levels.max() == 16
    import sklearn.datasets

    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    assert sorted(levels.tolist()) == sorted(images.tolist())
    share = torch.bincount(data.test.labels) / torch.from_numpy(labels).bincount()
    assert (share - 0.2).abs().max() < 0.02, "held out evenly from every class"
    assert torch.equal(digits().test.labels, data.test.labels)


def test_samples_keep_the_layout_of_the_first_layer():
    samples = digits(steps=4).test
    batch = samples.take(torch.tensor([5, 0, 5]))
    for spikes in (samples.spikes, batch.spikes):
        assert spikes.movedim(-1, 1).is_contiguous()
    assert torch.equal(batch.spikes, samples.spikes[[5, 0, 5]])
    assert torch.equal(batch.labels, samples.labels[[5, 0, 5]])
    assert len(batch) == 3
    assert isinstance(samples.to("cpu"), Samples)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn .* pip install scikit-learn"):
        digits()
