"""The cache of compiled loops: what is found again, copied, shared, and done without."""

import gc
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lapilli.kernels.executors import cache as cache_module
from lapilli.kernels.executors import dispatch
from lapilli.kernels.executors.loops import cpu_loop

SCRIPT = """
    import torch
    from double import double
    from lapilli.kernels.executors.dispatch import run_loop

    out = torch.empty(3)
    run_loop(double, 3, 3, (torch.tensor([1.0, 2.0, 3.0]), out))
    print(out.tolist())
    found = double.specialise((False, False), ()).stats
    print(sum(found.cache_hits.values()), sum(found.cache_misses.values()))
"""

DOUBLE = """
    from lapilli.kernels.executors.loops import cpu_loop

    @cpu_loop
    def double(first, last, x, out):
        for i in range(first, last):
            out[i] = x[i] + x[i]
"""


@pytest.fixture
def module_path(tmp_path):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "double.py").write_text(textwrap.dedent(DOUBLE))
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def run(script: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def files(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.suffix in (".py", ".nbc")}


def test_second_process_compiles_nothing(cache, module_path):
    folder = cache / "cache"
    environment = {"LAPILLI_CACHE_DIR": str(folder), "PYTHONPATH": module_path}
    assert run(SCRIPT, **environment) == ["[2.0, 4.0, 6.0]", "0 1"]
    before = files(folder)
    assert {p.suffix for p in before} == {".py", ".nbc"}
    assert run(SCRIPT, **environment) == ["[2.0, 4.0, 6.0]", "1 0"]
    assert files(folder) == before


@pytest.mark.slow
def test_a_copy_of_the_cache_serves(cache, module_path):
    folder, copy = cache / "cache", cache / "copy"
    run(SCRIPT, LAPILLI_CACHE_DIR=str(folder), PYTHONPATH=module_path)
    shutil.copytree(folder, copy, copy_function=shutil.copy)  # with other times, as in a wheel
    output = run(SCRIPT, LAPILLI_CACHE_DIR=str(copy), PYTHONPATH=module_path)
    assert output == ["[2.0, 4.0, 6.0]", "1 0"]
    # what some releases of Numba look at
    assert {p.stat().st_mtime for p in copy.rglob("double.py")} == {cache_module._WRITTEN}


@cpu_loop
def _doubling_loop(first, last, x, out):
    for i in range(first, last):
        out[i] = x[i] + x[i]


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_again_after_compilation(enabled, cache, monkeypatch):
    loop, seen = cpu_loop(_doubling_loop.fn), []
    specialise = loop.specialise

    def watched(*key):
        compiled = specialise(*key)
        compile_it = compiled.compile
        monkeypatch.setattr(
            compiled, "compile", lambda kinds: (seen.append(gc.isenabled()), compile_it(kinds))
        )
        return compiled

    monkeypatch.setattr(loop, "specialise", watched)
    x, out = torch.tensor([1.0, 2.0]), torch.empty(2)
    (gc.enable if enabled else gc.disable)()
    try:
        for _ in range(2):
            dispatch.run_loop(loop, 2, 2, (x, out))
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert out.tolist() == [2, 4]
    assert seen == [False], "compiled once, while nothing is collected"


def _hits(loop):
    compiled = loop.specialise((False, False), ())
    out = np.empty(2, np.float32)
    compiled(0, 2, np.array([1, 2], np.float32), out)
    assert out.tolist() == [2, 4]
    return sum(compiled.stats.cache_hits.values())


def test_a_cache_that_cannot_be_written_is_read(cache, tmp_path, monkeypatch):
    carried, own = tmp_path / "carried", tmp_path / "own"
    monkeypatch.setenv("LAPILLI_CACHE_DIR", str(carried))
    monkeypatch.setenv("XDG_CACHE_HOME", str(own))
    assert _hits(cpu_loop(_doubling_loop.fn)) == 0
    before = files(carried)
    may = os.access
    monkeypatch.setattr(
        cache_module.os,
        "access",
        lambda path, how: carried not in Path(path).parents and may(path, how),
    )
    assert _hits(cpu_loop(_doubling_loop.fn)) == 1
    assert _hits(cpu_loop(_doubling_loop.fn)) == 1, "copied before"
    assert files(carried) == before
    assert {p.relative_to(own / "lapilli") for p in files(own)} == {
        p.relative_to(carried) for p in before
    }


@pytest.mark.slow
def test_processes_that_start_together_compile_once(cache, module_path):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    environment = os.environ | {"PYTHONPATH": module_path}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0].splitlines() for process in both]
    assert [lines[0] for lines in said] == ["[2.0, 4.0, 6.0]"] * 2
    assert sorted(lines[1] for lines in said) == ["0 1", "1 0"]
    assert not list(cache.rglob("*.tmp"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_nobody_waits_for_a_process_that_was_stopped(cache, monkeypatch):
    compiled = cpu_loop(_doubling_loop.fn).specialise((False, False), ())
    holds, ends = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with cache_module.one_after_another(compiled.py_func):
            os.write(holds[1], b".")
            os.read(ends[0], 1)
        os._exit(0)
    os.read(holds[0], 1)
    monkeypatch.setattr(cache_module, "_PATIENCE", 0.2)
    try:
        start = time.monotonic()
        with cache_module.one_after_another(compiled.py_func):
            assert time.monotonic() - start >= 0.2
    finally:
        os.write(ends[1], b".")
        os.waitpid(child, 0)
    start = time.monotonic()
    with cache_module.one_after_another(compiled.py_func):
        assert time.monotonic() - start < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["read-only", "not a folder"])
def test_folder_that_cannot_be_written_is_done_without(how, tmp_path, module_path):
    folder = tmp_path / "cache"
    if how == "not a folder":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write into a read-only folder")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    output = run(SCRIPT, LAPILLI_CACHE_DIR=str(folder), PYTHONPATH=module_path, TMPDIR=str(scratch))
    assert output == ["[2.0, 4.0, 6.0]", "0 1"]
    assert {p.suffix for p in files(scratch)} == {".py"}, "source without machine code"


def test_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("LAPILLI_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_module.cache_folder() == Path("/somewhere/lapilli")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_module.cache_folder() == Path.home() / ".cache" / "lapilli"
    monkeypatch.setenv("LAPILLI_CACHE_DIR", tempfile.gettempdir())
    assert cache_module.cache_folder() == Path(tempfile.gettempdir())


@pytest.mark.parametrize(
    "module", ["lapilli.kernels.recurrences.cuba", pytest.param("lapilli", marks=pytest.mark.slow)]
)
def test_import_compiles_nothing(module, tmp_path):
    script = f"""
        import sys
        import {module}
        print("numba" in sys.modules, "llvmlite" in sys.modules)
        import torch
        print(torch.cuda.is_initialized())
    """
    assert run(script, LAPILLI_CACHE_DIR=str(tmp_path)) == ["False False", "False"]
    assert not list(tmp_path.iterdir())
