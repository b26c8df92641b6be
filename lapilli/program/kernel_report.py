"""The kernel report: every kernel compiled ahead of time, what it uses and what that promises.

No GPU is needed. Counters are read from machine code; speeds are predicted from them by
``lapilli.kernels.proof.prediction``, and are no measurement.
"""

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
import triton
from lapilli.kernels.proof import aot, catalogue, machine_code
from lapilli.kernels.proof.prediction import DEVICES, REACHED, Counters, Device, predict

NOTE = (
    "Predicted from machine code and published figures; nothing here was measured on a GPU. "
    f"Memory at {REACHED:.0%} of the published bandwidth, without caches, contention and launches."
)

BATCH = 128  # samples of the first prediction: the least neurons that this form is for
FILLED = 1 << 20  # neurons of all samples of the second, which fills every device

# fewer kernels are compiled in this process: another one takes seconds to start
_FEW = 8


def targets() -> list[str]:
    """Architectures that are compiled for unless others are asked for: with that of a GPU here."""
    known = [t for t in aot.TARGETS if aot.can_compile(t)]
    local = aot.local_target()
    return known if local is None or local in known else [*known, local]


def build(
    wanted: list[str],
    kernels: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Compile kernels and return the report, ready for JSON.

    Parameters
    ----------
    wanted
        Architectures, like those of ``lapilli.kernels.proof.aot.TARGETS``.
    kernels
        Of ``lapilli.kernels.proof.catalogue.names()``; None: all.
    progress
        Called with how many kernels are done, and of how many.

    Returns
    -------
    dict
        ``note``, ``triton`` (version), ``gpu`` (that is here, or None), ``targets``, ``devices``
        (published figures) and ``kernels``: a row for each use of a kernel and architecture.
        Instructions, bytes and accesses are those a neuron-step, of a thread in the main loop.
    """
    names = tuple(catalogue.names() if kernels is None else kernels)
    jobs = [(k, t) for t in wanted for k in range(len(_entries(names)))]
    rows = []
    for row in _rows(jobs, names):
        rows.append(row)
        progress(len(rows), len(jobs))
    return {
        "note": NOTE,
        "triton": triton.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "targets": wanted,
        "devices": {
            d.name: {
                "target": d.target,
                "units": d.units,
                "clock_hz": d.clock,
                "bandwidth_bytes_per_s": d.bandwidth,
                "slots_per_s": d.slots,
            }
            for d in DEVICES.values()
            if d.target in wanted
        },
        "kernels": rows,
    }


@functools.cache
def _entries(names: tuple[str, ...]) -> list[catalogue.Entry]:
    return list(catalogue.entries(*names))


def _rows(jobs: list[tuple[int, str]], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    row = functools.partial(_row, names)
    known = hasattr(os, "sched_getaffinity")  # not on every system
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    workers = min(cores, len(jobs) // _FEW)
    if workers < 2:
        yield from map(row, jobs)
        return
    # forked, they would share locks of torch's threads; launches cannot be sent, so each records
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(row, jobs)


def _row(names: tuple[str, ...], job: tuple[int, str]) -> dict[str, Any]:
    index, target = job
    return describe(_entries(names)[index], target)


def describe(entry: catalogue.Entry, target: str) -> dict[str, Any]:
    """Compile one use of a kernel for an architecture and return its row of the report."""
    launch = entry.launch
    compiled = aot.compile_launch(launch, target)
    code = machine_code.read(compiled)
    used = aot.resources(compiled, code)
    warps = launch.threads // aot.architecture(target).warp_size
    trace = code.passes(entry.products // warps, entry.is_step)
    # neuron-steps that a thread advances in one pass of the main loop
    steps = entry.chunk * entry.lanes / launch.threads
    loads, stores = ([getattr(i, kind) for i in trace] for kind in ("load", "store"))
    slots = machine_code.issue_slots(trace, target, code.amd)
    return {
        "kernel": entry.name,
        "mode": entry.mode,
        "function": launch.kernel.__name__,
        "target": target,
        "registers": used.registers,
        "spills": used.spills,
        "shared": used.shared,
        "loads": _widths(loads, steps),
        "stores": _widths(stores, steps),
        "instructions": round(len(trace) / steps, 3),
        "slots": round(slots / steps, 3),
        "bytes": round(entry.bytes, 3),
        "accessed": round((sum(loads) + sum(stores)) / steps, 3),
        "intensity": round(slots / steps / entry.bytes, 3),
        "predictions": [
            _predicted(entry, device, used, trace, slots, code.amd)
            for device in DEVICES.values()
            if device.target == target
        ],
    }


def _widths(accesses: list[int], steps: float) -> dict[str, float]:
    """Count the accesses a neuron-step by their bytes, as text for JSON."""
    return {str(n): round(accesses.count(n) / steps, 3) for n in sorted({*accesses} - {0})}


def _predicted(
    entry: catalogue.Entry,
    device: Device,
    used: aot.Resources,
    trace: list[machine_code.Instruction],
    slots: float,
    amd: bool,
) -> dict[str, Any]:
    counters = Counters(
        used.registers, used.shared, entry.launch.threads, entry.lanes, entry.bytes,
        slots / entry.chunk,
        machine_code.warp_cycles(trace, device.latency, amd) / entry.chunk,
    )  # fmt: skip
    found = {}
    for name, neurons in (("batch", BATCH * entry.neurons), ("filled", FILLED)):
        one = predict(counters, device, neurons, entry.steps)
        found[name] = {
            "neurons": neurons,
            "steps": entry.steps,
            "memory_s": one.memory,
            "issue_s": one.issue,
            "latency_s": one.latency,
            "bound": one.bound,
            "neuron_steps_per_s": one.rate,
        }
    return {
        "device": device.name,
        "programs_per_unit": counters.programs_on(device),
        "warp_cycles": round(counters.warp_cycles, 1),
        **found,
    }


HEADER = (
    "kernel", "regs", "spills", "shared", "loads", "stores", "instr", "bytes", "slots/B",
)  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row under ``HEADER``."""
    return [
        f"{row['kernel']}, {row['mode']}",
        *(str(row[key]) for key in ("registers", "spills", "shared")),
        *(_widths_text(row[key]) for key in ("loads", "stores")),
        *(f"{row[key]:.{digits}f}" for key, digits in (("instructions", 1), ("bytes", 1))),
        f"{row['intensity']:.2f}",
    ]


def _widths_text(widths: dict[str, float]) -> str:
    return ", ".join(f"{n:g}x{size}B" for size, n in widths.items())


def predicted_cells(row: dict[str, Any]) -> list[str]:
    """Return two cells for each device of the architecture: the batch, and the device filled."""
    return [
        f"{p[key]['neuron_steps_per_s'] / 1e9:.3g} {p[key]['bound']}"
        for p in row["predictions"]
        for key in ("batch", "filled")
    ]


def predicted_header(report: dict[str, Any], target: str) -> list[str]:
    """Return the titles of what ``predicted_cells`` gives."""
    names = [n for n, d in report["devices"].items() if d["target"] == target]
    return [f"{n} {what}" for n in names for what in (f"N={BATCH}", "filled")]


def here(report: dict[str, Any]) -> str:
    """Say which GPU is here, or that there is none."""
    if report["gpu"] is None:
        return "No GPU here: compiled ahead of time only."
    return f"GPU here: {report['gpu']}; its architecture is among those compiled for."


LEGEND = (
    "A neuron-step, of a thread in the loop over time: instr, loads and stores (number x bytes). "
    "bytes: of the tensors, each moved once. slots/B: arithmetic intensity, issue slots "
    "(instructions that take a scheduler) a byte. regs a thread, shared bytes a program.\n"
    "Devices: 1e9 neuron-steps/s predicted, and what sets the time (memory, issue or latency); "
    f"N={BATCH}: samples of the kernel's neurons (512, of recurrent layers in the name) and 300 "
    f"steps; filled: {FILLED} neurons. Of recurrent layers of 512 a launch is one step."
)


def text(report: dict[str, Any]) -> str:
    """Show a report to a person: a table for each architecture."""
    lines = [report["note"], f"Triton {report['triton']}. {here(report)}", LEGEND]
    for target in report["targets"]:
        table = [[*HEADER, *predicted_header(report, target)]]
        rows = [row for row in report["kernels"] if row["target"] == target]
        table += [[*cells(row), *predicted_cells(row)] for row in rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["", target]
        for first, *others in table:
            padded = (c.rjust(w) for c, w in zip(others, widths[1:], strict=True))
            lines.append(f"  {first.ljust(widths[0])}  {'  '.join(padded)}")
    return "\n".join(lines)
