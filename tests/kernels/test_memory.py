"""The pool of large buffers: reused, never shared by two live tensors, private after a fork."""

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lapilli.kernels.executors import memory
from lapilli.kernels.executors.memory import empty, keep_memory
from lapilli.kernels.recurrences.cuba import cuba

MIB = 1 << 20
LIKE = torch.empty(0)
LARGE = (3, MIB)  # 12 MiB: a size that no other test uses

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture(scope="module", autouse=True)
def _what_was_here():
    """Leave what other files made out of every ``gc.collect()`` of this one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    """Start with an empty pool."""
    monkeypatch.setattr(memory, "_pool", memory._Pool())
    yield memory._pool
    gc.collect()


def span(tensor):
    first = tensor.untyped_storage().data_ptr()
    return first, first + tensor.untyped_storage().nbytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32], ids=str)
@pytest.mark.parametrize("shape", [LARGE, (2, 3, 5, MIB // 7), (MIB + 1,), (3,), (0, 4)], ids=str)
def test_what_comes_is_what_was_asked_for(shape, dtype):
    tensor = empty(shape, dtype, LIKE)
    assert tensor.shape == shape
    assert tensor.dtype == dtype
    assert tensor.is_contiguous()
    assert tensor.data_ptr() % 64 == 0 or tensor.numel() == 0
    tensor.fill_(7)
    assert bool((tensor == 7).all())


def test_buffer_is_reused():
    first = empty(LARGE, torch.float32, LIKE)
    address = first.data_ptr()
    del first
    assert empty(LARGE, torch.int32, LIKE).data_ptr() == address


def test_buffer_comes_back_with_the_last_view(pool):
    tensor = empty(LARGE, torch.float32, LIKE)
    view = tensor[1:, ::2].movedim(0, 1)
    array = view.numpy()
    del tensor
    assert pool.bytes == 0
    del view
    assert pool.bytes == 0
    del array
    assert pool.bytes == 12 * MIB


def test_autograd_keeps_its_buffers(pool):
    x = torch.randn(2, 10, 1 << 16, requires_grad=True)
    decay = torch.tensor([500.0])

    def run():
        return cuba(x.movedim(1, -1), decay, decay, 1.0, 4096)

    def gradient(y):
        return torch.autograd.grad(y, x, torch.ones_like(y))[0]

    want = gradient(run())
    loss = run().sum()  # spikes are gone, the saved voltage is not
    other = empty((2, 10, 1 << 16), torch.int32, LIKE).fill_(0)
    assert torch.equal(torch.autograd.grad(loss, x)[0], want)
    assert other.count_nonzero() == 0


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.integers(0, 7)), max_size=40))
def test_tensors_that_live_never_overlap(steps):
    live = []
    for give, size, which in steps:
        if give and live:
            tensor, value = live.pop(which % len(live))
            assert tensor[0] == tensor[-1] == value
            del tensor
        else:
            value = len(live) + 10 * size
            live.append((empty((size * MIB,), torch.int32, LIKE), value))
            live[-1][0][[0, -1]] = value
    spans = sorted(span(tensor) for tensor, _ in live)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_threads_never_share_a_buffer():
    start = threading.Barrier(4, timeout=60)

    def work(value):
        start.wait()
        for _ in range(50):
            array = empty((MIB,), torch.int32, LIKE).numpy()
            array[:: MIB // 8] = value
            if not (array[:: MIB // 8] == value).all():
                return False
        return True

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(work, range(4)))


def test_unused_buffers_stay_within_the_limit(pool):
    pool.limit = 20 * MIB
    tensors = [empty((k * MIB,), torch.float32, LIKE) for k in (1, 2, 3)]  # 4, 8 and 12 MiB
    addresses = [t.data_ptr() for t in tensors]
    while tensors:
        del tensors[0]
    assert pool.bytes == sum(map(len, pool.free.values())) == 20 * MIB
    kept = [empty((k * MIB,), torch.float32, LIKE).data_ptr() for k in (2, 3)]
    assert kept == addresses[1:], "the oldest went"


def test_buffer_above_the_limit_is_not_kept(pool):
    pool.limit = 8 * MIB
    empty(LARGE, torch.float32, LIKE)
    assert pool.bytes == 0
    assert not pool.free


def test_variable_sets_the_limit_and_zero_turns_the_pool_off(monkeypatch):
    monkeypatch.setenv("LAPILLI_POOL_BYTES", str(5 * MIB))
    assert memory._Pool().limit == 5 * MIB
    monkeypatch.setenv("LAPILLI_POOL_BYTES", "0")
    monkeypatch.setattr(memory, "_pool", memory._Pool())
    monkeypatch.setattr(memory, "_Lease", None)  # would be called, and fail
    assert empty(LARGE, torch.float32, LIKE).shape == LARGE
    monkeypatch.delenv("LAPILLI_POOL_BYTES")
    assert memory._Pool().limit == 1 << 30


def test_small_tensors_are_not_pooled(monkeypatch):
    monkeypatch.setattr(memory, "_Lease", None)
    assert empty((MIB // 4 - 1,), torch.float32, LIKE).numel() == MIB // 4 - 1
    with pytest.raises(TypeError, match="NoneType"):
        empty((MIB // 4,), torch.float32, LIKE)


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_writes_into_its_own_copy():
    array = empty(LARGE, torch.int32, LIKE).numpy()
    array[:] = 1
    unused = empty((2 * MIB,), torch.int32, LIKE)
    del unused
    child = os.fork()
    if child == 0:
        status = 1
        signal.alarm(120)
        try:
            seen = (array == 1).all()
            array[:] = 2
            fresh = empty((2 * MIB,), torch.int32, LIKE).numpy()
            fresh[:] = 3
            status = 0 if seen and (array == 2).all() and not memory._pool.free else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(array, np.ones(LARGE, np.int32))


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_the_pool_is_locked_does_not_hang(pool):
    with pool.lock:  # as another thread may hold it
        child = os.fork()
        if child == 0:
            status = 1
            signal.alarm(120)
            try:
                array = empty(LARGE, torch.int32, LIKE).numpy()
                array[:] = 1
                del array
                status = 0 if memory._pool.bytes == 12 * MIB else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_buffer_is_given_up_rather_than_waited_for(pool):
    tensor = empty(LARGE, torch.float32, LIKE)
    with pool.lock:  # the collector may run while this thread holds it
        del tensor
    assert pool.bytes == 0


FAULTS = """
import resource, sys, torch, lapilli
if sys.argv[1] == "keep":
    assert lapilli.keep_memory()

def faults(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        torch.ones(1 << 24)  # more than malloc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(20)  # the heap grows until it fits
print(faults(10))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_freed_memory_is_kept_where_asked_for():
    def faults(how):
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=120,
            check=True,
        )  # fmt: skip
        return int(done.stdout)

    assert faults("keep") < faults("leave") / 10


def test_other_systems_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)  # would be called, and fail
    assert keep_memory() is False
