"""``torchrun -m lapilli train`` as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lapilli import processes
from lapilli.program import cli, devices
from lapilli.program.arguments import UsageError

TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr",
    "127.0.0.1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--redirects", "3",
    "--log-dir", "logs", "-m", "lapilli",
]  # fmt: skip
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
FILES = {
    "model.pt", "digits.net", "training.png", "raster.png", "report.html", "history.csv",
    "report.json",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed(stream, rank):
    """What a rank has printed."""
    (log,) = Path("logs").glob(f"*/attempt_0/{rank}/{stream}.log")
    return log.read_text()


def start(*args):
    return subprocess.Popen(
        [*TORCHRUN, *args], env=ONE_THREAD, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(*args):
    """Run to the end; returns torchrun's exit status and what it printed itself."""
    process = start(*args)
    try:
        out, err = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err


@pytest.mark.slow
def test_two_processes_train_as_one():
    args = ["train", "digits", "--epochs", "2"]
    code, _, err = run(*args, "--out", "two")
    assert code == 0, err + printed("stderr", 0) + printed("stderr", 1)
    assert cli.main([*args, "--out", "one"]) == 0

    assert {f.name for f in Path("two").iterdir()} == FILES
    one, two = (json.loads(Path(f"{n}/report.json").read_text()) for n in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["different_spikes"] == 0
    assert two["test_accuracy"] == pytest.approx(two["history"][-1]["test_accuracy"])
    assert two.keys() == one.keys()
    for other, epoch in zip(two["history"], one["history"], strict=True):
        # sums in another order move a weight to the next step of its grid now and then
        assert other["loss"] == pytest.approx(epoch["loss"], rel=0.02)
        assert other["train_accuracy"] == pytest.approx(epoch["train_accuracy"], abs=0.02)
        assert other["test_accuracy"] == pytest.approx(epoch["test_accuracy"], abs=0.02)

    assert printed("stdout", 0).startswith("network   64-128-10, 32 time steps, on 2 x cpu")
    assert re.search(r"2/2 .*loss \d\.\d+, accuracy \d+\.\d%", printed("stderr", 0))
    assert printed("stdout", 1) == printed("stderr", 1) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "mnist"], "unknown data set 'mnist'"),
        (["train", "digits", "--batch-size", "9"], "2 processes cannot share batches of 9"),
        (["info"], "only train runs in several processes; start lapilli info without torchrun"),
    ],
    ids=["data set", "batch size", "command"],
)
def test_wrong_use_is_said_once(args, message):
    code, _, err = run(*args)
    assert code != 0
    assert re.fullmatch(rf"lapilli: error: {message}[^\n]*\n", printed("stderr", 0))
    assert printed("stdout", 0) == printed("stdout", 1) == printed("stderr", 1) == ""
    first = err[err.index("Root Cause") :]
    assert re.search(r"exitcode +: 2 ", first), err
    assert {f.name for f in Path().iterdir()} == {"logs"}


def wait_for_epoch(process, number):
    """Wait until rank 0 has finished an epoch."""
    while process.poll() is None:
        logs = [*Path("logs").glob("*/attempt_0/0/stderr.log")]
        if logs and f" {number}/100000" in logs[0].read_text():
            return
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("".join(process.communicate()))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_interrupt_leaves_the_last_finished_epoch(capsys):
    process = start("train", "digits", "--epochs", "100000", "--out", "a")
    with process:
        wait_for_epoch(process, 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.communicate(timeout=120)
    assert {f.name for f in Path("a").iterdir()} == FILES | {"checkpoint.pt"}
    kept = torch.load("a/checkpoint.pt", weights_only=True)
    assert len(kept["fit"]["random"]) == 2
    assert cli.main(["train", "digits", "--resume", "a"]) == 2
    assert "the run to go on with has processes 2, not 1" in capsys.readouterr().err
    report = json.loads(Path("a/report.json").read_text())
    assert report["interrupted"]
    assert 2 <= report["epochs"] == len(report["history"]) < 100000
    assert report["test_accuracy"] == pytest.approx(report["history"][-1]["test_accuracy"])
    assert f"the files hold epoch {report['epochs']} of 100000" in printed("stderr", 0)
    assert "Traceback" not in printed("stderr", 0)
    assert printed("stderr", 1) == ""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_process_that_dies_ends_the_others():
    process = start("train", "digits", "--epochs", "100000", "--out", "a")
    with process:
        wait_for_epoch(process, 1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            os.killpg(process.pid, signal.SIGKILL)
            pytest.skip("this system does not list the children of a process")
        *_, last = children.read_text().split()
        os.kill(int(last), signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "SIGKILL" in err
    left = {f.name for f in Path("a").iterdir() if not f.name.startswith(".")}
    assert left == {"checkpoint.pt", "history.csv"}  # to go on from


# in one process: what only some machines show


def test_each_process_takes_its_own_device(monkeypatch):
    monkeypatch.setattr(devices, "devices_here", lambda: {"cpu": "", "cuda:0": "", "cuda:1": ""})
    second = processes.Processes(rank=3, size=4, local_rank=1, local_size=2)
    assert devices.own_device("cuda", second) == "cuda:1"
    assert devices.own_device("cpu", second) == "cpu"
    assert devices.own_device("cuda:1", processes.Processes()) == "cuda:1"
    with pytest.raises(UsageError, match=r"'cuda:1' is one for 4 processes; leave the number out"):
        devices.own_device("cuda:1", second)
    many = processes.Processes(rank=0, size=3, local_rank=0, local_size=3)
    with pytest.raises(UsageError, match=r"3 processes .* has 2 x cuda; start at most 2"):
        devices.own_device("cuda", many)


def test_an_environment_that_is_not_torchruns(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert cli.main(["info"]) == 2
    assert re.fullmatch(
        "lapilli: error: WORLD_SIZE is 2, and RANK, .* not set; start several [^\n]*\n",
        capsys.readouterr().err,
    )


def test_too_few_samples(capsys):
    assert cli.main(["train", "digits", "--batch-size", "2000"]) == 2
    assert "digits has 1437 training samples here, too few for a batch of 2000" in (
        capsys.readouterr().err
    )


# the page


@pytest.mark.slow
def test_the_script_of_the_page():
    """As it stands, in two processes; then what follows it there."""
    page = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text()
    script, shard, save = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    end = "distributed.destroy_process_group()\n"
    assert script.endswith(end)
    Path("script.py").write_text(script.removesuffix(end) + shard + save + end)
    command = [*TORCHRUN[: TORCHRUN.index("-m", 3)], "script.py"]
    done = subprocess.run(
        command, env=ONE_THREAD, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr + printed("stderr", 0) + printed("stderr", 1)
    assert any(Path("runs/checkpoint").iterdir())
