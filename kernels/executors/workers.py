"""Run compiled CPU loops on one thread pool.

Numba's own ``parallel=True`` is not used: its OpenMP layer kills a forked DataLoader worker and its
workqueue layer aborts when two threads call at once. The loops here release the interpreter lock,
so a pool of ordinary threads serves every caller.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

_INLINE = 1 << 16  # neuron-steps that take less time than waking a thread

_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    """Drop the pool in a forked child, where its threads do not exist."""
    global _pool, _pool_size
    _pool, _pool_size = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _workers(threads: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < threads:
        # an older, smaller pool is left to finish what other threads gave it
        _pool = ThreadPoolExecutor(threads, thread_name_prefix="lapilli")
        _pool_size = threads
    return _pool


def run_tiles(
    loop: Callable[..., object], tiles: int, work: int, args: Sequence[Any], memory: object = None
) -> None:
    """Call ``loop(first, last, *args)`` over ``tiles`` tiles, on torch's number of threads.

    ``work`` is the number of neuron-steps; small work runs in the calling thread. ``memory`` owns
    what the loop works on: ctrl-C can end the wait for the other threads, whose loops then run on.
    """
    threads = min(torch.get_num_threads(), tiles) if work > _INLINE else 1
    if threads <= 1:
        loop(0, tiles, *args)
        return
    bounds = [tiles * k // threads for k in range(threads + 1)]
    pool = _workers(threads - 1)
    futures: list[Future[None]] = [
        pool.submit(_run, loop, bounds[k], bounds[k + 1], args, [memory]) for k in range(1, threads)
    ]
    try:
        loop(0, bounds[1], *args)
    finally:
        for future in futures:
            future.result()


def _run(
    loop: Callable[..., object], first: int, last: int, args: Sequence[Any], held: list[object]
) -> None:
    """Call a loop, and let go of what is held: the pool forgets its arguments later than that."""
    try:
        loop(first, last, *args)
    finally:
        held.clear()


_AS_IT_IS = contextlib.nullcontext()


def in_one_order(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Keep the order of a long sum of torch's on a CPU from the number of threads, where asked.

    Products with few outputs and gradients of convolutions share one sum among threads. Under
    ``torch.use_deterministic_algorithms(True)`` they run on one, which can take as many times as
    long as there are threads.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or not torch.are_deterministic_algorithms_enabled():
        return _AS_IT_IS
    return _on_one_thread(threads)


@contextlib.contextmanager
def _on_one_thread(threads: int) -> Iterator[None]:
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
