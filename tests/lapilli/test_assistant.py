import builtins
import sys
from typing import Any

import pytest
import torch
from known import present, wrong
from torch.testing import assert_close

from lapilli.classifier import MovingWindow, Rate
from lapilli.slayer.utils.assistant import Assistant
from lapilli.slayer.utils.stats import LearningStats

X = torch.rand(4, 3, 6)
LABELS = torch.tensor([0, 1, 2, 1])


class Net(torch.nn.Module):
    """Returns what an assistant with these settings expects."""

    def __init__(self, count_log, lam):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3, 1))
        self.count_log, self.lam = count_log, lam

    def forward(self, x):
        y = self.scale * x
        parts = [y]
        if self.lam is not None:
            parts.append(self.scale.square().sum())
        if self.count_log:
            parts.append(torch.arange(2))
        return tuple(parts) if len(parts) > 1 else y


def error(output, target):
    return output.square().mean()


def made(count_log=False, lam=None, classifier=Rate.predict, net=None) -> Any:
    net = net or Net(count_log, lam)
    optimizer: Any = torch.optim.SGD(net.parameters(), lr=0.1) if list(net.parameters()) else None
    return Assistant(net, error, optimizer, LearningStats(), classifier, count_log, lam)


@pytest.mark.parametrize("count_log", [False, True])
@pytest.mark.parametrize("lam", [None, 0.5])
def test_what_a_step_returns_and_counts(count_log, lam):
    assistant = made(count_log, lam)
    steps = {"train": "training", "test": "testing", "valid": "validation"}
    for step, name in steps.items():
        scale = assistant.net.scale.detach().clone()
        result = getattr(assistant, step)(X, LABELS)
        output = result[0] if count_log else result
        if count_log:
            assert result[1].tolist() == [0, 1]
        assert_close(output.detach(), scale * X)
        assert output.requires_grad == (step == "train")
        assert assistant.net.training == (step == "train")
        stat = getattr(assistant.stats, name)
        assert stat.num_samples == 4
        assert stat.loss_sum == pytest.approx(4 * float(error(scale * X, None)))  # without net_loss
        assert stat.correct_samples == int((Rate.predict(scale * X) == LABELS).sum())
        gradient = 2 * (scale * X * X).sum((0, 2), keepdim=True)[0] / X.numel()
        if lam is not None:
            gradient = gradient + 2 * lam * scale
        want = scale - 0.1 * gradient if step == "train" else scale
        assert_close(assistant.net.scale.detach(), want)
    assert assistant.device == torch.device("cpu")


def test_statistics_are_optional_and_so_is_the_classifier():
    assistant = made(classifier=None)
    assistant.train(X, LABELS)
    assert present(assistant.stats).training.accuracy == 0.0
    assistant.stats = None
    assistant.train(X, LABELS)
    assistant.test(X, LABELS)


def test_a_network_without_parameters_can_be_tested():
    for step in ("test", "valid"):
        getattr(made(net=torch.nn.Identity()), step)(X, LABELS)


def test_a_classifier_of_every_step_counts_every_step():
    assistant = made(classifier=MovingWindow(2))
    labels = MovingWindow(2)(X)
    labels[0, :3] = 3
    assistant.test(X, labels)
    assert present(assistant.stats).testing.num_samples == 4
    assert present(assistant.stats).testing.correct_samples == 4 * 6 - 3


def test_wrong_number_of_values():
    assistant = made(net=Net(True, None))
    assistant.count_log, assistant.lam = True, 0.1
    with pytest.raises(ValueError, match="returned 2 values; expected 3 for count_log=True"):
        assistant.train(X, LABELS)


def test_reduce_lr(capsys):
    assistant = made()
    assistant.reduce_lr()
    assert assistant.optimizer.param_groups[0]["lr"] == pytest.approx(0.03)
    assistant.reduce_lr(3)
    assert assistant.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert "0.1" in capsys.readouterr().out


@pytest.mark.parametrize("bar", [True, False])
def test_an_epoch(bar, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    if not bar:
        load = builtins.__import__

        def without_tqdm(name, *args, **kwargs):
            if name == "tqdm":
                raise ImportError(name)
            return load(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without_tqdm)
    assistant = made()
    samples: Any = list(zip(X, LABELS, strict=True))
    loader = torch.utils.data.DataLoader(samples, batch_size=2)
    assistant.epoch(loader)
    assistant.epoch(loader, "test", progress=False)
    stats = present(assistant.stats)
    assert stats.training.num_samples == stats.testing.num_samples == 4
    said = capsys.readouterr().err
    assert ("train: 100%" in said) == bar
    assert "test" not in said
    with pytest.raises(ValueError, match="'tst'; expected one of train, test, valid"):
        assistant.epoch(loader, wrong("tst"))
