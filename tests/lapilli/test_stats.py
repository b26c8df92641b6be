import math
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from known import present
from matplotlib import pyplot
from matplotlib.image import imread

from lapilli.slayer.utils.stats import LearningStat, LearningStats


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    pyplot.close("all")


def feed(stat, samples, loss, correct):
    stat.num_samples += samples  # as scripts write
    stat.loss_sum += loss
    stat.correct_samples += correct


@pytest.fixture
def stats():
    stats = LearningStats()
    feed(stats.training, 10, 25, 7)
    feed(stats.testing, 4, 8, 1)
    return stats


@pytest.fixture
def two_epochs(stats):
    stats.update()
    feed(stats.training, 10, 30, 8)
    feed(stats.testing, 4, 4, 2)
    return stats


FIRST = (
    "Train loss =     2.50000" + " " * 26 + "accuracy = 0.70000  | Test  loss =     2.00000"
    + " " * 26 + "accuracy = 0.25000 "
)  # fmt: skip
SECOND = (
    "Train loss =     3.00000 (min =     2.50000)     accuracy = 0.80000 (max = 0.70000)  | "
    "Test  loss =     1.00000 (min =     2.00000)     accuracy = 0.50000 (max = 0.25000) "
)


def test_text_of_lava_dl(stats):
    assert str(LearningStats()) == "Train "
    assert str(LearningStat()) == ""
    assert str(stats) == FIRST


def test_text_after_an_epoch(two_epochs):
    assert str(two_epochs) == SECOND


def test_names_and_units():
    stats = LearningStats("MSE", "mV", "AP@0.5", "%")
    feed(stats.training, 1, 2, 0)
    assert str(stats).startswith("Train MSE =     2.00000  mV" + " " * 24 + "AP@0.5 = 0.00000 %")
    stats.update()
    feed(stats.training, 1, 2, 0)
    assert ") mV    AP@0.5 = " in str(stats)


def test_sums_and_logs(two_epochs):
    training = two_epochs.training
    assert (training.loss, training.accuracy) == (3.0, 0.8)
    two_epochs.update()
    assert (training.num_samples, training.loss_sum, training.correct_samples) == (0, 0, 0)
    assert training.loss is training.accuracy is None
    assert training.loss_log == [2.5, 3.0]
    assert two_epochs.testing.accuracy_log == [0.25, 0.5]
    assert (training.best_loss, training.best_accuracy) == (False, True)
    assert (two_epochs.testing.best_loss, two_epochs.testing.best_accuracy) == (True, True)
    assert (training.min_loss, training.max_accuracy) == (2.5, 0.8)
    assert two_epochs.validation.loss_log == [None, None]
    assert not two_epochs.validation.valid_loss_log
    assert training.valid_loss_log
    assert training.valid_accuracy_log


def test_update_of_one_stat_keeps_the_sums():
    stat = LearningStat()
    feed(stat, 2, 4, 1)
    stat.update()
    assert stat.loss_sum == 4
    assert stat.loss_log == [2.0]


def test_never_fed_counts_as_best_and_a_pause_does_not():
    stats = LearningStats()
    feed(stats.training, 1, 1, 1)
    stats.update()
    assert (stats.testing.best_loss, stats.testing.best_accuracy) == (True, True)
    stats.update()  # a test every few epochs: lava-dl raises here
    assert stats.training.loss_log == [1.0, None]
    assert (stats.training.best_loss, stats.training.best_accuracy) == (False, False)
    assert stats.training.min_loss == 1.0


def test_not_a_number_is_never_the_best():
    stats = LearningStats()
    for loss, best in ((math.nan, False), (2.0, True), (math.nan, False), (1.0, True)):
        feed(stats.training, 1, loss, 0)
        stats.update()
        assert stats.training.best_loss == best
    assert stats.training.min_loss == 1.0


def test_files_of_lava_dl(two_epochs, tmp_path):
    two_epochs.update()
    two_epochs.save()
    assert (tmp_path / "loss.txt").read_bytes() == (
        b"# Train        Test        \r\n"
        b"    2.500000     2.000000 \r\n"
        b"    3.000000     1.000000 \r\n"
    )
    two_epochs.save("run-")
    assert (tmp_path / "run-accuracy.txt").read_bytes().endswith(b"0.800000     0.500000 \r\n")


