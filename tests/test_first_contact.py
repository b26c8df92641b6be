"""lapilli in places that are not those of its developers, each in a process of its own.

What all scripts do: make a network, train a step, save the file, load it, compare.
"""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from lapilli.kernels.numbers.language import BACKEND

ROOT = Path(__file__).parent.parent
SOURCES = ("lapilli", "kernels", "neurons", "blocks", "export", "examples")
NETWORK = """
import torch
from lapilli import export, slayer

def main():
    torch.manual_seed(0)
    neuron = dict(threshold=1.0, current_decay=0.25, voltage_decay=0.03)
    net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 6, 4))
    x = (torch.rand(2, 6, 12) < 0.5).float()
    y = net(x)
    assert y.sum() > 0
    y.sum().backward()
    assert net[0].synapse.weight.grad.isfinite().all()
    net.eval()
    export.save(net, "network.net")
    assert torch.equal(export.load("network.net")(x), net(x))
    print("done")
"""
ALIF = "voltage_decay=0.03, threshold_step=0.1, threshold_decay=0.1, refractory_decay=0.1"
CALLED = NETWORK + "\nmain()\n"


def run(script, cwd, **environment):
    """Run a script in a folder; what it printed. A variable that is None is taken away."""
    kept = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    kept = {name: value for name, value in kept.items() if value is not None}
    file = Path(cwd) / "script.py"
    file.write_text(textwrap.dedent(script), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file)], cwd=cwd, env=kept, capture_output=True, text=True, timeout=300,
        encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_numba = pytest.mark.skipif(
    BACKEND not in ("auto", "numba"), reason="the loops of the CPU are those of another backend"
)


@pytest.mark.slow
def test_without_triton(tmp_path):
    blocked = 'import sys\nsys.modules["triton"] = None\n'
    assert run(blocked + CALLED, tmp_path, LAPILLI_BACKEND=None) == "done\n"


@pytest.mark.slow
def test_without_git(tmp_path):
    """The path holds no program but Python."""
    (tmp_path / "bin").mkdir()
    assert shutil.which("git", path=str(tmp_path / "bin")) is None
    script = f"{CALLED}\nfrom lapilli.program.cli import main as command\n"
    script += "assert command(['info']) == 0\n"
    assert run(script, tmp_path, PATH=str(tmp_path / "bin")).startswith("done\n")


@pytest.mark.slow
@needs_numba
def test_without_openmp(tmp_path):
    """Numba has none of its layers of threads, OpenMP's among them: the pool is lapilli's own."""
    script = f"""if True:
        import sys
        for name in ("omppool", "tbbpool", "workqueue"):
            sys.modules["numba.np.ufunc." + name] = None
        import torch
        torch.set_num_threads(3)
        from lapilli import slayer
        exec({CALLED!r})
        neuron = dict(threshold=1.0, current_decay=0.25, voltage_decay=0.03)
        block = slayer.block.cuba.Dense(neuron, 6, 300)
        x = (torch.rand(16, 6, 60) < 0.5).float()
        many = block(x)
        torch.set_num_threads(1)
        assert torch.equal(block(x), many)
        assert not torch.equal(many, torch.zeros_like(many))
    """
    assert run(script, tmp_path, OMP_NUM_THREADS="3") == "done\n"


@pytest.mark.slow
def test_in_a_spawned_process(tmp_path):
    """As on macOS and Windows: the child imports everything anew."""
    script = f"""{NETWORK}
if __name__ == "__main__":
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    child = context.Process(target=main)
    child.start()
    child.join()
    assert child.exitcode == 0
    print("joined")
"""
    assert run(script, tmp_path) == "done\njoined\n"


