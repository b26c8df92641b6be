"""``lapilli warm``: what is compiled ahead of time serves other processes, from a copy too."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from lapilli.program import warm
from lapilli.program.cli import main
from lapilli.program.recipes import RECIPES

NETWORK = """
    import torch
    from lapilli import slayer

    def net(shape, classes):
        neuron = dict(threshold=1.25, current_decay=0.25, voltage_decay=0.03)
        return torch.nn.Sequential(slayer.block.cuba.Dense(neuron, *shape, classes))
"""
STEP = """
    import torch
    from numba.core import event
    from model import net

    with event.install_recorder("numba:compile") as compilations:
        model = net((20,), 3)
        spikes = (torch.rand(8, 20, 32) < 0.05).float()
        model(spikes).sum().backward()
        with torch.no_grad():
            model.eval()(spikes)
    print(len(compilations.buffer))
"""


def run(command, folder, cache):
    environment = os.environ | {"LAPILLI_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_copy_of_the_folder_serves(tmp_path):
    (tmp_path / "model.py").write_text(textwrap.dedent(NETWORK))
    cache, copy = tmp_path / "cache", tmp_path / "copy"
    command = ["-m", "lapilli", "warm", "model.py:net", "--shape", "20", "--classes", "3"]
    said = run([*command, "--folder", str(cache)], tmp_path, tmp_path / "unused")
    assert said.startswith("model.py:net\n")
    assert f"{len(list(cache.rglob('*.nbc')))} loops" in said
    assert not (tmp_path / "unused").exists()
    shutil.copytree(cache, copy, copy_function=shutil.copy)  # files are as new
    assert run(["-c", textwrap.dedent(STEP)], tmp_path, copy) == "0\n"


@pytest.mark.slow
def test_a_recipe_is_trained_without_compiling(tmp_path):
    cache = tmp_path / "cache"
    run(["-m", "lapilli", "warm", "digits"], tmp_path, cache)
    before = sorted(cache.rglob("*.nbc"))
    run(["-m", "lapilli", "train", "digits", "--epochs", "1", "--out", "run"], tmp_path, cache)
    assert sorted(cache.rglob("*.nbc")) == before


@pytest.mark.slow
def test_every_neuron():
    """Into the folder of the other tests, which compile much of it, too."""
    done = list(warm.warm([warm.EVERYTHING], None, 10))
    assert len(set(done)) == len(done) > 4 * 6


def test_samples_of_the_recipes():
    assert set(warm._SAMPLES) == set(RECIPES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "'digit' is nothing that can be compiled; expected digits, nmnist"),
        (["some.net"], "give it with --shape"),
        (["model.py:net"], "give it with --shape"),
        (["some.net", "--shape", "3"], "there is no file 'some.net'"),
        (["model.py:net", "--shape", "3"], "there is no file 'model.py'"),
        (["digits", "--shape", "3,0"], "expected the neurons of a sample"),
        (["digits", "--classes", "0"], "expected a whole number from 1"),
    ],
)
def test_what_cannot_be_compiled(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["warm", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_network_that_does_not_take_the_shape(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(
        textwrap.dedent(NETWORK).replace("*shape", "5")  # whatever the shape
    )
    assert main(["warm", "model.py:net", "--shape", "3"]) == 2
    assert "error: model.py:net, called with (3,) and 10: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def net(shape, classes): return 3", "it returned 3; expected a torch.nn.Sequential"),
        ("def net(): pass", "TypeError: net() takes 0 positional arguments"),
        ("def net(shape, classes): raise KeyError('x')", "KeyError: 'x'"),
    ],
)
def test_a_function_that_makes_no_network(text, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(text)
    assert main(["warm", "model.py:net", "--shape", "3"]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LAPILLI_CACHE_DIR", "")  # put back after the test
    (tmp_path / "file").write_text("")
    assert main(["warm", "digits", "--folder", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
