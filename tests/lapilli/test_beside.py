"""A fork compiles what this process will need."""

import os
import sys
import time

import pytest
import torch
from lapilli.kernels.executors import dispatch
from lapilli.kernels.executors.loops import cpu_loop

from lapilli.program import beside as module
from lapilli.program.beside import beside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})


@cpu_loop
def _tripling_loop(first, last, x, out):
    for i in range(first, last):
        out[i] = x[i] + x[i] + x[i]


def _triple():
    out = torch.empty(2)
    dispatch.run_loop(_tripling_loop, 2, 2, (torch.tensor([1.0, 2.0]), out))
    return out.tolist()


def test_what_it_compiles_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPILLI_CACHE_DIR", str(tmp_path))
    with beside(_triple):
        end = time.monotonic() + 60
        while not list(tmp_path.rglob("*.nbi")) and time.monotonic() < end:
            time.sleep(0.01)
        assert _triple() == [3, 6]
    found = _tripling_loop.specialise((False, False), ()).stats
    assert (sum(found.cache_hits.values()), sum(found.cache_misses.values())) == (1, 0)


def test_it_ends_with_the_context_and_its_errors_are_its_own(capfd):
    read, write = os.pipe()

    def fails():
        os.write(write, str(os.getpid()).encode())
        sys.stdout.write("not seen\n")
        sys.stdout.flush()
        raise ValueError("not seen")

    for work in (fails, lambda: (os.write(write, str(os.getpid()).encode()), time.sleep(600))):
        with beside(work):
            fork = int(os.read(read, 20))
            assert fork != os.getpid()
        with pytest.raises(ProcessLookupError):
            os.kill(fork, 0)
    assert capfd.readouterr() == ("", "")


def test_one_core_is_left_alone(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    monkeypatch.setattr(module.os, "fork", None)
    with beside(_triple):
        pass