@pytest.mark.slow
@needs_numba
def test_in_folders_with_spaces_and_letters(tmp_path):
    """The working folder, the caches, the temporary files and the names of files."""
    folder = tmp_path / "Über uns, Ζεῦς 東京" / "a b'c"
    folder.mkdir(parents=True)
    for name in ("cache", "temporary"):
        (folder / name).mkdir()
    script = CALLED.replace("network.net", "Netz ä 1.net")
    where = {"LAPILLI_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder / "temporary")}
    assert run(script, folder, **where) == "done\n"
    assert (folder / "Netz ä 1.net").is_file()
    assert list((folder / "cache").rglob("*.nbc")), "the compiled loops are kept there"
    assert not list((folder / "temporary").glob("lapilli*"))


@pytest.mark.slow
def test_the_command_line_in_such_a_folder(tmp_path):
    folder = tmp_path / "Läufe und 東京"
    folder.mkdir()
    command = "from lapilli.program.cli import main\nimport sys\nsys.exit(main({}))\n"
    out = "erster Lauf ü"
    run(command.format(["train", "digits", "--epochs", "1", "--out", out]), folder)
    assert (folder / out / "report.html").is_file()
    assert "cuba.Dense" in run(command.format(["inspect", f"{out}/digits.net"]), folder)


@pytest.mark.slow
@needs_numba
@pytest.mark.parametrize("home", ["absent", "a file", "not given"])
def test_without_a_home(tmp_path, home):
    where = tmp_path / "nobody"
    if home == "a file":
        where.write_text("")
    given = None if home == "not given" else str(where)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    variables = {"XDG_CACHE_HOME": None, "LAPILLI_CACHE_DIR": None, "TMPDIR": str(scratch)}
    if home == "not given":  # then Python asks for the user's, which the test leaves alone
        variables["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    assert run(CALLED, tmp_path, HOME=given, **variables) == "done\n"
    if home == "a file":
        assert where.read_text() == ""


@pytest.mark.slow
@needs_numba
@pytest.mark.parametrize("kind", ["folder", "file system"])
def test_with_a_cache_that_is_read_only(kind, tmp_path):
    """Loops are compiled for the process alone, of a folder only those that are not there yet."""
    if kind == "file system":
        cache = Path("/proc/lapilli")  # not even root can make it
        if not cache.parent.is_dir():
            pytest.skip("there is no /proc here")
        assert run(CALLED, tmp_path, LAPILLI_CACHE_DIR=str(cache)) == "done\n"
        assert not cache.exists()
        return
    cache = tmp_path / "cache"
    where = {"LAPILLI_CACHE_DIR": str(cache)}
    run(CALLED, tmp_path, **where)
    kept = sorted(cache.rglob("*"))
    for path in (*kept, cache):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        if os.access(cache, os.W_OK):
            pytest.skip("this user may write into a read-only folder")
        other = CALLED.replace("cuba", "alif").replace("voltage_decay=0.03", ALIF)
        for script in (CALLED, other):
            assert run(script, tmp_path, **where) == "done\n"
        assert sorted(cache.rglob("*")) == kept
    finally:
        for path in (cache, *kept):
            path.chmod(0o755)


def test_importing_slayer_takes_less_than_a_fifth_of_a_second(tmp_path):
    """Over what torch itself takes, of processor time: a family is imported when it is used."""
    script = """
        import sys, time
        import torch
        begin = time.process_time()
        from lapilli import slayer
        import lapilli.slayer.block
        print(time.process_time() - begin)
        loaded = [name for name in sys.modules if name.startswith("lapilli.blocks.")]
        assert not loaded, loaded
    """
    assert float(run(script, tmp_path)) < 0.2


READ_ALL = """
import pathlib, sys, warnings
warnings.simplefilter("error")
for name in sys.argv[1:]:
    compile(pathlib.Path(name).read_text(encoding="utf-8"), name, "exec", dont_inherit=True)
print(len(sys.argv) - 1)
"""


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13", "3.14"])
def test_other_pythons_read_every_file(version, tmp_path):
    """Without a warning, as of escapes that are none."""
    found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    python = next(iter(found), None) or shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-V"], capture_output=True).returncode:
        pytest.skip(f"there is no python{version} here")
    files = [str(f) for folder in SOURCES for f in sorted((ROOT / folder).rglob("*.py"))]
    done = subprocess.run(
        [python, "-c", READ_ALL, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150
