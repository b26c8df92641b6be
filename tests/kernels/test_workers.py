"""One pool of threads serves every caller: several at once, after a fork, in DataLoader workers."""

import dataclasses
import gc
import os
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lapilli.kernels.executors import workers
from lapilli.kernels.executors.workers import run_tiles
from lapilli.kernels.recurrences.cuba import cuba
from problems import assert_same_bits, fixed_problem, shared_parameters
from recurrences import TABLE
from turns import soon

ENOUGH = workers._INLINE + 1


@pytest.fixture
def threads():
    """Set torch's number of threads; it is put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def large_problem(recurrence, seed=0):
    """Return a problem for several threads, of tiles that end within a channel."""
    choices = {name: True for name in ("train", "learn") if name in recurrence.features}
    problem = shared_parameters(fixed_problem(recurrence, **choices))
    return dataclasses.replace(problem, batch=4, shape=(3, 700), steps=20, seed=seed)


def rows(seed: int) -> torch.Tensor:
    """Return an input that several threads share, and that no copy has to make contiguous."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 80, 2048, generator=generator).movedim(1, -1)


def spikes(x: torch.Tensor, graded: bool = False) -> torch.Tensor:
    """Run neurons; nothing here is parallel in torch, whose threads do not survive a fork."""
    decay = torch.tensor([300.0])
    return cuba(x, decay, decay, 1.0, 4096, graded=graded)


@given(tiles=st.integers(1, 100), count=st.integers(1, 9), work=st.sampled_from([1, ENOUGH]))
def test_every_tile_runs_once(tiles, count, work):
    lock, ranges = threading.Lock(), []

    def loop(first, last, argument):
        assert argument == "argument"
        with lock:
            ranges.append((first, last))

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        run_tiles(loop, tiles, work, ("argument",))
    finally:
        torch.set_num_threads(before)
    assert len(ranges) == (min(count, tiles) if work == ENOUGH else 1)
    assert [k for r in sorted(ranges) for k in range(*r)] == list(range(tiles))


def test_memory_lives_until_a_loop_ends_that_nobody_waits_for(threads, monkeypatch):
    threads(2)
    memory = torch.ones(3)
    alive = weakref.ref(memory)
    left, found = threading.Event(), []

    def loop(first, last):
        if first:
            left.wait(60)
            found.append(alive())

    def interrupted(future):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workers.Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_tiles(loop, 2, ENOUGH, (), memory)
    del memory
    gc.collect()  # the frames of the exception
    left.set()
    run_tiles(lambda first, last: None, 2, ENOUGH, ())  # after it, in the same thread
    assert found.pop() is not None
    assert alive() is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_number_of_threads_is_obeyed(count, threads):
    threads(count)
    together = threading.Barrier(count, timeout=60)
    seen = set()

    def loop(first, last):
        together.wait()  # all of them run at once
        seen.add(threading.get_ident())

    run_tiles(loop, 6, ENOUGH, ())
    assert len(seen) == count
    assert threading.get_ident() in seen


def test_failure_reaches_the_caller_after_all_have_ended(threads):
    threads(3)
    release, ended = threading.Event(), []

    def loop(first, last):
        if first == 0:
            threading.Timer(0.05, release.set).start()
            raise RuntimeError("first tile")
        assert release.wait(60)
        ended.append(first)

    with pytest.raises(RuntimeError, match="first tile"):
        run_tiles(loop, 3, ENOUGH, ())
    assert sorted(ended) == [1, 2]


@pytest.mark.parametrize(
    "recurrence",
    soon([r for r in TABLE if r.name in ("cuba", "rf", "sigma_delta")], TABLE),
    ids=repr,
)
def test_number_of_threads_does_not_change_a_bit(recurrence, threads):
    answers = []
    for count in (1, 2, 5):
        threads(count)
        answers.append(large_problem(recurrence).fast())
    for outputs, after, gradients in answers[1:]:
        assert_same_bits(outputs, answers[0][0])
        assert_same_bits(after, answers[0][1])
        assert_same_bits(gradients, answers[0][2])


def test_callers_at_once_get_what_each_gets_alone(threads):
    threads(2)
    problems = [large_problem(row, seed=k) for k, row in enumerate(TABLE)]
    alone = [problem.fast() for problem in problems]
    start = threading.Barrier(4, timeout=60)

    def run(first):
        start.wait()
        return [problem.fast() for problem in problems[first::4]]

    with ThreadPoolExecutor(4) as callers:
        together = list(callers.map(run, range(4)))
    for first in range(4):
        for (outputs, _, _), want in zip(together[first], alone[first::4], strict=True):
            assert_same_bits(outputs, want[0])


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
quiet = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forks
@quiet
def test_parent_and_child_compute_after_a_fork(threads):
    threads(2)
    x = rows(0)
    want = spikes(x).numpy().copy()  # the pool has threads, which the child will not have
    child = os.fork()
    if child == 0:
        status = 1
        signal.alarm(120)
        try:
            graded = spikes(x, graded=True).numpy() != 0  # a loop that may not be compiled yet
            same = [np.array_equal(spikes(x).numpy(), want) for _ in range(5)]
            status = 0 if all(same) and np.array_equal(graded, want != 0) else 2
        finally:
            os._exit(status)
    for _ in range(5):
        assert np.array_equal(spikes(x).numpy(), want)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Filtered(torch.utils.data.Dataset):
    """Samples that neurons compute: 2 x 2048 x 80 steps, in a buffer of the pool."""

    def __init__(self):
        self.inputs = [rows(k) for k in range(6)]

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, k):
        return spikes(self.inputs[k])


@forks
@quiet
@pytest.mark.parametrize("worker_threads", [1, 2])
def test_neurons_run_in_dataloader_workers(worker_threads, threads):
    threads(2)
    data = Filtered()
    want = [data[k] for k in range(len(data))]
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=2, timeout=120, multiprocessing_context="fork",
        worker_init_fn=lambda _: torch.set_num_threads(worker_threads),
    )  # fmt: skip
    for _ in range(2):
        assert_same_bits(list(loader), want)


class Recurrences(torch.utils.data.Dataset):
    """What each recurrence gives, computed where the sample is asked for."""

    def __len__(self):
        return len(TABLE)

    def __getitem__(self, k):
        outputs, _, _ = fixed_problem(TABLE[k]).fast()
        return list(outputs)


@forks
@quiet
def test_every_recurrence_runs_in_dataloader_workers():
    data = Recurrences()
    want = [data[k] for k in range(len(data))]
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=2, timeout=120, multiprocessing_context="fork"
    )
    for got, expected in zip(loader, want, strict=True):
        assert_same_bits(got, expected)
