"""Kernels compile for every architecture, in the registers that they may use; no GPU is needed."""

from dataclasses import replace

import pytest
import triton
from lapilli.kernels.aot import (
    TARGETS,
    can_compile,
    compile_launch,
    launches,
    resources,
    signature,
)
from lapilli.kernels.dispatch import FULL, walk_constants
from lapilli.kernels.rows import BLOCK, CHUNK
from problems import fixed_problem
from ptx.launcher import program_of, text_of, without_coalescing
from recurrences import TABLE, most_of

# Every recurrence is compiled for one target of each vendor, in what uses most of its kernel. For
# one target also in what loads and stores other things; for the others, those without a twin.
ONE, AMD = "sm_90", "gfx942"
OTHERS = ("scale not a power of two", "state", "dynamics, learned decays")
NO_TWINS = ("cuba", "alif", "adrf", "adaptive_threshold", "sigma_delta", "channel_delay")
LONG = ("adrf", "sigma_delta", "channel_delay")  # take half a minute each with chunks in flight

# most registers of any of these, on NVIDIA's architectures and on AMD's; they are given in eights.
# Of AMD's, with up to 64 as many waves run as there can be.
REGISTERS = {
    "_cuba_fwd_kernel": (64, 56),
    "_cuba_bwd_kernel": (80, 72),
    "_leaky_fwd_kernel": (56, 48),
    "_leaky_bwd_kernel": (56, 56),
    "_alif_fwd_kernel": (72, 64),
    "_alif_bwd_kernel": (80, 72),
    "_adaptive_threshold_kernel": (64, 56),
    "_resonator_fwd_kernel": (88, 88),
    "_resonator_bwd_kernel": (88, 104),
    "_sigma_kernel": (48, 48),
    "_delta_fwd_kernel": (56, 48),
    "_delta_bwd_kernel": (72, 56),
    "_sigma_delta_fwd_kernel": (72, 48),
    "_sigma_delta_bwd_kernel": (72, 56),
    "_delay_fwd_kernel": (56, 32),
    "_delay_bwd_kernel": (80, 80),
}


VOTE = 16  # bytes of shared memory in which four warps say whether to compute with care
SHARED = 99 << 10  # what a program may have of shared memory on the smallest, sm_120


def matrix():
    for recurrence in TABLE:
        most, no_twin = most_of(recurrence), recurrence.name in NO_TWINS
        for target in TARGETS:
            if target not in (ONE, AMD) and not no_twin:
                continue
            others = [n for n in OTHERS if n in recurrence.variants() and target == ONE]
            for name in dict.fromkeys((most, *others)):
                soon = no_twin and target == ONE and name == most
                yield pytest.param(
                    recurrence, target, name,
                    marks=() if soon else pytest.mark.slow, id=f"{recurrence}-{target}-{name}",
                )  # fmt: skip


def check_text(compiled, launch, target):
    """What the executors of tests/ptx and tests/gcn run is what a GPU gets, letter by letter."""
    given = launch.kernel, *signature(launch, target), target, launch.threads
    short, whole = (program_of(text_of(c)).text for c in (without_coalescing(given), compiled))
    assert short == whole


@pytest.mark.parametrize(("recurrence", "target", "variant"), list(matrix()))
def test_kernels_compile_within_their_registers(recurrence, target, variant, note_kernel):
    if not can_compile(target):
        pytest.skip(f"Triton {triton.__version__} cannot compile for {target} on its own")
    problem = fixed_problem(recurrence, **recurrence.variants()[variant])
    recorded = launches(problem.fast)
    assert len(recorded) == problem.launches
    for launch in recorded:
        name, many = launch.kernel.__name__, replace(launch, lanes=FULL)
        compiled = compile_launch(many, target)
        check_text(compiled, many, target)
        used = resources(compiled)
        note_kernel(name, f"{recurrence}: {variant}", target, used)
        assert used.registers <= REGISTERS[name][TARGETS[target].backend == "hip"]
        assert used.spills == 0
        assert used.shared <= VOTE
        assert used.doubles == 0
        assert used.long_products == 0
        assert set(used.loads) == set(used.stores) == {4}  # neighbours in memory, one a lane
        assert not used.late_loads  # a load behind a store waits for memory again


@pytest.mark.parametrize(
    ("recurrence", "target", "variant"),
    [
        pytest.param(*p.values, id=p.id, marks=pytest.mark.slow if r.name in LONG else ())
        for p in matrix()
        for r in p.values[:1]
        if p.values[1] == ONE and p.values[2] == most_of(r) and r.name in NO_TWINS
    ],
)
def test_kernels_with_few_lanes_keep_chunks_in_flight(recurrence, target, variant, note_kernel):
    problem = fixed_problem(recurrence, **recurrence.variants()[variant])
    for launch in launches(problem.fast):
        few = replace(launch, lanes=FULL - 1)
        compiled = compile_launch(few, target)
        check_text(compiled, few, target)
        used = resources(compiled)
        note_kernel(launch.kernel.__name__, f"{recurrence}: {variant}, few", target, used)
        assert used.spills == 0
        chunks = used.shared // (4 * BLOCK * CHUNK)  # in shared memory, of all inputs
        assert chunks >= walk_constants(FULL - 1, "cuda")[1] - 1
        assert used.shared <= SHARED


def test_sizes_compile_nothing_again():
    # another batch, threshold or number of steps is the same kernel
    for recurrence in TABLE:
        for launch in launches(fixed_problem(recurrence).fast):
            given = zip(launch.kernel.params, launch.args, strict=False)
            numbers = [p for p, value in given if isinstance(value, int)]
            assert numbers
            assert all(p.do_not_specialize for p in numbers), launch.kernel.__name__
