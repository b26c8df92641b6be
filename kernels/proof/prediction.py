"""What a kernel's counters promise on a device: the slowest of memory, issue and latency.

This is a prediction from machine code, published figures and a few assumptions, all of which stand
here; two of them were set by what an H100 measured. It ranks kernels and finds regressions; it is
not a measurement.

    memory    bytes of the launch's tensors, each moved once, at REACHED of the published bandwidth
    issue     slots that the warps of the busiest unit take of its schedulers or matrix units
    latency   the steps of one warp alone, which waits for memory, times the rounds in which the
              programs of the grid follow each other where not all of them fit at once

Caches, contention and launches are left out.
"""

import math
from dataclasses import dataclass
from typing import Literal

# Of the published bandwidth: on an H100 kernels reach 2.4 to 2.7 TB/s, a plain copy 2.7
# (docs/gpu.md). Elsewhere an assumption.
REACHED = 0.8

Bound = Literal["memory", "issue", "latency"]


@dataclass(frozen=True)
class Device:
    """A GPU: published figures, and the latency that is assumed."""

    name: str
    target: str  # architecture, as in aot.TARGETS
    units: int  # streaming multiprocessors or compute units
    clock: float  # Hz, boost
    bandwidth: float  # bytes/s, published
    shared: int  # bytes of shared memory of a unit
    reserved: int  # bytes of it that each program takes beside its own
    warp: int  # threads of a warp
    registers: int  # of a scheduler, in warps' worth of one register
    warps: int  # that a scheduler holds
    programs: int  # that a unit holds
    slot: int  # cycles for which an instruction of a warp takes its scheduler
    latency: float  # cycles until a load from memory returns under load
    schedulers: int = 4  # of a unit

    @property
    def slots(self) -> float:
        """Issue slots of threads that there are in a second."""
        return self.units * self.schedulers * self.warp * self.clock / self.slot


# Sources. A100: NVIDIA A100 Tensor Core GPU architecture (whitepaper, 2020) and the 80 GB SXM data
# sheet (2039 GB/s). H100: NVIDIA H100 Tensor Core GPU architecture (whitepaper) and the SXM data
# sheet (3.35 TB/s; 1.98 GHz is what 67 TFLOPS of float32 on 132 units come to). H200: data sheet
# (4.8 TB/s). Sizes of a unit: CUDA C++ programming guide, technical specifications per compute
# capability. MI300X: AMD Instinct MI300X data sheet (304 units, 2.1 GHz, 5.3 TB/s) and CDNA 3
# white paper and instruction set (512 vector registers and 8 waves a SIMD, 64 KiB of local data
# share, a wave of 64 on 16 lanes).
# Latency: on an H100 the steps of sigma and CUBA at 8,192 and 16,384 neurons leave 1200 to 1500
# cycles for a load. The others are taken to wait as long, 0.66 us, at their clocks: an assumption.
DEVICES = {
    d.name: d
    for d in (
        Device("A100", "sm_80", 108, 1.41e9, 2.039e12, 164 << 10, 1024, 32, 512, 16, 32, 1, 930),
        Device("H100", "sm_90", 132, 1.98e9, 3.35e12, 228 << 10, 1024, 32, 512, 16, 32, 1, 1300),
        Device("H200", "sm_90", 132, 1.98e9, 4.8e12, 228 << 10, 1024, 32, 512, 16, 32, 1, 1300),
        Device("MI300X", "gfx942", 304, 2.1e9, 5.3e12, 64 << 10, 0, 64, 512, 8, 32, 4, 1400),
    )
}


@dataclass(frozen=True)
class Counters:
    """What a prediction needs to know of a kernel; a step is a step of time, of a program."""

    registers: int  # a thread
    shared: int  # bytes of a program
    threads: int  # of a program
    lanes: int  # neurons of a program
    bytes: float  # moved a neuron-step
    slots: float  # of its scheduler, that a warp takes a step
    warp_cycles: float  # a step, of a warp alone

    def programs_on(self, device: Device) -> int:
        """Return how many programs a unit holds at once; 0 if it cannot hold one."""
        return resident(device, self.registers, self.threads, self.shared)


@dataclass(frozen=True)
class Prediction:
    """Seconds of one launch by each bound; the largest is what is predicted."""

    memory: float
    issue: float
    latency: float
    neuron_steps: int

    @property
    def seconds(self) -> float:
        """Predicted time."""
        return max(self.memory, self.issue, self.latency)

    @property
    def bound(self) -> Bound:
        """What sets the time."""
        return max(("memory", "issue", "latency"), key=lambda name: getattr(self, name))

    @property
    def rate(self) -> float:
        """Neuron-steps a second."""
        return self.neuron_steps / self.seconds


def resident(device: Device, registers: int, threads: int, shared: int) -> int:
    """Return how many programs a unit holds at once; 0 if it cannot hold one.

    Parameters
    ----------
    device
        Device.
    registers
        A thread's; they are given in eights.
    threads
        Of a program, a multiple of the warp.
    shared
        Bytes of a program.
    """
    warps = threads // device.warp
    held = min(device.warps, device.registers // max(8, -(-registers // 8) * 8))
    programs = min(device.programs, held * device.schedulers // warps)
    return min(programs, device.shared // (shared + device.reserved)) if shared else programs


def predict(counters: Counters, device: Device, neurons: int, steps: int) -> Prediction:
    """Predict a launch.

    Parameters
    ----------
    counters
        Of the kernel, compiled for the architecture of the device.
    device
        Device.
    neurons
        Of all samples.
    steps
        Of time.

    Raises
    ------
    ValueError
        If a program does not fit the device.
    """
    at_once = counters.programs_on(device)
    if at_once == 0:
        raise ValueError(
            f"a program of {counters.threads} threads with {counters.registers} registers each and "
            f"{counters.shared} bytes of shared memory does not fit a unit of {device.name}"
        )
    programs = math.ceil(neurons / counters.lanes)
    busiest = math.ceil(programs / device.units)  # programs of the unit with most
    warps = math.ceil(busiest * counters.threads / device.warp / device.schedulers)
    rounds = math.ceil(busiest / at_once)
    return Prediction(
        memory=counters.bytes * neurons * steps / (REACHED * device.bandwidth),
        issue=warps * counters.slots * device.slot * steps / device.clock,
        latency=rounds * counters.warp_cycles * steps / device.clock,
        neuron_steps=neurons * steps,
    )
