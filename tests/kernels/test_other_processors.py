"""CPU loops on processors that are not here: they compile, work on vectors, and round alike.

The loops are those that loops_side.py calls; kernels/proof/processors.py compiles them.
"""

import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof.processors import (
    SETTINGS,
    Code,
    compile_for,
    read,
    without_contraction,
)
from llvmlite.binding import llvm_version_info

pytestmark = [
    pytest.mark.skipif(BACKEND != "auto", reason="these are the compiled loops"),
    pytest.mark.skipif(llvm_version_info < (22,), reason="what LLVM makes of them is told of 22"),
    pytest.mark.turns,
]

SIDE = Path(__file__).with_name("loops_side.py")
ALL = ("recurrences", "recurrent layers", "events", "convolutions", "weights", "single steps")
TARGETS = ("haswell", "aarch64", "x86-64")

# loops of which a form computes on one number at a time, or on none, and why
ONE_BY_ONE = {
    "_sort_cpu": "each event goes to the next place of its column, which the one before took",
    "_delay_fwd_cpu": "each neuron reads another row; copies rows where the delay is one step",
    "_delay_bwd_cpu": "as forward; only a learned delay has something to compute",
    "line_cpu": "each neuron reads another row",
    "_transpose_cpu": "moves numbers, as vectors, and computes nothing",
}
# loops that round down, for which the oldest x86-64, before SSE4.1, has a function only
CALL_FLOOR = {"_delta_fwd_cpu", "_sigma_delta_fwd_cpu"}
# A loop over vectors has more instructions where they do less or it is unrolled, so up to so many
# times as many: NEON counts bits in one.
ALIKE = 8
# loops that make surrogate gradients, whose exponential may be rounded once less with fused
# multiply-adds; no output and no state goes through it
MAY_FUSE = {
    "_cuba_bwd_cpu", "_leaky_bwd_cpu", "_alif_bwd_cpu", "_resonator_bwd_cpu",
    "_sigma_delta_bwd_cpu", "_delta_bwd_cpu", "_recurrent_fwd_cpu",
}  # fmt: skip
# what a loop may call: Numba's memory, errors of Python, and of C what every system has
CALLS = ("NRT_", "numba_", "Py", "_Py", "_ZN", "memset", "memcpy", "memmove", "sqrt")


@functools.cache
def forms(*names: str, features: str = "") -> tuple[dict[str, Any], ...]:
    """Return what loops_side.py writes of some of its groups: name and code of each form."""
    with tempfile.TemporaryDirectory() as folder:
        # below a file nothing can be kept: Numba does not show code that it has read from the disk
        settings = SETTINGS | {"LAPILLI_CACHE_DIR": str(SIDE / "none"), "TMPDIR": folder}
        settings |= {"NUMBA_CPU_FEATURES": features, "PYTHONPATH": os.pathsep.join(sys.path)}
        result = subprocess.run(
            [sys.executable, SIDE, folder, *names], capture_output=True, text=True, check=False,
            env=os.environ | settings,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        found = json.loads((Path(folder) / "forms.json").read_text())
        written = {f["loop"] for f in found["forms"]}
        if names == ALL:
            assert written == set(found["loops"]), "call every loop in loops_side.py"
        codes = {(f["loop"], (Path(folder) / f["file"]).read_text()) for f in found["forms"]}
    return tuple({"loop": loop, "code": code} for loop, code in sorted(codes))


def on_vectors(code: Code) -> int:
    """Return how much the loop computes that does most on several numbers at once; 0 without one.

    Loops of single numbers tell nothing: what is left of a loop over vectors is one, unrolled.
    """
    return max((loop.packed for loop in code.loops if not loop.single), default=0)


def check(form: dict[str, Any]) -> bool:
    """Check one form of a loop; return whether it works on vectors with AVX2."""
    loop, code = form["loop"], form["code"]
    assert "llvm.x86" not in code
    compiled = {target: compile_for(code, target) for target in TARGETS}
    most = on_vectors(compiled["haswell"])
    assert most or loop in ONE_BY_ONE, loop
    for target, found in compiled.items():
        where = f"{loop} on {target}"
        assert on_vectors(found) * ALIKE >= most, where
        unknown = {name for name in found.calls if not name.startswith(CALLS)}
        assert unknown == ({"floorf"} if target == "x86-64" and loop in CALL_FLOOR else set()), (
            where
        )
    if "contract" in code:
        assert loop in MAY_FUSE, loop
        compiled = {"aarch64": compile_for(without_contraction(code), "aarch64")}
    assert not any(found.fused for found in compiled.values()), loop
    return most > 0


@pytest.mark.slow
def test_a_few_loops_compile_for_other_processors():
    found = forms("few")
    assert {"_cuba_fwd_cpu", "_cuba_bwd_cpu", "_quantize_cpu", "_gather_cpu"} <= {
        form["loop"] for form in found
    }
    for form in found:
        if form["loop"] in ("_cuba_fwd_cpu", "_gather_cpu"):
            check(form)


@pytest.mark.slow
def test_every_loop_compiles_for_other_processors():
    found = [(form["loop"], check(form)) for form in forms(*ALL)]
    assert {loop for loop, vectors in found if not vectors} == set(ONE_BY_ONE)


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="Numba is told of AVX-512"
)
def test_what_one_kind_of_processor_has_is_used_there_alone():
    """Events are packed by an instruction of AVX-512, elsewhere without."""
    (plain,), (special,) = (forms("lists", features=f) for f in ("", "+avx512f"))
    own = "llvm.x86.avx512.mask.compress"
    assert own in special["code"]
    assert own not in plain["code"]
    assert "vpcompressd" in compile_for(special["code"], "x86-64-v4").assembly
    assert "vpcompressd" not in compile_for(plain["code"], "x86-64-v4").assembly


