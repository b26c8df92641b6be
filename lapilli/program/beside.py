"""Compile what evaluation needs in a second process, while the first one trains.

The first epoch of a run compiles its loops, one after another: first those of a step of training,
then those of the evaluation. A fork of the process evaluates right at the start, on another core;
both write what they compile into the same folder (kernels/executors/cache.py), and where they need
the same loop one of them waits for the other.
"""

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

import torch


def _can_fork() -> bool:
    """Whether there is a second core, and a system where a fork may compute."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Run ``work`` in a fork meanwhile, for what it leaves on the disk alone.

    What it prints and raises is dropped: this process will do the same itself. The fork ends with
    the context at the latest.
    """
    if not _can_fork():
        yield
        return
    with warnings.catch_warnings():
        # Python warns of forks beside threads; torch's do nothing, and the fork starts none
        warnings.simplefilter("ignore", DeprecationWarning)
        fork = os.fork()
    if not fork:
        _work_and_end(work)
    try:
        yield
    finally:
        os.kill(fork, signal.SIGKILL)  # without effect where it has ended
        os.waitpid(fork, 0)


def _work_and_end(work: Callable[[], object]) -> None:
    try:
        sys.stdout = sys.stderr = silence = open(os.devnull, "w")  # noqa: SIM115 (until the end)
        for output in (1, 2):
            os.dup2(silence.fileno(), output)
        torch.set_num_threads(1)  # those of the other process are not here
        work()
    finally:
        os._exit(0)
