"""Kernels compile for every architecture, in the registers that they may use; no GPU is needed."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import triton
from lapilli.kernels.executors import dispatch, passes
from lapilli.kernels.executors.dispatch import FULL, walk_constants
from lapilli.kernels.executors.rows import BLOCK, CHUNK
from lapilli.kernels.proof import aot, catalogue
from lapilli.kernels.proof.aot import (
    TARGETS,
    can_compile,
    compile_kernel,
    compile_launch,
    launches,
    resources,
    signature,
    terms_launches,
)
from lapilli.kernels.synapses import bfloat16
from problems import fixed_problem
from recurrences import TABLE, most_of
from triton.backends import backends
from triton.compiler import ASTSource

pytestmark = pytest.mark.turns

# Every recurrence is compiled for one target of each vendor, in what uses most of its kernel. For
# one target also in what loads and stores other things; for the others, those without a twin.
ONE, AMD = "sm_90", "gfx942"
OTHERS = ("scale not a power of two", "state", "dynamics, learned decays")
NO_TWINS = ("cuba", "alif", "adrf", "adaptive_threshold", "sigma_delta", "channel_delay")
SOON = ("cuba",)

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
AT_MOST = tuple(map(max, zip(*REGISTERS.values(), strict=True)))  # of a kernel without a row


VOTE = 16  # bytes of shared memory in which four warps say whether to compute with care
SHARED = 99 << 10  # what a program may have of shared memory on the smallest, sm_120


def matrix() -> Iterator[Any]:
    for recurrence in TABLE:
        most, no_twin = most_of(recurrence), recurrence.name in NO_TWINS
        for target in TARGETS:
            if target not in (ONE, AMD) and not no_twin:
                continue
            others = [n for n in OTHERS if n in recurrence.variants() and target == ONE]
            for name in dict.fromkeys((most, *others)):
                soon = recurrence.name in SOON and target == ONE and name == most
                yield pytest.param(
                    recurrence, target, name,
                    marks=() if soon else pytest.mark.slow, id=f"{recurrence}-{target}-{name}",
                )  # fmt: skip


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
        used = resources(compiled)
        note_kernel(name, f"{recurrence}: {variant}", target, used)
        assert used.registers <= REGISTERS.get(name, AT_MOST)[TARGETS[target].backend == "hip"]
        assert used.spills == 0
        assert used.shared <= VOTE
        assert used.doubles == 0
        assert used.long_products == 0
        assert set(used.loads) == set(used.stores) == {4}  # neighbours in memory, one a lane
        assert not used.late_loads  # a load behind a store waits for memory again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recurrence", "target", "variant"),
    [
        pytest.param(*p.values, id=p.id, marks=() if r.name == "cuba" else pytest.mark.slow)
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
        used = resources(compiled)
        note_kernel(launch.kernel.__name__, f"{recurrence}: {variant}, few", target, used)
        assert used.spills == 0
        chunks = used.shared // (4 * BLOCK * CHUNK)  # in shared memory, of all inputs
        assert chunks >= walk_constants(FULL - 1, "cuda")[1] - 1
        assert used.shared <= SHARED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant", "target", "lanes"),
    [
        ("cuba", "learned decays", "sm_90", FULL),
        pytest.param("cuba", "learned decays", "sm_90", FULL - 1, marks=pytest.mark.slow),
        pytest.param("cuba", "dynamics, learned decays", "gfx942", FULL, marks=pytest.mark.slow),
        pytest.param("alif", "state", "sm_80", FULL - 1, marks=pytest.mark.slow),
        pytest.param("adrf", "learned decays", "sm_120", FULL, marks=pytest.mark.slow),
        pytest.param("sigma_delta", "state", "sm_90", FULL, marks=pytest.mark.slow),
        pytest.param("channel_delay", "learned decays", "sm_90", FULL, marks=pytest.mark.slow),
    ],
)
def test_coalescing_would_change_nothing(name, variant, target, lanes, tmp_path, monkeypatch):
    recurrence = next(r for r in TABLE if r.name == name)
    variant = variant if variant in recurrence.variants() else most_of(recurrence)
    for launch in launches(fixed_problem(recurrence, **recurrence.variants()[variant]).fast):
        given = replace(launch, lanes=lanes)
        what = (given.kernel, *signature(given, target), target, given.threads)
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / launch.kernel.__name__ / "without"))
        without = compile_launch(given, target)
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / launch.kernel.__name__ / "whole"))
        whole = compile_kernel(*what)
        last = "hsaco" if TARGETS[target].backend == "hip" else "cubin"
        assert whole.asm[last] == without.asm[last]
        sizes = re.findall(r"#ttg\.blocked<\{sizePerThread = \[(.*?)\]", without.asm["ttgir"])
        assert set(sizes) == {"1"}, "a thread has one neuron"


def instructions(compiled):
    """Lines of PTX without what they say of lines and names in the source."""
    text = compiled.asm["ptx"].partition(".section")[0].splitlines()
    found = [line for line in text if not re.match(r"\s*(//|\.loc|\.file|\$L__tmp)", line)]
    assert len(found) > 50
    return found


@pytest.mark.parametrize(
    "name", ["terms", *(pytest.param(n, marks=pytest.mark.slow) for n in ("cuba", "recurrent"))]
)
def test_kernels_that_are_read_once_are_the_same_code(name, tmp_path, monkeypatch):
    """For the architecture that is compiled second, what was read for the first is used."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "once"))
    entries = list(catalogue.entries(name))[:3]
    assert entries
    for entry in entries:
        compile_launch(entry.launch, "sm_80")
    with monkeypatch.context() as patch:
        patch.setattr(ASTSource, "make_ir", None)  # nothing is read any more
        once = [instructions(compile_launch(entry.launch, "sm_90")) for entry in entries]
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "each"))
    monkeypatch.setattr(aot, "_Source", ASTSource)
    for entry, code in zip(entries, once, strict=True):
        assert instructions(compile_launch(entry.launch, "sm_90")) == code, entry


def test_only_kernels_of_one_neuron_a_thread_go_without_coalescing(monkeypatch):
    seen = []
    backend: Any = backends["nvidia"].compiler
    make = backend.make_ttgir

    def record(*args):
        seen.append(passes.without_coalescing.depth)
        return make(*args)

    monkeypatch.setattr(backend, "make_ttgir", staticmethod(record))
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    (cuba,) = (r for r in TABLE if r.name == "cuba")
    walk = launches(fixed_problem(cuba).fast)[0]
    (other,) = terms_launches(lambda: bfloat16.terms(torch.zeros(3, 4)))
    for launch in (walk, other):
        compile_launch(launch, "sm_90")
    assert seen == [1, 0]
    # a launch on a GPU is compiled in the same way
    seen.clear()
    monkeypatch.setattr(dispatch, "executor", lambda device: "triton")
    monkeypatch.setattr(
        dispatch, "launch", lambda *args, **options: seen.append(passes.without_coalescing.depth)
    )
    fixed_problem(cuba).fast()
    assert seen[0] == 1
    assert passes.without_coalescing.depth == 0


def test_sizes_compile_nothing_again():
    # another batch, threshold or number of steps is the same kernel
    for recurrence in TABLE:
        for launch in launches(fixed_problem(recurrence).fast):
            given = zip(launch.kernel.params, launch.args, strict=False)
            numbers = [p for p, value in given if isinstance(value, int)]
            assert numbers
            assert all(p.do_not_specialize for p in numbers), launch.kernel.__name__
