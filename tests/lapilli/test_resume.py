"""Runs that are interrupted go on to the same bits; the best epoch is kept; the page is whole."""

import csv
import json
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import torch
from known import present

from lapilli import training
from lapilli.program import checkpoints, report
from lapilli.program.cli import main

COMMAND = [sys.executable, "-m", "lapilli"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(*arguments):
    return main(["train", "digits", "--no-plots", *arguments])


def stop_after(monkeypatch, epochs):
    """Let training be interrupted within the epoch after some."""
    fit = training.fit

    def interrupted(*arguments, **options):
        for epoch in fit(*arguments, **options):
            yield epoch
            if epoch.number == epochs:
                raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", interrupted)


NET = """
import torch
from lapilli import slayer

def make(shape, classes):
    neuron = dict(
        threshold=1.25, current_decay=0.25, voltage_decay=0.1, tau_grad=0.03, requires_grad=True,
        dropout=slayer.neuron.Dropout(0.2),
    )
    normed = dict(neuron, norm=slayer.neuron.norm.MeanOnlyBatchNorm)
    dense = slayer.block.cuba.Dense
    return torch.nn.Sequential(
        dense(normed, 64, 20, weight_norm=True), dense(neuron, 20, 20, delay=True),
        dense(dict(neuron, dropout=None), 20, classes),
    )
"""


def test_a_resumed_run_has_the_bits_of_one_that_was_not_interrupted(monkeypatch, capsys):
    """With all that draws and remembers: dropout, a norm, delays, learned decays."""
    Path("net.py").write_text(NET)
    asked = ("--epochs", "4", "--seed", "5", "--net", "net.py:make")
    assert train(*asked, "--out", "whole") == 0
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        assert train(*asked, "--out", "parts") == 130
    assert "files hold epoch 2 of 4" in capsys.readouterr().err
    assert Path("parts/checkpoint.pt").exists()
    assert train("--resume", "parts") == 0
    one, other = (torch.load(f"{f}/model.pt", weights_only=True) for f in ("whole", "parts"))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert Path("whole/digits.net").read_bytes() == Path("parts/digits.net").read_bytes()
    histories = [
        json.loads(Path(f"{f}/report.json").read_text())["history"] for f in ("whole", "parts")
    ]
    for history in histories:
        for epoch in history:
            del epoch["seconds"]
    assert histories[0] == histories[1]
    assert not Path("parts/checkpoint.pt").exists(), "a finished run needs none"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
def test_a_killed_run_loses_one_epoch_at_most(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "train", "digits", "--epochs", "100000", "--no-plots", "--out", "a"],
        stderr=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    with process:
        said, stderr = b"", cast("Any", process.stderr)
        while b"3/100000" not in said:
            more = stderr.read1()
            assert more, said.decode()
            said += more
        process.send_signal(signal.SIGKILL)
    kept = checkpoints.read(tmp_path / "a")
    assert len(kept["history"]) >= 3
    assert kept["fit"]["epoch"] == len(kept["history"])
    with (tmp_path / "a/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert abs(len(rows) - len(kept["history"])) <= 1
    assert float(rows[0]["loss"]) == kept["history"][0].loss


def test_patience_keeps_the_best_epoch(monkeypatch, capsys):
    found = iter((0.5, 0.7, 0.6, 0.65, 0.9, 0.9))
    states = []
    real = training._accuracy_of_all

    def planned(net, samples, batch_size):
        real(net, samples, batch_size)
        states.append({name: value.clone() for name, value in net.state_dict().items()})
        return next(found)

    monkeypatch.setattr(training, "_accuracy_of_all", planned)
    assert train("--epochs", "6", "--patience", "2", "--out", "a") == 0
    report = json.loads(Path("a/report.json").read_text())
    assert (report["epochs"], report["kept_epoch"], report["stopped_early"]) == (4, 2, True)
    assert report["loss"] == report["history"][1]["loss"]
    kept = torch.load("a/model.pt", weights_only=True)
    assert all(torch.equal(kept[name], states[1][name]) for name in kept)
    assert not all(torch.equal(kept[name], states[3][name]) for name in kept)


def test_without_patience_the_last_epoch_is_kept():
    assert train("--epochs", "2", "--out", "a") == 0
    report = json.loads(Path("a/report.json").read_text())
    assert (report["kept_epoch"], report["stopped_early"]) == (2, False)
    with Path("a/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["test_accuracy"]) == report["test_accuracy"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--epochs", "9"), "has epochs 3, not 9"),
        (("--seed", "1"), "has seed 0, not 1"),
        (("--batch-size", "10"), "has batch_size 72, not 10"),
        (("--out", "b"), "leave --out out"),
    ],
)
def test_other_settings_do_not_go_on(arguments, words, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        assert train("--epochs", "3", "--out", "a") == 130
    capsys.readouterr()
    assert train("--resume", "a", *arguments) == 2
    assert re.fullmatch(rf"lapilli: error: [^\n]*{words}[^\n]*\n", capsys.readouterr().err)


def test_nothing_to_go_on_from(capsys):
    Path("a").mkdir()
    for folder in ("a", "missing"):
        assert train("--resume", folder) == 2
        assert "there is no checkpoint.pt in" in capsys.readouterr().err
    for content, reason in ((b"", "it is empty"), (b"nothing", r".+")):
        Path("a/checkpoint.pt").write_bytes(content)
        assert train("--resume", "a") == 2
        words = rf"a/checkpoint\.pt cannot be read: {reason}\. Nothing can .* without --resume\n"
        assert re.search(words, capsys.readouterr().err)
    torch.save({"epochs": 3}, "a/checkpoint.pt")
    assert train("--resume", "a") == 2
    assert "it has no 'history', so it is no checkpoint" in capsys.readouterr().err


class Parts(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.headings, self.pictures, self.links, self._in = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._in = tag == "h2"
        for key, value in attributes:
            if key == "src":
                self.pictures.append(value)
            if key == "href":
                self.links.append(value)

    def handle_data(self, text):
        if self._in:
            self.headings.append(text)
        self._in = False


def test_the_page_of_a_run_needs_nothing_else():
    assert main(["train", "digits", "--epochs", "1", "--out", "a"]) == 0
    text = Path("a/report.html").read_text()
    parts = Parts(text)
    assert parts.headings == [
        "Training", "Which class is taken for which", "Layers", "Samples", "Weights in the file",
        "On the chip", "Versions",
    ]  # fmt: skip
    assert len(parts.pictures) == 4
    assert all(picture.startswith("data:image/png;base64,") for picture in parts.pictures)
    assert re.search(r"\d+ synaptic operations a sample of 32 steps, .* \(8 samples\)", text)
    assert parts.links == []
    assert "http" not in text
    report = json.loads(Path("a/report.json").read_text())
    assert f"{report['test_accuracy']:.2%}" in text
    row = r"<tr><td>3</td>(.*?)</tr>"
    cells = [int(n or 0) for n in re.findall(r">(\d*)</td>", present(re.search(row, text))[1])]
    assert sum(cells) == 37  # test samples that show a 3


def test_tensorboard_gets_each_epoch(monkeypatch):
    written = {}

    class Writer:
        def __init__(self, folder, purge_step):
            assert (folder, purge_step) == ("a", 1)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            written["closed"] = True

        def add_scalar(self, name, value, number):
            written[name, number] = value

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    package = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    assert train("--epochs", "2", "--tensorboard", "--out", "a") == 0
    report = json.loads(Path("a/report.json").read_text())
    assert written["closed"]
    for epoch in report["history"]:
        assert written["loss", epoch["number"]] == epoch["loss"]
        rate = epoch["layers"][0]["rate"]
        assert written["rate/0 cuba.Dense", epoch["number"]] == rate


def test_tensorboard_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert train("--tensorboard") == 2
    assert "pip install tensorboard" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupt_while_the_checkpoint_is_written(monkeypatch):
    """The epoch is finished: files hold it, or the best one."""
    real = checkpoints.write

    def interrupted(folder, content, history):
        if len(history) == 2:
            raise KeyboardInterrupt
        real(folder, content, history)

    monkeypatch.setattr(checkpoints, "write", interrupted)
    for more in ((), ("--patience", "5")):
        folder = f"a{len(more)}"
        assert train("--epochs", "4", "--out", folder, *more) == 130
        report = json.loads(Path(f"{folder}/report.json").read_text())
        assert (report["epochs"], report["kept_epoch"]) == (2, 2)
        assert report["test_accuracy"] == report["history"][1]["test_accuracy"]
        assert checkpoints.read(Path(folder))["fit"]["epoch"] == 1


@pytest.mark.slow
def test_an_interrupt_while_the_files_are_written(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(report, "write", interrupted)
        assert train("--epochs", "1", "--out", "a") == 130
    words = "the checkpoint of epoch 1 is kept: write them with --resume a\n"
    assert words in capsys.readouterr().err
    assert not Path("a/report.json").exists()
    assert train("--resume", "a") == 0
    assert Path("a/report.json").exists()
    assert not Path("a/checkpoint.pt").exists()
