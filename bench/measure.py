"""How a workload is measured: time beside that of a copy, and counters that do not depend on time.

On the CPU the clock of the ratios is processor time, which other programs on the machine disturb
little: the executor's on all of its threads, and the copy's and the reference's on one. What
disturbs a measurement adds time, so ratios take the fastest round; the report shows medians.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lapilli.kernels import dispatch, memory
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .cases import Workload, warm

FEW = 1 << 16  # neuron-steps: below, a round is several calls
CALLS = 200  # of such a round


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock of the ratios: processor seconds, or on a GPU seconds until it is done."""
    if device.type == "cpu":
        return time.process_time

    def finished() -> float:
        torch.accelerator.synchronize()
        return time.perf_counter()

    return finished


class OneThread:
    """Context in which torch runs on one thread, so that none spins for another."""

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.threads)


@dataclass
class Meter:
    """Rounds of a workload, each after a copy of as many float32 as it has neuron-steps."""

    workload: Workload
    device: torch.device
    seconds: list[float] = field(default_factory=list)  # of a call, by the clock of the ratios
    wall: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = clock_of(self.device)
        self.calls = CALLS if self.workload.neuron_steps < FEW else 1
        size = max(self.workload.neuron_steps, FEW)
        self.copied = 8 * size  # bytes read and written
        self.source, self.target = (warm((1, 1, size), self.device) for _ in range(2))
        for _ in range(2):  # compiles and touches all memory
            self.workload.run()

    def before(self) -> None:
        """Time the copy."""
        with OneThread():
            start = self.clock()
            self.target.copy_(self.source)
            self.copy.append(self.clock() - start)

    def __call__(self) -> None:
        """Run a round."""
        wall, start = time.perf_counter(), self.clock()
        for _ in range(self.calls):
            self.workload.run()
        self.seconds.append((self.clock() - start) / self.calls)
        self.wall.append((time.perf_counter() - wall) / self.calls)

    def rounds(self, count: int) -> "Meter":
        """Run some more rounds."""
        for _ in range(count):
            self.before()
            self()
        return self

    @property
    def rate(self) -> float:
        """Neuron-steps a second of the fastest round, by the clock of the ratios."""
        return self.workload.neuron_steps / min(self.seconds)

    @property
    def share(self) -> float | None:
        """Bytes that must be moved a second, over those of the copy; for a step not the limit."""
        if self.workload.bytes is None or self.calls > 1:
            return None
        return self.workload.bytes * self.rate / (self.copied / min(self.copy))

    def summary(self) -> dict[str, float]:
        """Return medians and what follows from them."""
        steps, wall = self.workload.neuron_steps, statistics.median(self.wall)
        quartiles = statistics.quantiles(self.wall, n=4) if len(self.wall) > 1 else [wall] * 3
        found = {
            "wall_s": wall,
            "wall_iqr_s": quartiles[2] - quartiles[0],
            "clock_s": statistics.median(self.seconds),
            "neuron_steps_per_s": steps / wall,
            "neuron_steps_per_clock_s": steps / statistics.median(self.seconds),
            "copy_GB_per_s": self.copied / statistics.median(self.copy) / 1e9,
        }
        if self.workload.bytes is not None:
            found["bytes_per_neuron_step"] = self.workload.bytes
            found["GB_per_clock_s"] = self.workload.bytes * found["neuron_steps_per_clock_s"] / 1e9
        return found


def reference_rate(workload: Workload, device: torch.device, rounds: int = 3) -> float:
    """Neuron-steps a second of the loop in torch on one thread, fastest round."""
    clock = clock_of(device)
    calls = 1 if workload.neuron_steps >= FEW else 10
    seconds = []
    with OneThread():
        workload.run()
        for _ in range(rounds):
            start = clock()
            for _ in range(calls):
                workload.run()
            seconds.append((clock() - start) / calls)
    return workload.neuron_steps / min(seconds)


class _Operations(TorchDispatchMode):
    """Count the operators that write, and the bytes of what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.bytes = 0

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        outputs = op(*args, **(kwargs or {}))
        given = {_storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        made = [t for t in tree_leaves(outputs) if isinstance(t, torch.Tensor)]
        fresh = {_storage(t): t.untyped_storage().nbytes() for t in made}
        fresh = {s: n for s, n in fresh.items() if s not in given}
        self.operators += bool(fresh) or op._schema.is_mutable
        self.bytes += sum(fresh.values())
        return outputs


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def counters(workload: Workload) -> dict[str, int]:
    """Return what a call does, whatever its speed.

    ``operators`` that write and ``allocated_bytes`` of what they return, ``loops`` over neurons on
    the CPU, large ``buffers`` taken from the pool, ``saved_bytes`` kept for backward.
    """
    loops, buffers, kept = [], [], {}
    run_tiles, take = dispatch.run_tiles, memory._Pool.take

    def counted_tiles(*args: Any) -> None:
        loops.append(args)
        run_tiles(*args)

    def counted_take(pool: memory._Pool, size: int) -> Any:
        buffers.append(size)
        return take(pool, size)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[_storage(tensor)] = tensor.numel() * tensor.element_size()
        return tensor

    dispatch.run_tiles, memory._Pool.take = counted_tiles, counted_take
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            workload.run()
        loops_of_a_call, buffers_of_a_call = len(loops), len(buffers)
        with _Operations() as operations:
            workload.run()
    finally:
        dispatch.run_tiles, memory._Pool.take = run_tiles, take
    return {
        "operators": operations.operators,
        "allocated_bytes": operations.bytes,
        "loops": loops_of_a_call,
        "buffers": buffers_of_a_call,
        "saved_bytes": sum(kept.values()),
    }


def peak_bytes(workload: Workload, device: torch.device) -> int | None:
    """Return the most memory that a call held at once; None where the system does not say."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        workload.run()
        torch.accelerator.synchronize()
        return torch.cuda.max_memory_allocated() - before
    memory._new_pool()
    workload_memory = Path("/proc/self/clear_refs")
    try:
        workload_memory.write_text("5")  # forget the peak so far
        before = _status("VmRSS")
    except OSError:
        return None
    workload.run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
