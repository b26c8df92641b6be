import sys
from typing import Any

import pytest
import torch

from lapilli.data import Samples, digits, series
from lapilli.extras import MissingExtraError


def test_digits():
    data: Any = digits()
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
    samples: Any = digits(steps=4).test
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


SERIES = """@problemName Japanese
#a comment
1.5,2.5:-1,2.5e-1:3
7:8:1
"""


def package(folder, monkeypatch, name):
    """Make a package with recordings, and let no other be found."""
    data = folder / name / "datasets" / "data" / "Small"
    data.mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    (data / "Small_TRAIN.ts").write_text(SERIES)
    monkeypatch.setattr(sys, "path", [str(folder)])


@pytest.mark.parametrize("name", ["sktime", "aeon"])
def test_series_of_a_package(tmp_path, monkeypatch, name):
    package(tmp_path, monkeypatch, name)
    recordings, labels = series("Small", "TRAIN")
    assert [r.tolist() for r in recordings] == [[[1.5, 2.5], [-1, 0.25]], [[7], [8]]]
    assert labels == ["3", "1"]
    with pytest.raises(FileNotFoundError, match=r"Other_TRAIN\.ts"):
        series("Other", "TRAIN")


def test_series_without_a_package(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingExtraError, match=r"pip install sktime .* '\.\[sequences\]'"):
        series("JapaneseVowels", "TRAIN")
