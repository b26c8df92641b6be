"""The arithmetic of predictions, on numbers worked out by hand."""

from dataclasses import replace

import pytest
from lapilli.kernels.proof.prediction import DEVICES, Counters, Device, predict, resident

# 2 units of 4 schedulers at 1 GHz; a scheduler holds 8 warps and 256 registers of each
SMALL = Device(
    "small", "sm_90", units=2, clock=1e9, bandwidth=1e10, shared=10_000, reserved=1000, warp=32,
    registers=256, warps=8, programs=6, slot=1, latency=700,
)  # fmt: skip
KERNEL = Counters(
    registers=56, shared=0, threads=128, lanes=128, bytes=9.0, slots=20.0, warp_cycles=100.0
)


@pytest.mark.parametrize(
    ("registers", "threads", "shared", "programs"),
    [
        (56, 128, 0, 4),  # 256 // 56 warps a scheduler, 16 in all, 4 a program
        (57, 128, 0, 4),
        (65, 128, 0, 3),
        (81, 128, 0, 2),  # given in eights: 88
        (16, 128, 0, 6),  # as many programs as a unit holds, not 8
        (16, 256, 0, 4),  # 8 warps a scheduler
        (16, 128, 3000, 2),  # 10 000 // (3000 + 1000)
        (16, 128, 9001, 0),
        (256, 256, 0, 0),  # one warp a scheduler, but a program has eight
    ],
)
def test_resident_programs(registers, threads, shared, programs):
    assert resident(SMALL, registers, threads, shared) == programs


def test_three_bounds():
    # 10 programs, 5 a unit, 4 at once: two rounds. 5 x 4 warps on 4 schedulers: 5 each
    found = predict(KERNEL, SMALL, neurons=1280, steps=50)
    assert found.neuron_steps == 64_000
    assert found.memory == pytest.approx(9 * 64_000 / (0.8 * 1e10))  # 72 us
    assert found.issue == pytest.approx(5 * 20 * 50 / 1e9)  # 5 us
    assert found.latency == pytest.approx(2 * 100 * 50 / 1e9)  # 10 us
    assert found.bound == "memory"
    assert found.rate == pytest.approx(64_000 / 72e-6)


@pytest.mark.parametrize(
    ("change", "bound", "seconds"),
    [
        ({"slots": 1000.0}, "issue", 5 * 1000 * 50 / 1e9),
        ({"warp_cycles": 5000.0}, "latency", 2 * 5000 * 50 / 1e9),
        ({"warp_cycles": 5000.0, "registers": 40}, "latency", 5000 * 50 / 1e9),  # one round
    ],
)
def test_slowest_bound_counts(change, bound, seconds):
    found = predict(replace(KERNEL, **change), SMALL, 1280, 50)
    assert (found.bound, found.seconds) == (bound, pytest.approx(seconds))


def test_part_of_a_program_takes_as_long_as_all_of_it():
    one, full = (predict(KERNEL, SMALL, neurons, 50) for neurons in (1, 256))
    assert (one.issue, one.latency) == (full.issue, full.latency)
    assert one.memory == full.memory / 256


def test_slot_of_amd_takes_four_cycles():
    assert predict(KERNEL, replace(SMALL, slot=4), 1280, 50).issue == pytest.approx(20e-6)


def test_what_does_not_fit_raises():
    large = replace(KERNEL, shared=20_000)
    with pytest.raises(ValueError, match="20000 bytes of shared memory does not fit a unit of sma"):
        predict(large, SMALL, 1, 1)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    # A100's units of float32 fill every other slot; MI300X's 163.4 count two instructions in one
    [("A100", 2 * 19.5), ("H100", 67), ("H200", 67), ("MI300X", 163.4 / 2)],
)
def test_slots_agree_with_the_rate_of_float32_that_is_published(name, teraflops):
    assert 2 * DEVICES[name].slots / 1e12 == pytest.approx(teraflops, rel=0.01)
