"""``lapilli profile``: where the time of a neuron's step goes."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lapilli.export.file.files import replacing
from lapilli.kernels.executors.dispatch import LOOP
from lapilli.kernels.executors.layout import from_rows
from torch.profiler import DeviceType

from lapilli.benchmark import neurons

Mode = Literal["forward", "training"]
MODES: tuple[Mode, ...] = ("forward", "training")
STEPS = 20
OUTSIDE = "outside of operators: Python, and the profiler itself"
_STEP = "lapilli step"
_ENGINE = "autograd::engine::evaluate_function"
_FEWEST = 0.002  # share below which an operator is summed up with others


@dataclass(frozen=True)
class Row:
    """A place where time goes."""

    name: str
    seconds: float  # a step, without what it calls
    share: float  # of the step
    calls: float  # a step
    kernel: bool  # a loop over neurons, or a kernel of the GPU


@dataclass(frozen=True)
class Profile:
    """Where the time of a step goes; ``host`` adds up to all of it, ``device`` runs beside it."""

    seconds: float  # a step, median, not profiled
    host: list[Row]
    device: list[Row]  # empty on the CPU

    @property
    def kernel_share(self) -> float:
        """Share of the profiled time, on a GPU that of the device, in loops or kernels."""
        rows = self.device or self.host
        return sum(row.seconds for row in rows if row.kernel) / sum(row.seconds for row in rows)


def profile(
    name: str, shape: tuple[int, ...], mode: Mode, device: torch.device, trace: Path
) -> Profile:
    """Profile a neuron with usual parameters and write a Chrome trace.

    Parameters
    ----------
    name
        Neuron, of ``lapilli.benchmark.neurons.ARGUMENTS``.
    shape
        ``(batch, neurons..., time)``; at least three whole numbers from 1.
    mode
        ``forward``: spikes alone. ``training``: spikes, and the gradient of the input.
    device
        Where to run.
    trace
        JSON file to write, for chrome://tracing or ui.perfetto.dev.

    Raises
    ------
    OSError
        If the trace cannot be written.
    """
    step = _work(name, shape, mode, device)
    for _ in range(3):  # compiles, and touches all memory
        step()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    elif device.type == "xpu":
        activities.append(torch.profiler.ProfilerActivity.XPU)
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(STEPS):
            with torch.profiler.record_function(_STEP):
                step()
    with replacing(trace) as temporary:
        profiler.export_chrome_trace(str(temporary))
    return _summary(profiler.key_averages(), statistics.median(seconds))


def _work(name: str, shape: tuple[int, ...], mode: Mode, device: torch.device) -> Any:
    """Return a function that runs a step and waits for it."""
    torch.manual_seed(0)
    batch, *sizes, T = shape
    channels = torch.Size(sizes)

    def series() -> torch.Tensor:  # as a layer hands it on
        return from_rows(0.3 * torch.randn(batch, T, channels.numel(), device=device), channels)

    training = mode == "training"
    xs = [series().requires_grad_(training) for _ in range(neurons.parts(name))]
    upstream = series()
    neuron = neurons.make(name).to(device)

    def step() -> None:
        with torch.set_grad_enabled(training):
            spikes = neuron(neurons.as_input(xs))
            if training:
                torch.autograd.grad(spikes, xs, upstream)
        if device.type != "cpu":
            torch.accelerator.synchronize()

    return step


def _summary(events: Any, seconds: float) -> Profile:
    """Sort what the profiler saw by its own time."""
    host = [e for e in events if e.device_type == DeviceType.CPU]
    device = [e for e in events if e.device_type != DeviceType.CPU]
    return Profile(
        seconds,
        _rows([(e.key, e.self_cpu_time_total, e.count) for e in host], LOOP),
        # a GPU also reports how long each labelled part took, the step among them
        _rows([(e.key, e.self_device_time_total, e.count) for e in device if e.key != _STEP], ""),
    )


def _rows(events: list[tuple[str, float, int]], kernel: str) -> list[Row]:
    """Return a row for each event (name, microseconds of all steps, count), small ones as one."""
    total = sum(time for _, time, _ in events)
    rows, rest = [], []
    for key, spent, count in sorted(events, key=lambda e: -e[1]):
        name = OUTSIDE if key == _STEP else key.replace(_ENGINE, "engine")
        row = Row(name, spent / STEPS / 1e6, spent / total, count / STEPS, key.startswith(kernel))
        (rows if row.share >= _FEWEST or row.kernel else rest).append(row)
    if rest:
        rows.append(
            Row(
                f"{len(rest)} others", sum(r.seconds for r in rest), sum(r.share for r in rest),
                sum(r.calls for r in rest), False,
            )
        )  # fmt: skip
    return rows


def table(found: Profile) -> list[str]:
    """Return the lines of a table for a terminal."""
    lines = []
    for title, rows in (("on the CPU", found.host), ("on the device", found.device)):
        if not rows:
            continue
        width = max(len(title), *(len(row.name) for row in rows))
        lines.append(f"{title:<{width}}  own time a step  share  calls a step")
        for row in rows:
            spent = f"{row.seconds * 1e3:12.3f} ms  {row.share:5.1%}  {row.calls:12.4g}"
            lines.append(f"{row.name:<{width}}  {spent}")
    return lines
