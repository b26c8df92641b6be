import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest
import torch
from matplotlib.image import imread

import lapilli
from lapilli import export, slayer, training
from lapilli.program import preparing, training_run
from lapilli.program.cli import main

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from lapilli.program.cli import main; sys.exit(main())",
]
FILES = {
    "model.pt", "digits.net", "training.png", "raster.png", "report.html", "history.csv",
    "report.json",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One epoch in a process of its own: (folder, what it printed)."""
    folder = tmp_path_factory.mktemp("run") / "new" / "folder"
    done = subprocess.run(
        [*COMMAND, "train", "digits", "--epochs", "1", "--seed", "3", "--out", str(folder)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def fails(capsys, *args):
    """Exit status 2, one line on stderr, nothing on stdout, nothing written; returns the line."""
    before = sorted(Path.cwd().rglob("*"))
    assert main([str(a) for a in args]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"lapilli: error: [^\n]+\n", err)
    assert sorted(Path.cwd().rglob("*")) == before
    return err


def test_files(run):
    folder, done = run
    assert {f.name for f in folder.iterdir()} == FILES
    assert "all output spikes are equal" in done.stdout
    for name in FILES:
        assert str(folder / name) in done.stdout
    assert re.search(r"1/1 .*loss \d\.\d+, accuracy \d+\.\d%", done.stderr)
    state = torch.load(folder / "model.pt", weights_only=True)
    assert state["0.synapse.weight_v"].shape == (128, 64, 1, 1, 1)
    for name in ("training.png", "raster.png"):
        assert 0.01 < float((imread(folder / name)[..., :3].min(-1) < 0.8).mean()) < 0.5


def test_report(run):
    folder, done = run
    report = json.loads((folder / "report.json").read_text())
    assert (report["dataset"], report["seed"], report["device"]) == ("digits", 3, "cpu")
    assert report["executor"] in ("numba", "reference", "interpret")
    assert report["neurons"] == [64, 128, 10]
    assert report["samples"] == {"train": 1437, "test": 360}
    assert 0.2 < report["test_accuracy"] <= 1
    assert f"{report['test_accuracy']:.2%}" in done.stdout
    assert f"{report['spikes_an_inference']:.1f} spikes an inference" in done.stdout
    assert report["spikes_an_inference"] == sum(report["spikes_an_inference_by_layer"]) > 1
    assert report["neuron_steps_a_second"] > 1e4
    assert report["different_spikes"] == 0
    assert not report["interrupted"]
    assert report["versions"]["torch"] == torch.__version__
    (epoch,) = report["history"]
    assert epoch["seconds"] == report["seconds"] == report["seconds_first_epoch"]
    assert epoch["test_accuracy"] == report["test_accuracy"]


def test_many_silent_neurons_are_said(monkeypatch, capsys):
    arguments = ["train", "digits", "--epochs", "1", "--no-plots", "--out", "a"]
    monkeypatch.setattr(training_run, "MOST_SILENT", -0.01)
    assert main(arguments) == 0
    warned = capsys.readouterr().err
    assert "of 128 neurons of layer 0 (cuba.Dense) did not spike once" in warned
    assert "of 10 neurons of layer 1" in warned
    monkeypatch.setattr(training_run, "MOST_SILENT", 1.0)
    assert main(arguments) == 0
    assert "did not spike" not in capsys.readouterr().err


def test_json_without_plots(capsys):
    assert main(["train", "digits", "--epochs", "1", "--json", "--no-plots", "--out", "a"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {f.name for f in Path("a").iterdir()} == FILES - {
        "training.png",
        "raster.png",
        "report.html",
    }
    assert report == json.loads(Path("a/report.json").read_text())
    assert report["files"] == ["a/model.pt", "a/digits.net", "a/history.csv", "a/report.json"]


def test_default_folders_do_not_collide(monkeypatch):
    monkeypatch.setattr(preparing.time, "strftime", lambda _: "now")
    for _ in range(3):
        assert main(["train", "digits", "--epochs", "1", "--no-plots"]) == 0
    assert {f.name for f in Path("runs").iterdir()} == {f"digits-now{n}" for n in ("", "-2", "-3")}


def test_a_wrong_export_is_an_error(monkeypatch, capsys):
    load = export.load

    def broken(path):
        net = load(path)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.zero_()
        return net

    monkeypatch.setattr(export, "load", broken)
    assert main(["train", "digits", "--epochs", "1", "--no-plots", "--out", "a"]) == 1
    out, err = capsys.readouterr()
    assert "are equal" not in out
    (line,) = [line for line in err.splitlines() if line.startswith("lapilli: error")]
    assert re.search(r"differs from the trained one in [1-9]\d* output spikes", line)
    assert json.loads(Path("a/report.json").read_text())["different_spikes"] > 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_interrupt_leaves_the_last_finished_epoch(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "train", "digits", "--epochs", "100000", "--out", "a"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    with process:
        said, stderr = b"", cast("Any", process.stderr)
        while b"2/100000" not in said:
            more = stderr.read1()
            assert more, said.decode()
            said += more
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"all output spikes are equal" in out
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["interrupted"]
    finished = report["epochs"]
    assert 2 <= finished == len(report["history"]) < 100000
    assert f"the files hold epoch {finished} of 100000" in err.decode()
    assert {f.name for f in (tmp_path / "a").iterdir()} == FILES | {"checkpoint.pt"}
    # the files hold that epoch, not what the next one had begun
    assert report["test_accuracy"] == report["history"][-1]["test_accuracy"]


def test_interrupt_before_the_first_epoch_leaves_nothing(monkeypatch, capsys, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(training, "fit", interrupted)
    assert main(["train", "digits", "--out", "a"]) == 130
    assert "nothing is written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    Path("mine").mkdir()
    assert main(["train", "digits", "--out", "mine"]) == 130
    assert Path("mine").is_dir()


def test_interrupt_anywhere_else(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "device_called", interrupted)
    assert main(["train", "digits"]) == 130
    assert capsys.readouterr().err == "lapilli: interrupted\n"


def test_unknown_dataset(capsys):
    known = "unknown data set 'mnist'; there are: digits, nmnist, shd, dvsgesture"
    assert known in fails(capsys, "train", "mnist")


@pytest.mark.parametrize("name", ["nmnist", "shd", "dvsgesture"])
def test_data_that_are_not_there(capsys, name):
    assert f"{name} is read from a folder: give it with --data" in fails(capsys, "train", name)
    Path("empty").mkdir()
    err = fails(capsys, "train", name, "--data", "empty")
    assert "is not in 'empty': expected " in err
    assert "or get the data with --download" in err


def test_digits_take_no_folder(capsys):
    for args in (("--data", "."), ("--download",)):
        assert "digits is not read from a folder" in fails(capsys, "train", "digits", *args)


def test_download_needs_tonic(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    monkeypatch.delitem(sys.modules, "tonic.datasets", raising=False)
    err = fails(capsys, "train", "shd", "--data", ".", "--download")
    assert "tonic is not installed; get it with: pip install tonic (or in a clone" in err


@pytest.mark.parametrize("epochs", ["-1", "0", "1.5", "many", str(2**63)])
def test_wrong_epochs(capsys, epochs):
    err = fails(capsys, "train", "digits", f"--epochs={epochs}")
    assert f"{epochs!r}; expected a whole number from 1" in err


def test_wrong_seed(capsys):
    assert "a whole number from 0" in fails(capsys, "train", "digits", "--seed=-1")


@pytest.mark.parametrize("device", ["toaster", "cuda:99", "meta", "cpu:x"])
def test_wrong_device(capsys, device):
    err = fails(capsys, "train", "digits", "--device", device)
    assert f"device {device!r} cannot be used" in err
    assert "available: cpu" in err


def test_out_below_a_file(capsys):
    Path("file").write_text("")
    for out in ("file", "file/a/b"):
        assert f"cannot write into folder {out!r}" in fails(capsys, "train", "digits", "--out", out)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_out_without_permission(capsys):
    Path("locked").mkdir(mode=0o500)
    for out in ("locked", "locked/a"):
        assert "cannot write into" in fails(capsys, "train", "digits", "--out", out)


# what is said of a path where a file of a command should be
NETWORK = {
    "missing": "there is no file", "folder": "is a folder", "empty": "is empty",
    "text": "is not an HDF5 file", "good.npy": "is not an HDF5 file", "empty/x": "there is no file",
    "other.h5": "not one of a network", "a" * 300: "is too long",
}  # fmt: skip
ARRAY = {
    "missing": "there is no file", "folder": "is a folder", "empty": "numpy.save",
    "text": "numpy.save", "good.net": "numpy.save", "empty/x": "there is no file",
}  # fmt: skip
RESULTS = {"folder": "is a folder", "empty": "is not a JSON file", "empty/x": "there is no file"}
WRITTEN = {"folder": "is a folder", "nowhere/x": "nowhere does not exist"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["check", None], NETWORK),
        (["inspect", None], NETWORK),
        (["run", None, "good.npy", "-o", "out.npy"], NETWORK),
        (["check", "good.net", "--data", None], ARRAY),
        (["run", "good.net", None, "-o", "out.npy"], ARRAY),
        (["bench", "show", None], RESULTS),
        (["run", "good.net", "good.npy", "-o", None], WRITTEN),
        (["inspect", "good.net", "--plot", None], WRITTEN),
        (["profile", "--neuron", "cuba", "--shape", "1,2,3", "--trace", None], WRITTEN),
        (["train", None], {"empty.csv": "lists no recordings"}),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_path_that_holds_something_else_is_one_plain_sentence(command, said, tmp_path, capsys):
    neuron = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.03}
    net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2))
    net.eval()(torch.zeros(1, 3, 5))
    export.save(net, "good.net")
    np.save("good.npy", np.zeros((1, 3, 5), np.float32))
    Path("folder").mkdir()
    Path("empty").touch()
    Path("empty.csv").touch()
    Path("text").write_text("neither a network nor an array\n" * 9)
    with h5py.File("other.h5", "w") as file:
        file["a"] = np.zeros(3)
    for path, words in said.items():
        line = fails(capsys, *(path if argument is None else argument for argument in command))
        assert words in line
        assert path in line
        assert "Errno" not in line


@pytest.mark.parametrize("command", ["check", "inspect", "train"])
def test_what_this_user_may_not_read_is_one_plain_sentence(command, monkeypatch, capsys):
    def refused(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", refused)  # root may read everything
    Path("mine.csv").touch()
    assert "this user may not read or write 'mine.csv'" in fails(capsys, command, "mine.csv")


@pytest.mark.parametrize(
    ("module", "package"),
    [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib"), ("tqdm", "tqdm")],
)
def test_missing_extra(monkeypatch, capsys, module, package):
    for name in [m for m in sys.modules if m.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    err = fails(capsys, "train", "digits")
    assert f"{package} is not installed" in err
    assert f"pip install {package} (or in a clone" in err


@pytest.mark.parametrize("args", [[], ["fly"], ["train"], ["train", "digits", "--fast"]])
def test_wrong_arguments(capsys, args):
    assert "--help" in fails(capsys, *args)


def test_inspect(run, capsys):
    folder, _ = run
    assert main(["inspect", str(folder / "digits.net")]) == 0
    out = capsys.readouterr().out
    assert "cuba.Dense" in out
    assert "128" in out


def test_inspect_draws_the_weights(run, capsys):
    folder, _ = run
    assert main(["inspect", str(folder / "digits.net"), "--plot", "weights.png"]) == 0
    assert "cuba.Dense" in capsys.readouterr().out
    assert 0.01 < float((imread("weights.png")[..., :3].min(-1) < 0.8).mean()) < 0.7


def test_inspect_of_something_else(capsys):
    Path("file.net").write_text("no network")
    Path("folder.net").mkdir()
    for name in ("file.net", "folder.net", "missing.net"):
        assert name in fails(capsys, "inspect", name)


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^torch +{re.escape(torch.__version__)}$", out, re.M)
    assert re.search(r"^cpu +\d+ threads; kernels run by (numba|reference|interpret)$", out, re.M)


def test_version_and_exit_statuses(capsys):
    for option, words in (("--version", f"lapilli {lapilli.__version__}"), ("--help", "130")):
        with pytest.raises(SystemExit) as ended:
            main([option])
        assert ended.value.code == 0
        assert words in capsys.readouterr().out


def test_help_imports_no_torch():
    code = """if True:
        import sys
        from lapilli.program.cli import main
        try:
            main(["--help"])
        finally:
            assert "torch" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
