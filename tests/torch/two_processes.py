"""Two processes of one thread each, joined by gloo, that run functions of the tests."""

import functools
import traceback
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

SIZE = 2
_PATIENCE = 240  # seconds for one function; the first call compiles


def _serve(rank: int, meeting: str, pipe: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=SIZE)
    while (work := pipe.recv()) is not None:
        torch.manual_seed(0)
        try:
            pipe.send((work(), None))
        except BaseException:
            pipe.send((None, traceback.format_exc()))
    distributed.destroy_process_group()


class TwoProcesses:
    """Start them when they are first needed, and anew when a function has failed."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._started = 0
        self._running: list[tuple[Any, Any]] = []

    def _start(self) -> None:
        self._started += 1
        context = multiprocessing.get_context("spawn")
        meeting = f"file://{self._folder}/meeting{self._started}"
        for rank in range(SIZE):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, meeting, theirs), daemon=True)
            process.start()
            theirs.close()
            self._running.append((process, ours))

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call a function of a module in both; returns what each returned, by rank."""
        if not self._running:
            self._start()
        for _, pipe in self._running:
            pipe.send(functools.partial(function, *args))
        waiting = {pipe: rank for rank, (_, pipe) in enumerate(self._running)}
        found, errors = [None] * SIZE, []
        while waiting:
            # where one has failed the other may wait for it in vain
            ready: Any = connection.wait(waiting, 3 if errors else _PATIENCE)
            errors += [] if ready else [f"ranks {[*waiting.values()]} do not answer"]
            for pipe in ready or [*waiting]:
                rank = waiting.pop(pipe)
                if ready:
                    found[rank], error = pipe.recv()
                    errors += [] if error is None else [f"rank {rank}: {error}"]
        if errors:
            self.stop(kill=True)
            raise AssertionError("\n".join(errors))
        return found

    def stop(self, kill: bool = False) -> None:
        for process, pipe in self._running:
            if kill:
                process.kill()
            else:
                pipe.send(None)
        for process, _ in self._running:
            process.join(30)
        self._running = []