ADDING = """
define void @f(ptr noalias %x, ptr noalias %y, i64 %n) {
before:
  br label %loop
loop:
  %i = phi i64 [ 0, %before ], [ %next, %loop ]
  %from = getelementptr float, ptr %x, i64 %i
  %to = getelementptr float, ptr %y, i64 %i
  %a = load float, ptr %from
  %b = fmul FLAG float %a, %a
  %c = fadd FLAG float %b, %a
  store float %c, ptr %to
  %next = add nsw i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %after
after:
  ret void
}
"""


@pytest.mark.parametrize("target", ["aarch64", "haswell", "znver2"])
def test_a_product_and_a_sum_are_fused_where_that_is_allowed_alone(target):
    loose = ADDING.replace("FLAG", "contract")
    assert compile_for(loose, target).fused > 0
    assert compile_for(without_contraction(loose), target).fused == 0
    assert compile_for(ADDING.replace("FLAG ", ""), target).fused == 0


@pytest.mark.parametrize("target", ["aarch64", "x86-64", "haswell", "x86-64-v4"])
def test_a_loop_that_needs_the_number_before_is_no_vector_loop(target):
    assert on_vectors(compile_for(ADDING.replace("FLAG ", ""), target)) > 0
    chain = ADDING.replace("FLAG ", "").replace("%b, %a", "%b, %last")
    chain = chain.replace("  %from", "  %last = phi float [ 0.0, %before ], [ %c, %loop ]\n  %from")
    assert on_vectors(compile_for(chain, target)) == 0


def test_calls_and_loops_are_read():
    code = read(
        ".L1:\n\tfmul v0.4s, v0.4s, v1.4s // a\n\tbl expf\n.L2:\n\tfadd s0, s0, s1\n\tb.ne .L2\n"
        "\tcbnz x8, .L1\n\tfmadd s0, s1, s2, s3\n", "aarch64",
    )  # fmt: skip
    assert [(loop.packed, loop.single) for loop in code.loops] == [(0, 1)]
    assert code.calls == {"expf"}
    assert code.fused == 1
    code = read(".L1:\n\tvmulps %ymm0, %ymm1, %ymm2\n\tcallq expf@PLT\n\tjne .L1\n", "x86_64")
    assert [(loop.packed, loop.single) for loop in code.loops] == [(1, 0)]
    assert code.calls == {"expf"}
