"""The commands that take network files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from export_networks import network, spikes
from matplotlib.image import imread

from lapilli import export
from lapilli.program.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from lapilli.program.cli import main; sys.exit(main())",
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def saved(name):
    """Save a network as a.net and an input for it as x.npy; return both."""
    net, shape = network(name)
    export.save(net, "a.net", target="lapilli")
    x = spikes(2, *shape, 40)
    np.save("x.npy", x.numpy().astype(bool))
    return net, x


def fails(capsys, *args):
    before = sorted(Path.cwd().iterdir())
    assert main([str(a) for a in args]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lapilli: error: ")
    assert err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before
    return err


def test_check(capsys):
    saved("mlp")
    assert main(["check", "a.net"]) == 0
    assert capsys.readouterr().out == "a.net: can be deployed (loihi2-netx)\n"
    saved("image")
    assert main(["check", "a.net"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 8  # one of them a warning
    assert all(line.startswith("layer ") and "; remedy: " in line for line in lines)
    assert last == "a.net: cannot be deployed: 7 errors (loihi2-netx)"
    assert main(["check", "a.net", "--target", "lapilli"]) == 0


def test_check_of_something_else(capsys):
    saved("mlp")
    Path("file.net").write_text("no network")
    assert "file.net" in fails(capsys, "check", "file.net")
    assert "missing.net" in fails(capsys, "check", "missing.net")
    assert "one of loihi2-netx, lapilli" in fails(capsys, "check", "a.net", "--target", "gpu")


def test_run(capsys):
    net, x = saved("mlp")
    assert main(["run", "a.net", "x.npy", "-o", "y.npy"]) == 0
    out = capsys.readouterr().out
    assert "y.npy: int8 2 x 3 x 40\n" in out
    assert "0 states beyond 24 bits" in out
    y = np.load("y.npy")
    assert y.dtype == np.int8
    torch.testing.assert_close(torch.from_numpy(y).float(), net(x), rtol=0, atol=0)


def test_run_says_the_unit(capsys):
    net, x = saved("sigma delta")
    assert main(["run", "a.net", "x.npy", "-o", "y.npy", "--overflow", "loihi"]) == 0
    unit = int(capsys.readouterr().out.partition("in units of 1/")[2].split()[0])
    y = torch.from_numpy(np.load("y.npy")).float() / unit
    torch.testing.assert_close(y, net(x), rtol=0, atol=0)


def test_wrong_input_of_run(capsys):
    saved("mlp")
    np.save("wrong.npy", np.zeros((1, 33, 4)))
    np.savez("many.npz", x=np.zeros((1, 34, 4)))
    np.save("objects.npy", np.array([object()]), allow_pickle=True)
    whole = Path("x.npy").read_bytes()
    Path("cut.npy").write_bytes(whole[:-10])
    Path("huge.npy").write_bytes(whole.replace(b"(2, 34, 40)", b"(2, 34, 99)"))
    for name, words in {
        "wrong.npy": "does not take",
        "many.npz": "not a file of one array",
        "objects.npy": "",
        "cut.npy": "",
        "huge.npy": "",
        "a.net": "",
        "absent.npy": "absent.npy",
    }.items():
        assert words in fails(capsys, "run", "a.net", name, "-o", "y.npy"), name
    assert "one of slayer, loihi" in fails(
        capsys, "run", "a.net", "x.npy", "-o", "y.npy", "--overflow", "float"
    )
    assert "absent" in fails(capsys, "run", "a.net", "x.npy", "-o", "absent/y.npy")
    assert "--output" in fails(capsys, "run", "a.net", "x.npy")


def test_inspect_and_its_picture(capsys):
    saved("conv")
    assert main(["inspect", "a.net", "--plot", "weights.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "format: lapilli-net 2"
    assert lines[1].split() == [
        "layer", "type", "block", "shape", "neuron", "parameters", "synapses", "weights", "bits",
        "delays",
    ]  # fmt: skip
    assert lines[-1].startswith(f"{8 * 120 + 16 * 20 + 11} neurons, ")
    ink = (imread("weights.png")[..., :3].min(-1) < 0.8).mean()
    assert 0.01 < ink < 0.5


def test_a_picture_of_no_weights_is_refused(capsys):
    from lapilli.blocks import cuba

    export.save([cuba.Average(4)], "a.net", target="lapilli")
    assert "got 0" in fails(capsys, "inspect", "a.net", "--plot", "weights.png")


@pytest.mark.slow
@pytest.mark.parametrize("command", [["inspect", "a.net"], ["--help"]])
def test_nobody_reads_the_output(command):
    saved("image")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, *command], stdout=write, stderr=subprocess.PIPE, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    os.close(write)
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # argparse itself swallows what its help runs into
