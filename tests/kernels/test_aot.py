"""Kernels compile for every architecture, in the registers that they may use; no GPU is needed."""

import pytest
import triton
from lapilli.kernels.aot import TARGETS, compile_launch, launches, resources
from problems import fixed_problem
from recurrences import TABLE, most_of

# ahead-of-time compilation for AMD needed ROCm's linker before
SINCE = {"gfx942": (3, 5)}

# Every recurrence is compiled for one target of each vendor, in what uses most of its kernel. For
# one target also in what loads and stores other things; for the others, those without a twin.
ONE, AMD = "sm_90", "gfx942"
OTHERS = ("scale not a power of two", "state", "dynamics, learned decays")
NO_TWINS = ("cuba", "alif", "adrf", "adaptive_threshold", "sigma_delta", "channel_delay")

# most registers of any of these, on NVIDIA's architectures and on AMD's; they are given in eights
REGISTERS = {
    "_cuba_fwd_kernel": (64, 48),
    "_cuba_bwd_kernel": (80, 72),
    "_leaky_fwd_kernel": (56, 40),
    "_leaky_bwd_kernel": (56, 56),
    "_alif_fwd_kernel": (72, 56),
    "_alif_bwd_kernel": (80, 72),
    "_adaptive_threshold_kernel": (64, 48),
    "_resonator_fwd_kernel": (88, 72),
    "_resonator_bwd_kernel": (88, 104),
    "_sigma_kernel": (48, 48),
    "_delta_fwd_kernel": (56, 48),
    "_delta_bwd_kernel": (72, 56),
    "_sigma_delta_fwd_kernel": (72, 48),
    "_sigma_delta_bwd_kernel": (72, 56),
    "_delay_fwd_kernel": (56, 32),
    "_delay_bwd_kernel": (80, 80),
}


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


@pytest.mark.parametrize(("recurrence", "target", "variant"), list(matrix()))
def test_kernels_compile_within_their_registers(recurrence, target, variant, note_kernel):
    if tuple(map(int, triton.__version__.split(".")[:2])) < SINCE.get(target, (3, 3)):
        pytest.skip(f"Triton {triton.__version__} cannot compile for {target} on its own")
    problem = fixed_problem(recurrence, **recurrence.variants()[variant])
    recorded = launches(problem.fast)
    assert len(recorded) == problem.launches
    for launch in recorded:
        name = launch.kernel.__name__
        used = resources(compile_launch(launch, target))
        note_kernel(name, f"{recurrence}: {variant}", target, used)
        assert used.registers <= REGISTERS[name][TARGETS[target].backend == "hip"]
        assert used.spills == 0
        assert used.shared == 0
        assert used.doubles == 0
        assert used.long_products == 0
        assert set(used.loads) == set(used.stores) == {4}  # neighbours in memory, one a lane
        assert not used.late_loads  # a load behind a store waits for memory again