def test_files_keep_columns_where_an_epoch_has_no_test(tmp_path):
    stats = LearningStats()
    for epoch in range(4):
        feed(stats.training, 1, epoch, 0)
        if epoch % 3 == 0:
            feed(stats.testing, 1, 10 + epoch, 1)
        stats.update()
    stats.save()
    rows = (tmp_path / "loss.txt").read_text().splitlines()
    assert rows[0] == "# Train        Test        "
    assert [row.split() for row in rows[2:4]] == [["1.000000", "nan"], ["2.000000", "nan"]]
    again = LearningStats()
    again.load()
    for name in ("training", "testing", "validation"):
        before, after = getattr(stats, name), getattr(again, name)
        assert after.loss_log == before.loss_log
        assert after.accuracy_log == before.accuracy_log
        assert after.min_loss == before.min_loss
        assert after.max_accuracy == before.max_accuracy


def test_loading_refuses_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        LearningStats().load()
    for text in ("", "1 2\n", "# Train Else\n1 2\n", "# Train Test\n1\n"):
        (tmp_path / "loss.txt").write_text(text)
        with pytest.raises(ValueError, match="does not hold statistics"):
            LearningStats().load()


def test_print_writes_over_itself(stats, capsys):
    stats.print(3, 5, 0.1, ["first", 2])
    lines = capsys.readouterr().out.split("\n")
    train, test = FIRST.split("| ")
    assert lines == [
        "\x1b[0A", "\x1b[2Kfirst", "\x1b[2K2",
        "Epoch    3: i =     5 ,     100.0000 ms elapsed        ", train, test, "",
    ]  # fmt: skip
    assert stats.lines_printed == 6
    samples: Any = list(range(1000))
    loader = torch.utils.data.DataLoader(samples, batch_size=8)
    stats.print(0, 25, dataloader=loader)
    lines = capsys.readouterr().out.split("\n")
    assert lines[:2] == ["\x1b[6A", "Epoch    0: 200/1000 (20%)        "]
    assert stats.lines_printed == 4
    stats.print(12)
    assert "\nEpoch   12        \n" in capsys.readouterr().out
    stats.new_line()
    assert stats.lines_printed == 0


def ink(path):
    return float((imread(path)[..., :3].min(-1) < 0.8).mean())


@pytest.mark.parametrize("epochs", [1, 5])
def test_plot(tmp_path, epochs):
    stats = LearningStats("AP@0.5", "mV")
    for epoch in range(epochs):
        feed(stats.training, 10, 10 / (epoch + 1), epoch)
        if epoch != 1:
            feed(stats.testing, 10, 12 / (epoch + 1), epoch)
        stats.update()
    stats.plot(figures=(3, 4), figsize=(5, 4), path=f"{tmp_path}/")
    assert pyplot.get_fignums() == [3, 4]
    axes = pyplot.figure(3).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epoch", "AP@0.5 mV")
    assert axes.get_yscale() == "log"
    assert pyplot.figure(4).axes[0].get_ylabel() == "Accuracy"
    assert [t.get_text() for t in present(axes.get_legend()).get_texts()] == ["Training", "Testing"]
    assert all(np.size(line.get_xdata()) == epochs for line in axes.lines)
    for name in ("loss.png", "accuracy.png"):
        assert 0.01 < ink(tmp_path / name) < 0.5
    stats.plot(figures=(3, 4), path=f"{tmp_path}/again-")  # cleared, not drawn twice
    assert len(pyplot.figure(3).axes[0].lines) == 2


def test_nothing_logged_draws_nothing(tmp_path):
    figure = pyplot.figure()  # lava-dl labels and saves whatever figure is current
    LearningStats().plot(path=f"{tmp_path}/")
    assert list(tmp_path.iterdir()) == []
    assert pyplot.get_fignums() == [figure.number]
    assert not figure.axes


def test_writer_gets_every_epoch(two_epochs):
    sent = []
    two_epochs.writer = SimpleNamespace(add_scalar=lambda *call: sent.append(call))
    two_epochs.update()
    assert sent == [
        ("loss/train", 3.0, 2), ("accuracy/train", 0.8, 2),
        ("loss/test", 1.0, 2), ("accuracy/test", 0.5, 2),
    ]  # fmt: skip


def test_batches_are_added_without_reading_them():
    class Unreadable(torch.Tensor):
        def __float__(self):
            raise AssertionError("read on the way")

        item = __float__

    stat = LearningStat()
    loss = torch.tensor(2.5, requires_grad=True)
    stat.add(loss.as_subclass(Unreadable), torch.tensor(3), weight=4, samples=5)
    stat.add(torch.tensor(1.0), None, weight=2, samples=2)
    stat.loss_sum += 1  # a script may add as well
    assert (stat.loss_sum, stat.correct_samples, stat.num_samples) == (13.0, 3, 7)
    assert type(stat.loss_sum) is float
    again = pickle.loads(pickle.dumps(stat))
    assert (again.loss, again.accuracy) == (13 / 7, 3 / 7)
    stat.reset()
    assert (stat.loss_sum, stat.correct_samples, stat.num_samples) == (0, 0, 0)
