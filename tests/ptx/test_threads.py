"""Control flow, copies, and what is watched and counted of the accesses of threads."""

from typing import Any

import numpy as np
import pytest

from ptx.bodies import LANES, run
from ptx.memory import Fault
from ptx.schedule import Schedule


def test_threads_part_and_meet():
    out, counts = run("""
	and.b32 %r1, %r90, 1;
	setp.eq.b32 %p1, %r1, 0;
	mov.b32 %r2, 7;
	@%p1 bra $L__even;
	mov.b32 %r2, 9;
	bra.uni $L__end;
$L__even:
	add.s32 %r2, %r2, 1;
$L__end:
	@!%p1 add.s32 %r2, %r2, 100;
	st.global.b32 [ %rd94 + 0 ], { %r2 };""")
    assert (out[:, 0] == np.where(LANES % 2, 109, 8)).all()
    assert counts.operations["st.global.b32"] == 1  # they met before


def test_loops_end_for_each_thread_on_its_own():
    out, _ = run("""
	mov.b32 %r1, 0;
$L__loop:
	add.s32 %r1, %r1, 1;
	setp.lt.s32 %p1, %r1, %r90;
	@%p1 bra $L__loop;
	st.global.b32 [ %rd94 + 0 ], { %r1 };""")
    assert (out[:, 0] == np.maximum(LANES, 1)).all()


COPY = """
	shl.b32 %r1, %r90, 2;
	mov.b32 %r2, global_smem;
	add.s32 %r3, %r1, %r2;
	cp.async.ca.shared.global [ %r3 + 0 ], [ %rd93 + 0 ], 0x4, {size};
	cp.async.commit_group;
	cp.async.ca.shared.global [ %r3 + 512 ], [ %rd93 + 4 ], 0x4, 4;
	cp.async.commit_group;
	cp.async.wait_group {left};
	{barrier}
	xor.b32 %r4, %r3, {other};
	ld.shared.b32 %r5, [%r4];
	st.global.b32 [ %rd94 + 0 ], {{ %r5 }};
	cp.async.wait_group 0;
"""
BOTH = pytest.mark.parametrize("copies", ["early", "late"])


def copied(copies, size=4, left=1, barrier="bar.sync 0;", other=4):
    body = COPY.format(size=size, left=left, barrier=barrier, other=other)
    return run(body, [LANES + 50, LANES], schedule=Schedule(copies=copies))[0][:, 0]


@BOTH
def test_copies_arrive_when_they_are_waited_for(copies):
    assert (copied(copies) == (LANES ^ 1) + 50).all()
    assert (copied(copies, size=0) == 0).all()  # what is left out is zero
    assert (copied(copies, barrier="", other=0) == LANES + 50).all()  # a thread's own copy


@BOTH
def test_copies_that_nobody_waited_for_are_found(copies):
    with pytest.raises(Fault, match="in flight"):
        copied(copies, left=2)
    with pytest.raises(Fault, match="race"):
        copied(copies, barrier="")
    with pytest.raises(Fault, match="a program ends while copies are on their way"):
        run(COPY.format(size=4, left=1, barrier="bar.sync 0;", other=4)
            .replace("cp.async.wait_group 0;", ""), [LANES])  # fmt: skip


def test_wide_copies():
    out, _ = run(
        """
	shl.b32 %r1, %r90, 4;
	mov.b32 %r2, global_smem;
	add.s32 %r3, %r1, %r2;
	cp.async.cg.shared.global [ %r3 + 0 ], [ %rd93 + 0 ], 0x10, 16;
	cp.async.commit_group;
	cp.async.wait_group 0;
	ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r3];
	st.global.v4.b32 [ %rd94 + 0 ], { %r4, %r5, %r6, %r7 };""",
        [LANES + k for k in range(4)],
    )
    assert (out[:, :4] == LANES[:, None] + np.arange(4)).all()


SHARE = """
	shl.b32 %r1, %r90, 2;
	mov.b32 %r2, global_smem;
	add.s32 %r3, %r1, %r2;
	{write}
	{barrier}
	{read}
	st.global.b32 [ %rd94 + 0 ], {{ %r4 }};
"""
WRITE, BARRIER = "st.shared.b32 [ %r3 + 0 ], %r90;", "bar.sync 0;"
READ = "ld.shared.b32 %r4, [%r3];"
ORDERS = pytest.mark.parametrize("warps", ["together", "forward", "backward", "shuffled"])


