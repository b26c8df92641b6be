"""Large CPU buffers, reused.

A fresh tensor above malloc's mapping threshold costs a page fault every 4 KiB, which can take many
times longer than the kernel that fills it. Outputs of that size come from a pool instead: mapped
once, with huge pages where the system grants them, and taken back when the last tensor that uses
them is gone. Small tensors and other devices are torch's own business.
"""

import ctypes
import math
import mmap
import os
import sys
import threading
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

_POOLED_FROM = 1 << 20  # bytes
_HUGE_PAGE = 1 << 21
_KINDS = {
    torch.float32: np.dtype(np.float32).str,
    torch.int32: np.dtype(np.int32).str,
    torch.int8: np.dtype(np.int8).str,
    torch.uint8: np.dtype(np.uint8).str,
}


def _limit() -> int:
    """Bytes of unused buffers kept; LAPILLI_POOL_BYTES overrides 1 GiB, 0 turns the pool off."""
    return int(os.environ.get("LAPILLI_POOL_BYTES", 1 << 30))


class _Mapping(mmap.mmap):
    """A mapping that knows its address, which takes longer to ask for than a small loop."""

    address: int


class _Pool:
    """Unused mappings; the last used is taken first, the oldest dropped first."""

    def __init__(self) -> None:
        self.limit = _limit()
        self.lock = threading.Lock()
        self.free: OrderedDict[int, _Mapping] = OrderedDict()  # by id, oldest first
        self.bytes = 0

    def take(self, size: int) -> "_Mapping":
        with self.lock:
            for key, mapping in reversed(self.free.items()):  # the last used is still in the cache
                if len(mapping) == size:
                    del self.free[key]
                    self.bytes -= size
                    return mapping
        if not hasattr(mmap, "MAP_PRIVATE"):
            mapping = _Mapping(-1, size)
        else:
            # private: shared by default, and a forked child would write into its parent's tensors
            mapping = _Mapping(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                mapping.madvise(mmap.MADV_HUGEPAGE)
        mapping.address = np.frombuffer(mapping, np.uint8).ctypes.data
        return mapping

    def give(self, mapping: "_Mapping") -> None:
        # called while an object is destroyed, at any moment: never wait for the lock
        if not self.lock.acquire(blocking=False):
            return
        try:
            self.free[id(mapping)] = mapping
            self.bytes += len(mapping)
            while self.bytes > self.limit:
                _, oldest = self.free.popitem(last=False)
                self.bytes -= len(oldest)
        finally:
            self.lock.release()


_pool = _Pool()


def new_pool() -> None:
    """Start again with nothing kept, as a forked child has to: the lock may have been held."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=new_pool)


class _Lease:
    """Keeps a mapping for as long as an array, and so a tensor, uses it."""

    mapping: _Mapping | None = None  # where ctrl-C came before there was one

    def __init__(self, size: int, shape: tuple[int, ...], kind: str):
        self.mapping = _pool.take(size)
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": kind,
            "data": (self.mapping.address, False),
        }

    def __del__(self) -> None:
        # no pool while the interpreter shuts down
        if _pool is not None and self.mapping is not None:
            _pool.give(self.mapping)


def keep_memory() -> bool:
    """Let the C library keep freed memory for the next tensor, in all of this process.

    Torch's own operators take the memory of their results from the C library, which gives large
    blocks back to the system when they are freed, so that each call pays for fresh pages. A
    convolution can take more than twice as long for that. The process then holds on to the most
    that it ever used.

    Returns
    -------
    bool
        Whether the C library can: on Linux glibc can, others are left as they are.

    Examples
    --------
    >>> import lapilli
    >>> is_kept = lapilli.keep_memory()  # once, before training
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    options = ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20))
    done = [library.mallopt(option, value) == 1 for option, value in options]
    return all(done)


def empty(shape: tuple[int, ...], dtype: torch.dtype, like: Tensor) -> Tensor:
    """Return an uninitialised contiguous tensor on the device of ``like``.

    Large CPU tensors come from the pool; while a graph is traced (``like`` is fake) none does.
    """
    if type(like) is not Tensor or not like.is_cpu or dtype not in _KINDS:
        return torch.empty(shape, dtype=dtype, device=like.device)
    size = math.prod(shape) * dtype.itemsize
    if size < _POOLED_FROM or _pool.limit == 0:
        return torch.empty(shape, dtype=dtype)
    lease = _Lease(-(-size // _HUGE_PAGE) * _HUGE_PAGE, tuple(shape), _KINDS[dtype])
    return torch.from_numpy(np.asarray(lease))
