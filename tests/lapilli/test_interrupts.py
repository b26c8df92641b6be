"""Ctrl-C while a single process trains, also where Python drops the exception."""

import os
import signal
import threading

import pytest

from lapilli.processes import Interrupts, Processes

ALONE = Processes(rank=0, size=1, local_rank=0, local_size=1)


@pytest.fixture(autouse=True)
def heard():
    """Hear of ctrl-C, which processes in the background may ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted:
    """Is interrupted while it is destroyed, where an exception goes no further."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)


def trained(*steps):
    """Run steps one after the other, as training does, and look for ctrl-C before each."""
    with Interrupts(ALONE) as interrupts:
        for step in steps:
            interrupts.check()
            step()


def drop():
    gone = Interrupted()
    del gone


def go_on():
    pytest.fail("went on")


def test_it_stops_at_once():
    def stopped():
        os.kill(os.getpid(), signal.SIGINT)
        go_on()

    with pytest.raises(KeyboardInterrupt):
        trained(stopped)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_python_drops_is_found_at_the_next_step():
    with pytest.raises(KeyboardInterrupt):
        trained(drop, go_on)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_python_drops_after_the_last_step_is_found():
    with pytest.raises(KeyboardInterrupt):
        trained(drop)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with Interrupts(ALONE) as interrupts:
            interrupts.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_what_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trained(lambda: os.kill(os.getpid(), signal.SIGINT), lambda: None)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
