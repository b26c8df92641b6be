"""Compile every kernel ahead of time and judge its counters against its baseline."""

import pytest

from .kernels import SHORT, TARGETS, build


@pytest.mark.parametrize("target", TARGETS)
def test_kernels(target, run):
    if run.short and target not in SHORT:
        pytest.skip("the short form leaves out this architecture")
    aot = pytest.importorskip("lapilli.kernels.proof.aot", exc_type=ImportError)
    if not aot.can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    worse = run.kernels.add(build(target, run.short))
    assert run.update or not worse, (
        "\n".join(["kernels became worse:", *worse]) + "\nIf meant, run pytest --benchmark-update."
    )
