"""Each instruction against values that were worked out by hand from PTX's description of it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ptx import arithmetic, products
from ptx.bodies import HEAD, bits, one, register, run
from ptx.schedule import Schedule
from ptx.text import PtxError, parse

NAN, INF = float("nan"), float("inf")
TINY = 2.0**-140  # subnormal
ODD = 1.0 + 2.0**-23  # the float32 after 1
CANONICAL = 0x7FFFFFFF
PAYLOAD = 0x7FC12345  # a NaN with something in it

# (instruction, operands, result), as bits or float32
ROWS = [
    ("add.s32", (0x7FFFFFFF, 1), 0x80000000),
    ("add.s64", (0xFFFFFFFF, 1), 1 << 32),
    ("sub.s32", (0, 1), 0xFFFFFFFF),
    ("mul.lo.s32", (0x10001, 0x10001), 0x20001),
    ("mul.lo.s64", (1 << 33, 3), 3 << 33),
    ("mad.lo.s32", (-3, 5, 7), 0xFFFFFFF8),
    ("mad.lo.s64", (1 << 32, 2, 5), (2 << 32) + 5),
    ("div.s32", (-7, 2), -3 & 0xFFFFFFFF),
    ("div.s32", (7, -2), -3 & 0xFFFFFFFF),
    ("div.u32", (0xFFFFFFF9, 2), 0x7FFFFFFC),
    ("abs.s32", (-5,), 5),
    ("neg.s32", (5,), 0xFFFFFFFB),
    ("mul.wide.s32", (-1, 5), -5 & (1 << 64) - 1),
    ("mul.wide.u32", (0xFFFFFFFF, 2), 0x1FFFFFFFE),
    ("mul.hi.s32", (-5, 1 << 31), 2),
    ("mul.hi.u32", (0xFFFFFFFF, 1 << 31), 0x7FFFFFFF),
    ("mul.lo.s16", (0x101, 0x101), 0x201),
    ("shr.u16", (0xFFF0, 4), 0xFFF),
    ("min.s16", (-1, 1), 0xFFFF),
    ("min.s32", (-1, 1), 0xFFFFFFFF),
    ("max.s32", (-1, 1), 1),
    ("min.u32", (0xFFFFFFFF, 1), 1),
    ("max.u32", (0xFFFFFFFF, 1), 0xFFFFFFFF),
    ("shr.s32", (-16, 2), -4 & 0xFFFFFFFF),
    ("shr.s32", (-16, 40), 0xFFFFFFFF),
    ("shr.u32", (0x80000000, 31), 1),
    ("shr.u32", (0x80000000, 32), 0),
    ("shl.b16", (0x8001, 1), 2),
    ("shl.b32", (0x80000001, 1), 2),
    ("shl.b32", (1, 32), 0),
    ("shl.b64", (1, 40), 1 << 40),
    ("bfe.u32", (0xABCD, 4, 8), 0xBC),
    ("bfe.s32", (0xABCD, 4, 8), 0xFFFFFFBC),
    ("bfe.s32", (0x80, 7, 1), 0xFFFFFFFF),
    ("bfe.u32", (0xFFFFFFFF, 0, 0), 0),
    ("and.b16", (0xFF0F, 0x0FF0), 0x0F00),
    ("and.b32", (0xFF00FF00, 0x0FF00FF0), 0x0F000F00),
    ("and.b64", (0xFF << 40 | 0xF, 0xF << 40), 0xF << 40),
    ("or.b64", (1 << 40, 1), 1 << 40 | 1),
    ("xor.b64", (3 << 40, 1 << 40), 2 << 40),
    ("not.b64", (1,), (1 << 64) - 2),
    ("and.pred", (1, 0), 0),
    ("and.pred", (1, 1), 1),
    ("or.b16", (0xF000, 0x000F), 0xF00F),
    ("or.b32", (0xF0000000, 0xF), 0xF000000F),
    ("or.pred", (1, 0), 1),
    ("xor.b16", (0xFFFF, 1), 0xFFFE),
    ("xor.b32", (0xFFFFFFFF, 1), 0xFFFFFFFE),
    ("xor.pred", (1, 1), 0),
    ("not.b16", (0x00FF,), 0xFF00),
    ("not.b32", (0,), 0xFFFFFFFF),
    ("not.pred", (1,), 0),
    ("prmt.b32", (0x03020100, 0x07060504, 0x7250), 0x07020500),
    ("prmt.b32", (0x03020180, 0, 0x0008), 0x808080FF),  # the top bit repeats a sign
    ("mov.b16", (0x1234,), 0x1234),
    ("mov.u16", (0x1234,), 0x1234),
    ("mov.b32", (PAYLOAD,), PAYLOAD),
    ("mov.u32", (7,), 7),
    ("mov.b64", (7 << 32,), 7 << 32),
    ("mov.pred", (1,), 1),
    ("selp.b16", (3, 4, 1), 3),
    ("selp.b32", (3, 4, 0), 4),
    ("selp.f32", (PAYLOAD, 4, 1), PAYLOAD),
    ("setp.eq.b16", (3, 3), 1),
    ("setp.ne.b16", (3, 3), 0),
    ("setp.eq.b32", (3, 4), 0),
    ("setp.ne.b32", (3, 4), 1),
    ("setp.eq.b64", (1 << 32, 0), 0),
    ("setp.ne.b64", (1 << 32, 0), 1),
    ("setp.lt.s32", (-1, 0), 1),
    ("setp.le.s32", (0, 0), 1),
    ("setp.gt.s32", (-1, 0), 0),
    ("setp.ge.s32", (0, 0), 1),
    ("setp.lt.u32", (-1, 0), 0),
    ("setp.le.u32", (0, -1), 1),
    ("setp.gt.u32", (-1, 0), 1),
    ("setp.ge.u32", (0, -1), 0),
    ("setp.lt.s64", (-1 & (1 << 64) - 1, 0), 1),
    ("setp.le.s64", (1, 0), 0),
    ("setp.gt.s64", (1 << 40, 0), 1),
    ("setp.ge.s64", (1 << 63, 0), 0),
    ("setp.lt.u64", (-1 & (1 << 64) - 1, 0), 0),
    ("setp.le.u64", (1, 1), 1),
    ("setp.gt.u64", (1 << 63, 0), 1),
    ("setp.ge.u64", (0, 1), 0),
    *((f"setp.{c}.f32", (1.0, 2.0), int(c in ("lt", "le", "ne"))) for c in
      ("lt", "le", "gt", "ge", "eq", "ne")),
    *((f"setp.{c}.f32", (NAN, 2.0), 0) for c in ("lt", "le", "gt", "ge", "eq", "ne")),
    *((f"setp.{c}u.f32", (NAN, 2.0), 1) for c in ("lt", "le", "gt", "ge", "eq", "ne")),
    *((f"setp.{c}u.f32", (2.0, 2.0), int(c in ("le", "ge", "eq"))) for c in
      ("lt", "le", "gt", "ge", "eq", "ne")),
    ("setp.eq.f32", (-0.0, 0.0), 1),
    ("setp.num.f32", (1.0, NAN), 0),
    ("setp.num.f32", (1.0, 2.0), 1),
    ("setp.nan.f32", (1.0, NAN), 1),
    ("add.rn.f32", (1.0, 2.0**-24), 1.0),  # a tie, to even
    ("add.rn.f32", (ODD, 2.0**-24), 1.0 + 2.0**-22),
    ("add.rn.f32", (PAYLOAD, 1.0), CANONICAL),
    ("add.rn.f32", (-0.0, -0.0), -0.0),
    ("sub.rn.f32", (INF, INF), CANONICAL),
    ("sub.rn.f32", (1.0, 1.0), 0.0),
    ("mul.rn.f32", (ODD, ODD), 1.0 + 2.0**-22),  # 2^-46 is lost
    ("mul.rn.f32", (2.0**-100, 2.0**-40), TINY),
    ("mul.rn.f32", (0.0, -1.0), -0.0),
    ("div.rn.f32", (1.0, 3.0), 0x3EAAAAAB),
    ("div.rn.f32", (1.0, 0.0), INF),
    ("div.full.f32", (1.0, 3.0), 0x3EAAAAAB),
    ("fma.rn.f32", (ODD, ODD, -(1.0 + 2.0**-22)), 2.0**-46),  # what mul and add lose
    ("fma.rn.f32", (2.0**12 + 1, 2.0**12 + 1, 2.0**-60), 16785408.0 + 2.0),  # above a tie
    ("fma.rn.f32", (2.0**12 + 1, 2.0**12 + 1, -(2.0**-60)), 16785408.0),  # and below it
    *((f"{o}.rn.f32x2", (0x40000000_3F800000, 0x40400000_3F800000), r) for o, r in
      (("add", 0x40A00000_40000000), ("sub", 0xBF800000_00000000), ("mul", 0x40C00000_3F800000))),
    (
        "fma.rn.f32x2", (0x40000000_3F800001, 0x40400000_3F800001, 0x3F800000_BF800002),
        0x40E00000_28800000,
    ),
    ("min.f32", (-0.0, 0.0), -0.0),
    ("min.f32", (NAN, 1.0), 1.0),
    ("max.f32", (-0.0, 0.0), 0.0),
    ("max.f32", (NAN, NAN), CANONICAL),
    ("max.f32", (1.0, NAN), 1.0),
    ("max.NaN.f32", (1.0, NAN), CANONICAL),
    ("max.NaN.f32", (1.0, 2.0), 2.0),
    ("max.NaN.f32, three", (1.0, 3.0, 2.0), 3.0),
    ("max.NaN.f32, three", (-0.0, -2.0, 0.0), 0.0),
    ("max.NaN.f32, three", (1.0, 2.0, NAN), CANONICAL),
    ("max.NaN.f32, three", (NAN, 2.0, 1.0), CANONICAL),
    ("abs.f32", (-0.0,), 0.0),
    ("abs.f32", (-2.5,), 2.5),
    ("copysign.f32", (-1.0, 3.0), -3.0),  # the sign of the first
    ("ex2.approx.ftz.f32", (3.0,), 8.0),
    ("ex2.approx.ftz.f32", (-130.0,), 0.0),  # a subnormal result
    ("ex2.approx.ftz.f32", (-INF,), 0.0),
    ("ex2.approx.ftz.f32", (TINY,), 1.0),
    ("ex2.approx.f32", (-130.0,), 2.0**-130),
    ("cvt.rzi.s32.f32", (-1.9,), 0xFFFFFFFF),
    ("cvt.rzi.s32.f32", (3e9,), 0x7FFFFFFF),
    ("cvt.rzi.s32.f32", (-3e9,), 0x80000000),
    ("cvt.rzi.s32.f32", (NAN,), 0),
    ("cvt.rzi.s16.f32", (-1.9,), 0xFFFF),
    ("cvt.rzi.s16.f32", (4e4,), 0x7FFF),
    ("cvt.rn.f32.s16", (0xFFFE,), -2.0),
    ("cvt.rn.f32.s32", (2**24 + 1,), 2.0**24),
    ("cvt.rn.f32.s32", (2**24 + 3,), 2.0**24 + 4),
    ("cvt.rn.f32.u32", (0xFFFFFFFF,), 2.0**32),
    ("cvt.s16.s8", (0x1280,), 0xFF80),
    ("cvt.s8.s32", (0x12345680,), 0xFF80),  # its sign fills the register
    ("cvt.s32.s16", (0x12348000,), 0xFFFF8000),
    ("cvt.s64.s32", (-2,), -2 & (1 << 64) - 1),
    ("cvt.u16.u32", (0x12345678,), 0x5678),
    ("cvt.u32.u16", (0xFFFF,), 0xFFFF),
    ("cvt.u32.u64", (0x1_23456789,), 0x23456789),
    ("cvt.u64.u32", (0xFFFFFFFF,), 0xFFFFFFFF),
    ("cvt.rmi.ftz.f32.f32", (-1.5,), -2.0),
    ("cvt.rmi.ftz.f32.f32", (-TINY,), -0.0),  # flushed first
    ("cvt.f32.bf16", (0x3F80,), 1.0),
    ("cvt.rn.bf16.f32", (1.0 + 2.0**-8,), 0x3F80),  # ties to even
    ("cvt.rn.bf16.f32", (1.0 + 3 * 2.0**-8,), 0x3F82),
    ("cvt.rn.bf16.f32", (NAN,), 0x7FFF),
    ("cvt.rn.bf16x2.f32", (2.0, 1.0), 0x40003F80),  # the first is the upper half
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands", "want"), ROWS, ids=lambda v: str(v))
def test_results(op, operands, want):
    operation = arithmetic.OPERATIONS[op]
    result = register(operation.result)
    found = one(op.partition(",")[0], operands, [register(k) for k in operation.operands], result)
    width = {"pred": 1, "b16": 16, "b32": 32, "b64": 64}[result]
    assert hex(found) == hex(
        bits(want, "b32")[0] if isinstance(want, float) else want & (1 << width) - 1
    )


def test_sums_of_wide_products():
    for op, a, want in (("mad.wide.s32", -2, 4), ("mad.wide.u32", 2, 16)):
        out, _ = run(
            f"""
	ld.global.b32 {{ %r1 }}, [ %rd93 + 0 ];
	mov.b64 %rd1, 10;
	{op} %rd2, %r1, 3, %rd1;
	cvt.u32.u64 %r2, %rd2;
	st.global.b32 [ %rd94 + 0 ], {{ %r2 }};""",
            [[a] * 32],
        )
        assert out[0, 0] == want


def test_every_instruction_has_a_row():
    text = Path(__file__).read_text() + Path(__file__).with_name("test_warps.py").read_text()
    known = {
        *arithmetic.OPERATIONS, *products.PRODUCTS, *arithmetic.SHUFFLES, *arithmetic.REDUCTIONS,
    }  # fmt: skip
    rows = {op for op, *_ in ROWS}
    assert {op for op in known if op not in rows and op not in text} == set()


def test_unknown_instructions_are_errors():
    for body in ("here: ret;", "mov.b32 %r1, elsewhere;", "sin.approx.f32 %r1, %r2;",
                 "ld.global.nc.b32 { %r1 }, [ %rd93 + 0 ];",
                 "atom.global.add.u32 %r1, [ %rd93 ], 1;", "bar.sync 1;", "vote.sync.any.pred %p1;",
                 "add.s32 %r1, %rs1, %r2;"):  # fmt: skip
        with pytest.raises(PtxError):
            run(body)
    with pytest.raises(PtxError):
        parse("nothing at all")


def test_registers_keep_what_is_not_a_number():
    for value in (PAYLOAD, 0xFFC00001, 0x80000000):
        out, _ = run(
            "ld.global.b32 { %r1 }, [ %rd93 + 0 ];\n mov.b32 %r2, %r1;\n"
            "st.global.b32 [ %rd94 + 0 ], { %r2 };", [[value] * 32],
        )  # fmt: skip
        assert (out[:, 0] == value).all()


@pytest.mark.parametrize(("steps", "want"), [(0, 8.0), (2, 8 + 2.0**-19), (-2, 8 - 2.0**-20)])
def test_approximate_results_have_neighbours(steps, want):
    out, _ = run(
        "ld.global.b32 { %r1 }, [ %rd93 + 0 ];\n ex2.approx.ftz.f32 %r2, %r1;\n"
        "st.global.b32 [ %rd94 + 0 ], { %r2 };", [[bits(3.0, "b32")[0]] * 32],
        schedule=Schedule(steps=steps),
    )  # fmt: skip
    got = out[0, 0].view(np.float32)
    assert got == np.nextafter(np.nextafter(np.float32(8), np.float32(want)), np.float32(want))


def test_text_names_its_source():
    kernel = parse(HEAD.format(threads=32) + "\t.loc 1 7 3\n add.s32 %r1, %r2, %r3;\n ret;\n}\n"
                   '\n\t.file\t1 "/somewhere/cuba.py"\n')  # fmt: skip
    assert re.search(r"add\.s32 .*\(cuba\.py:7\)", "\n".join(map(str, kernel.code)))


def test_tensors_of_torch_are_the_memory(monkeypatch):
    x = torch.arange(4.0)
    storage = x.untyped_storage()
    from ptx.launcher import _buffer

    np.frombuffer(_buffer(storage), np.float32)[2] = 9
    assert x.tolist() == [0, 1, 9, 3]
