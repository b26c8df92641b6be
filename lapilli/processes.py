"""Processes that train one network together, as torchrun starts them.

torchrun says in the environment how many processes there are and which of them this one is; what
they tell each other goes through ``torch.distributed``: gloo between CPUs, NCCL between GPUs.
Without torchrun there is one process, and everything here does nothing.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from .errors import UsageError, wrong_input
from .extras import MissingExtraError

__all__ = ["Found", "Interrupts", "Processes", "is_first", "joined", "together"]

# torch takes seconds to import: it is imported where there is more than one process

Found = TypeVar("Found")

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """Which process this is.

    Attributes
    ----------
    rank
        Number of this process, from 0. The first one prints and writes.
    size
        Number of processes.
    local_rank, local_size
        The same on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def agreed(self, work: Callable[[], Found]) -> Found:
        """Do ``work``, which says nothing to other processes; they all do.

        Raises
        ------
        UsageError
            In all processes where it is wrong input in one of them.
        """
        if self.size == 1:
            return work()
        import torch

        found: list[Found] = []
        error = None
        try:
            with wrong_input():
                found.append(work())
        except (UsageError, MissingExtraError) as wrong:
            error = wrong
        said: list[str | None] = [None] * self.size
        torch.distributed.all_gather_object(said, None if error is None else str(error))
        for message in said:
            if message is not None:
                raise UsageError(message) from error
        return found[0]

    def from_first(self, work: Callable[[], Any]) -> Any:
        """Do ``work`` in the first process; the others wait and return what it returned."""
        if self.size == 1:
            return work()
        import torch

        found = [work() if self.first else None]
        torch.distributed.broadcast_object_list(found, 0)
        return found[0]

    def one_ahead(self, work: Callable[[bool], Found]) -> Found:
        """Do ``work(True)`` in one process of each machine, then ``work(False)`` in the others."""
        ahead = self.local_rank == 0
        found = self.agreed(lambda: [work(True)] if ahead else [])
        found += self.agreed(lambda: [] if ahead else [work(False)])
        return found[0]

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.agreed(lambda: None)


def _several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_first() -> bool:
    """Whether this process prints and writes, by the environment."""
    return not _several() or os.environ.get("RANK", "0") == "0"


def _started() -> Processes:
    """Which process this is, by the environment.

    Raises
    ------
    UsageError
        If the environment tells of several processes and not all that torchrun does.
    """
    if not _several():
        return Processes()
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and {', '.join(missing)} not set; start "
            f"several processes with torchrun, or unset WORLD_SIZE for one"
        )
    return Processes(*(int(os.environ[name]) for name in _VARIABLES[:4]))


def joined() -> tuple[int, int]:
    """Return rank and number of the processes of torch's group; (0, 1) where there is none."""
    import torch

    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


@contextlib.contextmanager
def together() -> Iterator[Processes]:
    """Join the other processes, and leave them at the end, also after an error.

    Raises
    ------
    UsageError
        If this torch cannot, or the environment is not torchrun's.
    """
    group = _started()
    if group.size == 1:
        yield group
        return
    import torch

    if not torch.distributed.is_available():
        raise UsageError("this build of torch has no torch.distributed; start one process")
    # without a name: gloo for what lies on a CPU, and for each kind of GPU its own, on first use
    torch.distributed.init_process_group()
    try:
        yield group
    finally:
        torch.distributed.destroy_process_group()


class Interrupts:
    """Ctrl-C, to which all processes answer at the same step.

    An interrupted process that just stopped would leave the others waiting for its gradients. So
    it is only noted, and the processes tell each other at every step. A single process stops at
    once; it looks at every step as well, because Python drops an exception that comes while an
    object is destroyed.
    """

    def __init__(self, group: Processes):
        self._group = group
        self._asked = False
        self._told: Any = None  # number of processes that were asked to stop, and its sum under way
        self._before: Any = None
        self._listens = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._group.size == 1:
            signal.default_int_handler(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt in all processes where one was interrupted a step ago."""
        if self._group.size == 1:
            if self._asked:
                raise KeyboardInterrupt
            return
        import torch

        if self._told is not None:
            asked, under_way = self._told
            under_way.wait()
            if asked.item():
                raise KeyboardInterrupt
        asked = torch.tensor([int(self._asked)])
        # read at the next step, so that nobody waits for it
        self._told = asked, torch.distributed.all_reduce(asked, async_op=True)

    def __enter__(self) -> "Interrupts":
        # Python tells no other thread; a process in the background may have been told to ignore it
        self._listens = threading.current_thread() is threading.main_thread() and (
            self._group.size > 1 or signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._listens:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:  # what was asked for at the last step
                self.check()
                self.check()
        except KeyboardInterrupt:
            kind = KeyboardInterrupt
            raise
        finally:
            # torchrun passes a second signal on, which must not end the writing of files
            stopped = kind is KeyboardInterrupt and self._group.size > 1
            if self._listens:
                signal.signal(signal.SIGINT, signal.SIG_IGN if stopped else self._before)
