"""How a workload is measured: time beside that of a copy, and counters that do not depend on time.

On the CPU the clock of the ratios is processor time, which other programs on the machine disturb
little: the executor's on all of its threads, and the copy's and the reference's on one. On a GPU it
is the time between two events around a call that a graph replays, with the second-level cache
flushed before: what the device works, without the launches. What disturbs a measurement adds time,
so ratios take the fastest round; the report shows medians.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lapilli.kernels.executors import memory

from lapilli.benchmark.counters import OneThread, clock_of

from .cases import Workload, warm

FEW = 1 << 16  # neuron-steps: below, a round is several calls
CALLS = 200  # of such a round


class ProcessorSeconds:
    """Seconds of a call on the CPU: of all threads, and by the clock on the wall."""

    def __init__(self, call: Callable[[], Any]):
        self.call = call

    def __call__(self, calls: int) -> tuple[float, float]:
        """Return both for one of so many calls."""
        wall, start = time.perf_counter(), time.process_time()
        for _ in range(calls):
            self.call()
        return (time.process_time() - start) / calls, (time.perf_counter() - wall) / calls


class DeviceSeconds:
    """Seconds of a call on a GPU: that it works, replayed by a graph, and until it is done.

    Where no graph can hold the call (``is_graph``), the first are those of its launches as well.
    """

    def __init__(self, call: Callable[[], Any]):
        self.call = self.replay = call
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.kept = call()  # its memory belongs to the graph
            self.replay = graph.replay
        except RuntimeError:  # it waits for the device
            torch.cuda.synchronize()
        self.is_graph = self.replay != call
        cache = torch.cuda.get_device_properties().L2_cache_size
        self.flush = torch.empty(4 * cache, dtype=torch.int8, device="cuda")

    def __call__(self, calls: int) -> tuple[float, float]:
        """Return both for one of so many calls; only the first finds the cache flushed."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        start.record()
        for _ in range(calls):
            self.replay()
        end.record()
        end.synchronize()
        clock = clock_of(torch.device("cuda"))
        wall = clock()
        for _ in range(calls):
            self.call()
        return start.elapsed_time(end) / 1e3 / calls, (clock() - wall) / calls


def stopwatch(call: Callable[[], Any], device: torch.device) -> ProcessorSeconds | DeviceSeconds:
    """Return what measures the call on its device."""
    return ProcessorSeconds(call) if device.type == "cpu" else DeviceSeconds(call)


@dataclass
class Meter:
    """Rounds of a workload, each after a copy of as many float32 as it has neuron-steps."""

    workload: Workload
    device: torch.device
    seconds: list[float] = field(default_factory=list)  # of a call, by the clock of the ratios
    wall: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calls = CALLS if self.workload.neuron_steps < FEW else 1
        size = max(self.workload.neuron_steps, FEW)
        self.copied = 8 * size  # bytes read and written
        source, target = (warm((1, 1, size), self.device) for _ in range(2))
        for _ in range(2):  # compiles and touches all memory
            self.workload.run()
        self.measure = stopwatch(self.workload.run, self.device)
        self.measure_copy = stopwatch(lambda: target.copy_(source), self.device)

    def before(self) -> None:
        """Time the copy."""
        with OneThread():
            self.copy.append(self.measure_copy(1)[0])

    def __call__(self) -> None:
        """Run a round."""
        seconds, wall = self.measure(self.calls)
        self.seconds.append(seconds)
        self.wall.append(wall)

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


def peak_bytes(workload: Workload, device: torch.device) -> int | None:
    """Return the most memory that a call held at once; None where the system does not say."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        workload.run()
        torch.accelerator.synchronize()
        return torch.cuda.max_memory_allocated() - before
    return peak_of(workload.run)


def peak_of(call: Callable[[], object]) -> int | None:
    """Return the most memory that a call on the CPU held at once; None where nobody says."""
    memory.new_pool()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = status("VmRSS")
    except OSError:
        return None
    call()
    return status("VmHWM") - before


def status(name: str) -> int:
    """Return a number of bytes that Linux knows of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