def shared(warps: Any = "together", write=WRITE, barrier=BARRIER, read=READ, **more):
    body = SHARE.format(write=write, barrier=barrier, read=read)
    return run(body, threads=64, schedule=Schedule(warps), **more)[0][:, 0]


@ORDERS
def test_what_is_watched(warps):
    turned = "xor.b32 %r5, %r3, 128;\n ld.shared.b32 %r4, [%r5];"  # of the other warp
    assert (shared(warps, read=turned) == np.arange(64) ^ 32).all()
    assert (shared(warps, barrier="") == np.arange(64)).all()  # each its own
    with pytest.raises(Fault, match=r"race: thread|unwritten"):
        shared(warps, barrier="", read=turned)
    with pytest.raises(Fault, match="race"):  # read, and then written by others
        shared(warps, write=WRITE + BARRIER + turned, barrier="", read=WRITE + turned)
    with pytest.raises(Fault, match="race"):  # all write something else to one word
        shared(warps, write="st.shared.b32 [ %r2 + 0 ], %r90;")
    assert (shared(warps, write="st.shared.b32 [ %r2 + 0 ], 5;", read="ld.shared.b32 %r4, [%r2];")
            == 5).all()  # fmt: skip
    with pytest.raises(Fault, match="unwritten"):
        shared(warps, write="")
    with pytest.raises(Fault, match="outside: shared memory has 252 bytes"):
        shared(warps, shared=252)
    with pytest.raises(Fault, match="misaligned"):
        shared(warps, read="ld.shared.b32 %r4, [%r3+2];")
    with pytest.raises(Fault, match="barrier"):  # one warp does not come
        shared(
            warps, barrier="setp.lt.s32 %p1, %r90, 32;\n @%p1 bra $L__on;\n bar.sync 0;\n$L__on:"
        )
    with pytest.raises(Fault, match="divergent"):  # half a warp
        shared(warps, barrier="setp.lt.s32 %p1, %r90, 16;\n @%p1 bar.sync 0;")


def test_accesses_of_tensors():
    for body, kind in (
        ("st.global.b32 [ %rd94 + 64 ], { %r90 };", "outside"),  # of the last thread
        ("ld.global.b32 { %r1 }, [ %rd93 + -4 ];", "outside"),
        ("ld.global.b32 { %r1 }, [ %rd92 + 0 ];", "outside"),  # no tensor at all
        ("ld.global.b32 { %r1 }, [ %rd93 + 2 ];", "misaligned"),
        ("ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd93 + 8 ];", "misaligned"),
        ("st.global.b32 [ %rd91 + 0 ], { %r90 };", "race"),
        ("$L__on:\n bra $L__on;", "endless"),
    ):
        with pytest.raises(Fault) as found:
            run(body)
        assert found.value.kind == kind


@pytest.mark.parametrize(
    ("stride", "width", "conflicts"),
    [(4, 4, 0), (8, 4, 1), (128, 4, 31), (0, 4, 0), (16, 16, 0), (32, 16, 4), (8, 8, 0)],
)
def test_conflicts_of_banks(stride, width, conflicts):
    """By hand: with a stride of two words two threads share each bank; of one word nobody does."""
    many = "" if width == 4 else f".v{width // 4}"
    names = "{%r4, %r5, %r6, %r7}".split(", %r" + str(4 + width // 4))[0].rstrip("}") + "}"
    names = names if width > 4 else "%r4"
    _, counts = run(
        f"""
	mul.lo.s32 %r1, %r90, {stride};
	mov.b32 %r2, global_smem;
	add.s32 %r3, %r1, %r2;
	st.shared{many}.b32 [ %r3 + 0 ], {
            names.replace("%r4", "7") if width == 4 else "{ " + ", ".join("7" * (width // 4)) + " }"
        };
	bar.sync 0;""",
        counting=True,
        shared=8192,
    )
    assert counts.conflicts == conflicts


@pytest.mark.parametrize(("stride", "sectors"), [(4, 4), (32, 32), (64, 32), (0, 1)])
def test_sectors_and_bytes(stride, sectors):
    _, counts = run(
        f"""
	mul.wide.u32 %rd1, %r90, {stride};
	add.s64 %rd2, %rd90, %rd1;
	ld.global.b32 {{ %r1 }}, [ %rd2 + 0 ];""",
        counting=True,
    )
    assert (counts.sectors, counts.loaded, counts.stored) == (sectors, 128, 0)
