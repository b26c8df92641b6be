"""Each instruction against values that were worked out by hand from PTX's description of it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ptx import arithmetic, products, program
from ptx.launcher import program_of
from ptx.machine import Machine
from ptx.memory import Fault, Watched
from ptx.schedule import TENSOR_BITS, Counts, Schedule
from ptx.text import PtxError, parse

HEAD = """//
.version 8.7
.target sm_90a
.address_size 64
.extern .shared .align 16 .b8 global_smem[];
.visible .entry kernel(
	.param .u64 .ptr .global .align 1 kernel_param_0,
	.param .u64 .ptr .global .align 1 kernel_param_1
)
.reqntid {threads}
{{
	.reg .pred %p<9>;
	.reg .b16 %rs<9>;
	.reg .b32 %r<99>;
	.reg .b64 %rd<99>;
	ld.param.b64 %rd90, [kernel_param_0];
	ld.param.b64 %rd91, [kernel_param_1];
	mov.u32 %r90, %tid.x;
	mul.wide.u32 %rd92, %r90, 64;
	add.s64 %rd93, %rd90, %rd92;
	add.s64 %rd94, %rd91, %rd92;
"""


def run(body, given=(), threads=32, schedule=None, shared=4096, counting=False):
    """Run a body on 64 bytes of input and output a thread; return outputs, as uint32, and counts.

    %rd93 is where a thread's input is, %rd94 its output.
    """
    text = HEAD.format(threads=threads) + body + "\n\tret;\n}\n"
    data = np.zeros((threads, 16), np.uint32)
    for k, column in enumerate(given):
        data[:, k] = np.asarray(column).astype(np.uint32)
    out = np.zeros((threads, 16), np.uint32)
    tensors = {
        k: Watched(x.reshape(-1).view(np.uint8), 1, name, threads, np.ones(x.nbytes, bool),
                   np.ones(x.nbytes, bool), shared_by_programs=True)
        for k, (name, x) in enumerate((("input", data), ("output", out)), 1)
    }  # fmt: skip
    counts = Counts()
    Machine(
        program_of(text), (1, 1, 1), range(1),
        [np.uint64(k << TENSOR_BITS) for k in (1, 2)],
        tensors, shared, schedule or Schedule(), counts, counting,
    ).run()  # fmt: skip
    return out, counts


def bits(value, kind):
    """Return the low bits of a value as the words of a register, lowest first."""
    if isinstance(value, float):
        value = int(np.float32(value).view(np.uint32))
    return [value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF][: 2 if kind == "b64" else 1]


CLASSES = {"pred": "%p", "b16": "%rs", "b32": "%r", "b64": "%rd"}


def one(op, operands, kinds, result):
    """Run one instruction on operands of register types; return its result as an integer."""
    given, load, names = [], [], []
    for k, (value, kind) in enumerate(zip(operands, kinds, strict=True)):
        name = f"{CLASSES[kind]}{k + 1}"
        names.append(name)
        at = 4 * len(given)
        given += bits(value, kind)
        if kind == "b64":
            load.append(f"ld.global.v2.b32 {{ %r50, %r51 }}, [ %rd93 + {at} ];")
            load.append(f"mov.b64 {name}, {{ %r50, %r51 }};")
        elif kind == "pred":
            load += [
                f"ld.global.b32 {{ %r50 }}, [ %rd93 + {at} ];",
                f"setp.ne.b32 {name}, %r50, 0;",
            ]
        elif kind == "b16":
            load += [f"ld.global.b32 {{ %r50 }}, [ %rd93 + {at} ];", f"cvt.u16.u32 {name}, %r50;"]
        else:
            load.append(f"ld.global.b32 {{ {name} }}, [ %rd93 + {at} ];")
        if kind == "b64" and len(given) % 2:
            raise AssertionError("operands of 64 bits come first")
    target = f"{CLASSES[result]}8"
    store = {
        "pred": "selp.b32 %r60, 1, 0, %p8;\n st.global.b32 [ %rd94 + 0 ], { %r60 };",
        "b16": "cvt.u32.u16 %r60, %rs8;\n st.global.b32 [ %rd94 + 0 ], { %r60 };",
        "b32": "st.global.b32 [ %rd94 + 0 ], { %r8 };",
        "b64": "mov.b64 { %r60, %r61 }, %rd8;\n"
        "st.global.b32 [ %rd94 + 0 ], { %r60 };\n st.global.b32 [ %rd94 + 4 ], { %r61 };",
    }[result]
    out, _ = run("\n".join([*load, f"{op} {target}, {', '.join(names)};", store]), given)
    assert (out == out[0]).all()
    return int(out[0, 0]) | int(out[0, 1]) << 32


def register(kind):
    """Return the type of the registers that hold a type."""
    if kind == "pred":
        return kind
    size = np.dtype(arithmetic.TYPES[kind]).itemsize
    return f"b{max(16, 8 * size)}"


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
    ("abs.s32", (-5,), 5),
    ("neg.s32", (5,), 0xFFFFFFFB),
    ("mul.wide.s32", (-1, 5), -5 & (1 << 64) - 1),
    ("mul.wide.u32", (0xFFFFFFFF, 2), 0x1FFFFFFFE),
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
    text = Path(__file__).read_text()
    known = {
        *arithmetic.OPERATIONS, *products.PRODUCTS, *arithmetic._SHUFFLES, *arithmetic._REDUCTIONS,
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


# Instructions of whole warps

LANES = np.arange(32)


def whole(body, given):
    out, _ = run(body, given)
    return out


@pytest.mark.parametrize(
    ("op", "b", "c", "want"),
    [
        ("shfl.sync.bfly.b32", 5, 31, LANES ^ 5),
        ("shfl.sync.up.b32", 3, 0, np.where(LANES < 3, LANES, LANES - 3)),
        ("shfl.sync.down.b32", 3, 31, np.where(LANES > 28, LANES, LANES + 3)),
        ("shfl.sync.idx.b32", 7, 31, np.full(32, 7)),
        ("shfl.sync.idx.b32", 1, 31 | 28 << 8, LANES // 4 * 4 + 1),  # in segments of four
    ],
)
def test_shuffles(op, b, c, want):
    out = whole(
        f"ld.global.b32 {{ %r1 }}, [ %rd93 + 0 ];\n {op} %r2, %r1, {b}, {c}, -1;\n"
        "st.global.b32 [ %rd94 + 0 ], { %r2 };", [LANES + 100],
    )  # fmt: skip
    assert (out[:, 0] == want + 100).all()


@pytest.mark.parametrize(
    ("op", "want"), [("redux.sync.max.s32", 15), ("redux.sync.min.s32", -16 & 0xFFFFFFFF)]
)
def test_reductions(op, want):
    out = whole(
        f"ld.global.b32 {{ %r1 }}, [ %rd93 + 0 ];\n {op} %r2, %r1, -1;\n"
        "st.global.b32 [ %rd94 + 0 ], { %r2 };", [(LANES - 16).astype(np.int64)],
    )  # fmt: skip
    assert (out[:, 0] == want).all()


STORE_ROWS = """
	shl.b32 %r1, %r90, 4;
	mov.b32 %r2, global_smem;
	add.s32 %r3, %r1, %r2;
	ld.global.v4.b32 { %r4, %r5, %r6, %r7 }, [ %rd93 + 0 ];
	st.shared.v4.b32 [ %r3 + 0 ], { %r4, %r5, %r6, %r7 };
	bar.sync 0;
"""


@pytest.mark.parametrize("many", [1, 2, 4])
@pytest.mark.parametrize("trans", ["", ".trans"])
def test_matrices_are_loaded_by_the_layout_of_fragments(many, trans):
    # 32 rows of 16 bytes, one a thread; the entry of matrix m, row r and column c is 64 m + 8 r + c
    entries = np.arange(256, dtype=np.uint32).reshape(32, 4, 2)
    given = (entries[..., 0] | entries[..., 1] << 16).T
    registers = ", ".join(f"%r{10 + k}" for k in range(many))
    op = f"ldmatrix.sync.aligned.m8n8.x{many}{trans}.shared.b16"
    stores = "\n".join(f"st.global.b32 [ %rd94 + {4 * k} ], {{ %r{10 + k} }};" for k in range(many))
    out = whole(f"{STORE_ROWS}\n{op} {{{registers}}}, [%r3];\n{stores}", given)
    group, place = LANES // 4, LANES % 4
    for m in range(many):
        for half in range(2):
            got = out[:, m] >> 16 * half & 0xFFFF
            if trans:  # entries of a column
                want = 64 * m + 8 * (2 * place + half) + group
            else:
                want = 64 * m + 8 * group + 2 * place + half
            assert (got == want).all()


def test_names_of_matrix_accesses():
    """Those that the parametrised tests run."""
    assert set(program._MATRIX) == {
        f"{way}.sync.aligned.m8n8.x{n}{t}.shared.b16"
        for way in ("ldmatrix", "stmatrix") for n in (1, 2, 4) for t in ("", ".trans")
    }  # fmt: skip


@pytest.mark.parametrize("many", [1, 2, 4])
@pytest.mark.parametrize("trans", ["", ".trans"])
def test_matrices_are_stored_as_they_are_loaded(many, trans):
    registers = ", ".join(f"%r{10 + k}" for k in range(many))
    again = ", ".join(f"%r{20 + k}" for k in range(many))
    names = [f"{w}.sync.aligned.m8n8.x{many}{trans}.shared.b16" for w in ("ldmatrix", "stmatrix")]
    loads = "\n".join(f"ld.global.b32 {{ %r{10 + k} }}, [ %rd93 + {4 * k} ];" for k in range(many))
    stores = "\n".join(f"st.global.b32 [ %rd94 + {4 * k} ], {{ %r{20 + k} }};" for k in range(many))
    given = np.random.default_rng(0).integers(0, 2**32, (many, 32))
    out = whole(
        f"""
	shl.b32 %r1, %r90, 4;
	mov.b32 %r2, global_smem;
	add.s32 %r3, %r1, %r2;
	{loads}
	{names[1]} [%r3], {{{registers}}};
	bar.sync 0;
	{names[0]} {{{again}}}, [%r3];
	{stores}""", given,
    )  # fmt: skip
    assert (given == out[:, :many].T).all()


def fragments(matrix, where, each):
    """Registers of a matrix, given the place ``[lane, entry]`` of each entry."""
    entries = matrix[where[0], where[1]]
    packed = np.zeros((32, entries.shape[1] // each), np.uint64)
    for k in range(entries.shape[1]):
        packed[:, k // each] |= entries[:, k].astype(np.uint64) << np.uint64(
            32 // each * (k % each)
        )
    return packed.T


def product(op, a, b, c):
    names = [[f"%r{10 + k}" for k in range(len(a))], [f"%r{20 + k}" for k in range(len(b))],
             [f"%r{30 + k}" for k in range(4)], [f"%r{40 + k}" for k in range(4)]]  # fmt: skip
    flat = [n for part in names[:3] for n in part]
    loads = "\n".join(f"ld.global.b32 {{ {n} }}, [ %rd93 + {4 * k} ];" for k, n in enumerate(flat))
    stores = "\n".join(
        f"st.global.b32 [ %rd94 + {4 * k} ], {{ {n} }};" for k, n in enumerate(names[3])
    )
    parts = ", ".join("{ " + ", ".join(names[k]) + " }" for k in (3, 0, 1, 2))
    return whole(f"{loads}\n{op} {parts};\n{stores}", [*a, *b, *c])[:, :4]


GROUP, PLACE = LANES[:, None] // 4, LANES[:, None] % 4


def places(rows, columns):
    """Stack lists of places ``[lane, 1]`` as ``[lane, entry]``."""
    return np.concatenate(rows, 1), np.concatenate(columns, 1)


# as the figures of the ISA draw them: of a 16 x 32 matrix of bytes, four in a register
BYTES_A = places(
    [GROUP + 8 * (r % 2) + 0 * PLACE for r in range(4) for _ in range(4)],
    [4 * PLACE + b + 16 * (r // 2) for r in range(4) for b in range(4)],
)
BYTES_B = places(
    [4 * PLACE + b + 16 * r for r in range(2) for b in range(4)], [GROUP for _ in range(8)]
)
HALVES_A = places(
    [GROUP + 8 * (r % 2) for r in range(4) for _ in range(2)],
    [2 * PLACE + b + 8 * (r // 2) for r in range(4) for b in range(2)],
)
HALVES_B = places(
    [2 * PLACE + b + 8 * r for r in range(2) for b in range(2)], [GROUP for _ in range(4)]
)
SUMS = places([GROUP, GROUP, GROUP + 8, GROUP + 8], [2 * PLACE + b for b in (0, 1, 0, 1)])


def test_product_of_bytes():
    random = np.random.default_rng(0)
    a, b = random.integers(-128, 128, (16, 32)), random.integers(-128, 128, (32, 8))
    c = random.integers(-1000, 1000, (16, 8))
    c[0, 0], c[15, 7] = 2**31 - 1, -(2**31)
    a[0], b[:, 0], a[15], b[:, 7] = 127, 127, -128, 127  # both sums leave the range
    out = product(
        "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32",
        fragments(a & 255, BYTES_A, 4), fragments(b & 255, BYTES_B, 4),
        fragments(c & 0xFFFFFFFF, SUMS, 1),
    )  # fmt: skip
    want = np.clip(a @ b + c, -(2**31), 2**31 - 1)
    assert want[0, 0] == 2**31 - 1
    assert want[15, 7] == -(2**31)
    assert (out.view(np.int32) == want[SUMS[0], SUMS[1]]).all()


def test_product_of_bfloat16():
    random = np.random.default_rng(0)
    a, b = random.integers(-8, 8, (16, 16)), random.integers(-8, 8, (16, 8))
    c = random.integers(-99, 99, (16, 8)).astype(np.float32)

    def half(x):
        return x.astype(np.float32).view(np.uint32) >> 16

    out = product(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        fragments(half(a), HALVES_A, 2), fragments(half(b), HALVES_B, 2),
        fragments(c.view(np.uint32), SUMS, 1),
    )  # fmt: skip
    assert (out.view(np.float32) == (a @ b + c)[SUMS[0], SUMS[1]]).all()


# Control flow, copies and what is watched


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


def shared(warps="together", write=WRITE, barrier=BARRIER, read=READ, **more):
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
