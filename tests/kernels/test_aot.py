"""Kernels compile for every architecture, in the registers that they may use; no GPU is needed."""

import pytest
import triton
from lapilli.kernels.aot import TARGETS, compile_launch, launches, resources
from problems import fixed_problem
from recurrences import TABLE, VARIANTS

# ahead-of-time compilation for AMD needed ROCm's linker before
SINCE = {"gfx942": (3, 5)}

SOON = [("sm_90", "inference"), ("sm_90", "learned decays"), ("gfx942", "learned decays")]

MATRIX = [
    pytest.param(
        recurrence, target, variant,
        marks=() if (target, variant) in SOON else pytest.mark.slow,
        id=f"{recurrence.name}-{target}-{variant}",
    )
    for recurrence in TABLE
    for target in TARGETS
    for variant in VARIANTS
]  # fmt: skip


@pytest.mark.parametrize(("recurrence", "target", "variant"), MATRIX)
def test_kernels_compile_within_their_registers(recurrence, target, variant, compiled_kernels):
    if tuple(map(int, triton.__version__.split(".")[:2])) < SINCE.get(target, (3, 3)):
        pytest.skip(f"Triton {triton.__version__} cannot compile for {target} on its own")
    problem = fixed_problem(recurrence, **VARIANTS[variant])
    recorded = launches(recurrence.kernels, problem.fast)
    assert len(recorded) == 1 + problem.train
    for launch in recorded:
        name = launch.kernel.__name__
        used = resources(compile_launch(launch, target))
        compiled_kernels.append((name, variant, target, used))
        assert used.registers <= recurrence.registers[name][target]
        assert used.spills == 0
        assert used.shared == 0
        assert used.doubles == 0
        assert used.long_products == 0
        assert set(used.loads) == set(used.stores) == {4}  # neighbours in memory, one a lane
        assert not used.late_loads  # a load behind a store waits for memory again
