"""``lapilli profile``, from the outside."""

import json
import re
from pathlib import Path

import pytest
import torch
from lapilli.kernels.executors.dispatch import BACKEND
from turns import soon

from lapilli.benchmark.neurons import ARGUMENTS
from lapilli.program.cli import main

pytestmark = pytest.mark.skipif(BACKEND != "auto", reason="a backend was chosen")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def profiled(capsys, *args):
    assert main(["profile", *args]) == 0
    return capsys.readouterr().out


def rows(out):
    """Return name to (milliseconds, percent, calls) of the lines of the table."""
    found = re.findall(r"^(\S.*?)  +([\d.]+) ms +([\d.]+)% +([\d.]+)$", out, flags=re.M)
    return {name: tuple(map(float, numbers)) for name, *numbers in found}


def events(path):
    return [event.get("name", "") for event in json.loads(Path(path).read_text())["traceEvents"]]


LOOPS = {name: name.replace("adrf", "rf").replace("rf_iz", "rf") for name in ARGUMENTS}


@pytest.mark.parametrize("neuron", soon(("cuba", "rf"), ARGUMENTS))
def test_time_of_training(neuron, capsys):
    out = profiled(capsys, "--neuron", neuron, "--shape", "4,512,60")
    assert out.startswith(f"{neuron}, 4 x 512 x 60, training, on cpu (numba)\n")
    found = rows(out)
    loop = LOOPS[neuron].replace("rf", "resonator")
    for name in (f"lapilli loop _{loop}_fwd_cpu", f"lapilli loop _{loop}_bwd_cpu"):
        milliseconds, _, calls = found[name]
        assert milliseconds > 0
        assert calls == 1
    assert sum(share for _, share, _ in found.values()) == pytest.approx(100, abs=1)
    (step,) = re.findall(
        r"^([\d.]+) ms a step; while profiled, (\d+)% in kernels$", out, flags=re.M
    )
    assert float(step[0]) > 0
    kernels = sum(share for name, (_, share, _) in found.items() if "loop" in name)
    assert int(step[1]) == pytest.approx(kernels, abs=1)
    trace = f"runs/profile-{neuron}-training.json"
    assert f"\ntrace: {trace} " in out
    assert f"lapilli loop _{loop}_bwd_cpu" in events(trace)


def test_time_of_forward(capsys):
    out = profiled(
        capsys, "--neuron", "rf", "--shape", "2,3,4,20", "--mode", "forward", "--trace", "a.json"
    )
    assert "lapilli loop _resonator_fwd_cpu" in rows(out)
    assert not any("bwd" in name for name in rows(out))
    assert "lapilli::resonator_fwd" in events("a.json")
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["a.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--neuron": "lif"}, f"unknown neuron 'lif'; there are: {', '.join(ARGUMENTS)}"),
        ({"--mode": "backward"}, "unknown mode 'backward'; there are: forward, training"),
        ({"--shape": "32,512"}, "is '32,512'; expected batch,neurons,time, as 32,512,300"),
        ({"--shape": "32,512,0"}, "whole numbers from 1"),
        ({"--shape": "a,b,c"}, "is 'a,b,c'; expected"),
        ({"--shape": "65536,65536,65536"}, "product is at most 268435456"),
        ({"--device": "nowhere"}, "device 'nowhere' cannot be used"),
        ({"--trace": "nowhere/a.json"}, "folder"),
    ],
    ids=str,
)
def test_wrong_input(change, words, capsys):
    arguments = {"--neuron": "rf", "--shape": "2,3,4"} | change
    assert main(["profile", *(a for pair in arguments.items() for a in pair)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"lapilli: error: [^\n]+\n", err)
    assert words in err
    assert not list(Path.cwd().iterdir())


def test_loops_are_labelled_only_where_a_profiler_listens(monkeypatch):
    from lapilli.kernels.recurrences import sigma

    labels = []
    record = torch.profiler.record_function
    monkeypatch.setattr(
        torch.profiler, "record_function", lambda name: labels.append(name) or record(name)
    )
    x = torch.randn(2, 3, 5)
    sigma.sigma(x)
    assert not labels
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        sigma.sigma(x)
    assert labels == ["lapilli loop _sigma_cpu"]
