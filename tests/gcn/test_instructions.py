"""Each instruction against values that were worked out by hand from AMD's description of it."""

import re
from pathlib import Path

import numpy as np
import pytest
from ptx.memory import Fault, Watched
from ptx.schedule import TENSOR_BITS, Counts, Schedule

from gcn import arithmetic, machine, program
from gcn.machine import Machine
from gcn.program import Program
from gcn.text import GcnError, parse

SETTINGS = {**program._SETTINGS, "user_sgpr_count": 16, "user_sgpr_kernarg_preload_length": 0}
HEAD = """\t.type\tkernel,@function
kernel:
	s_load_dwordx4 s[4:7], s[0:1], 0x0
	s_waitcnt lgkmcnt(0)
	v_lshlrev_b32_e32 v1, 6, v0
"""
TAIL = """
	s_endpgm
	.section	.rodata
{settings}
amdhsa.kernels:
"""


def run(body, given=(), lanes=64, schedule=None, shared=1024, head=HEAD, **settings):
    """Run a body on 64 bytes of input and output a lane; return outputs, as uint32.

    v1 is where a lane's input and output are, from s[4:5] and s[6:7].
    """
    lines = [f"\t.amdhsa_{n} {v}" for n, v in {**SETTINGS, **settings}.items()]
    text = head + body + TAIL.format(settings="\n".join(lines))
    data, out = np.zeros((lanes, 16), np.uint32), np.zeros((lanes, 16), np.uint32)
    for k, column in enumerate(given):
        data[:, k] = column
    tensors = {
        k: Watched(x.reshape(-1).view(np.uint8), 4, name, lanes, np.ones(x.nbytes, bool),
                   np.ones(x.size, bool), shared_by_programs=True)
        for k, (name, x) in enumerate((("input", data), ("output", out)), 1)
    }  # fmt: skip
    arguments = np.array([k << TENSOR_BITS for k in (1, 2, 3, 4)], np.uint64)
    Machine(
        Program(parse(text)), (1, 1, 1), range(1), lanes, arguments, tensors, shared,
        schedule or Schedule(), Counts(),
    ).run()  # fmt: skip
    return out


def words(value, count):
    """Return a value as 32-bit words, lowest first."""
    if isinstance(value, float):
        value = int(np.float32(value).view(np.uint32))
    return [value >> 32 * k & 0xFFFFFFFF for k in range(count)]


WIDTHS = {"u64": 2, "i64": 2}


def pair(letter, number, count):
    return f"{letter}{number}" if count == 1 else f"{letter}[{number}:{number + 1}]"


def vector(op, operands):
    """Run a vector instruction; return its results as numbers, a mask as 0 or 1."""
    operation = arithmetic.VECTOR[op]
    body, names = [], []
    for k, (value, kind) in enumerate(zip(operands, operation.operands, strict=True)):
        if kind == "mask":
            body.append(f"s_mov_b64 s[30:31], {-value}")
            names.append("s[30:31]")
            continue
        count = WIDTHS.get(kind, 1)
        parts = words(value, count)
        body += [f"v_mov_b32_e32 v{10 + 2 * k + j}, {hex(p)}" for j, p in enumerate(parts)]
        names.append(pair("v", 10 + 2 * k, count))
    targets = []
    for k, kind in enumerate(operation.results):
        letter, count = ("s", 2) if kind == "mask" else ("v", WIDTHS.get(kind, 1))
        targets.append(pair(letter, 20 + 2 * k, count))
    body.append(f"{op} {', '.join([*targets, *names])}")
    widths = []
    for k, kind in enumerate(operation.results):
        if kind == "mask":
            body.append(f"v_cndmask_b32_e64 v{20 + 2 * k}, 0, 1, {targets[k]}")
        widths.append(WIDTHS.get(kind, 1))
        for j in range(widths[-1]):
            at = 4 * (2 * k + j)
            body.append(f"global_store_dword v1, v{20 + 2 * k + j}, s[6:7] offset:{at}")
    out = run("\n".join(f"\t{line}" for line in body))
    assert (out == out[0]).all()
    return [
        sum(int(out[0, 2 * k + j]) << 32 * j for j in range(width))
        for k, width in enumerate(widths)
    ]


def scalar(op, operands, condition):
    """Run a scalar instruction; return its result, if it has one, and the condition bit."""
    operation = arithmetic.SCALAR[op]
    kinds = [k for k in operation.operands if k != "condition"]
    body, names = [], []
    for k, (value, kind) in enumerate(zip(operands, kinds, strict=True)):
        count = WIDTHS.get(kind, 1)
        parts = words(value, count)
        body += [f"s_mov_b32 s{20 + 2 * k + j}, {hex(p)}" for j, p in enumerate(parts)]
        names.append(pair("s", 20 + 2 * k, count))
    body.append(f"s_cmp_eq_u32 {condition}, 1")
    kind = operation.results[0]
    count = 0 if kind == "mask" else WIDTHS.get(kind, 1)
    target = [pair("s", 30, count)] if count else []
    body.append(f"{op} {', '.join([*target, *names])}")
    body.append("s_cselect_b32 s34, 1, 0")
    for j, register in enumerate([*range(30, 30 + count), 34]):
        body.append(f"v_mov_b32_e32 v20, s{register}")
        body.append(f"global_store_dword v1, v20, s[6:7] offset:{4 * j}")
    out = run("\n".join(f"\t{line}" for line in body))[0]
    found = [sum(int(out[j]) << 32 * j for j in range(count))] if count else []
    return [*found, int(out[count])]


INF, NAN, TINY = float("inf"), float("nan"), 2.0**-149
M1 = 0xFFFFFFFF
BIG = 0xFFFFFFFF_FFFFFFFF
VECTORS = [
    ("v_add_u32", (M1, 2), 1),
    ("v_sub_u32", (1, 2), M1),
    ("v_subrev_u32", (1, 3), 2),
    ("v_add3_u32", (M1, 2, 3), 4),
    ("v_mul_lo_u32", (0x10001, 0x10001), 0x20001),
    ("v_mul_hi_u32", (M1, M1), 0xFFFFFFFE),
    ("v_mul_hi_i32", (M1, 2), M1),  # -1 times 2
    ("v_mul_i32_i24", (0x01FFFFFF, 3), -3 & M1),  # the upper bits do not count
    ("v_mad_i32_i24", (0x00FFFFFF, 3, 5), 2),  # -1 times 3
    ("v_mad_u32_u24", (0x00FFFFFF, 3, 5), 0x3000002),
    ("v_max_i32", (M1, 1), 1),
    ("v_max_u32", (M1, 1), M1),
    ("v_min_i32", (M1, 1), M1),
    ("v_min_u32", (M1, 1), 1),
    ("v_max3_i32", (5, M1, 3), 5),
    ("v_max3_i32", (M1, 3, 7), 7),
    ("v_med3_i32", (5, M1, 3), 3),
    ("v_med3_i32", (1, 2, 3), 2),
    ("v_med3_i32", (M1, 7, 9), 7),
    ("v_mad_u64_u32", (M1, M1, 5), [0xFFFFFFFE_00000006, 0]),
    ("v_mad_u64_u32", (1, 1, BIG), [0, 1]),  # with a carry
    ("v_and_b32", (0b1100, 0b1010), 0b1000),
    ("v_or_b32", (0b1100, 0b1010), 0b1110),
    ("v_xor_b32", (0b1100, 0b1010), 0b0110),
    ("v_or3_b32", (1, 2, 4), 7),
    ("v_bfrev_b32", (0x80000003,), 0xC0000001),
    ("v_lshlrev_b32", (33, 3), 6),  # the amount comes first, and counts modulo 32
    ("v_lshrrev_b32", (4, 0x80000000), 0x08000000),
    ("v_ashrrev_i32", (4, 0x80000000), 0xF8000000),
    ("v_lshlrev_b64", (4, 0xF0000000), 0xF_00000000),
    ("v_lshl_or_b32", (3, 4, 1), 0x31),
    ("v_lshl_add_u32", (3, 2, M1), 11),
    ("v_lshl_add_u64", (BIG, 2, 5), 1),  # -1 times 4 and 5
    ("v_mov_b32", (7,), 7),
    ("v_mov_b64", (0x123456789A,), 0x123456789A),
    ("v_cndmask_b32", (3, 4, 0), 3),
    ("v_cndmask_b32", (3, 4, 1), 4),
    *((f"v_cmp_{c}_{t}", (M1, 1), want) for t, wants in
      (("i32", "110001"), ("u32", "001101"))
      for c, want in zip(("lt", "le", "gt", "ge", "eq", "ne"), map(int, wants), strict=True)),
    *((f"v_cmp_{c}_f32", (-0.0, 0.0), want) for c, want in
      zip(("lt", "le", "gt", "ge", "eq"), (0, 1, 0, 1, 1), strict=True)),
    *((f"v_cmp_{c}_f32", (NAN, 0.0), 0) for c in ("lt", "le", "gt", "ge", "eq", "o")),
    *((f"v_cmp_{c}_f32", (NAN, 0.0), 1) for c in ("nlt", "nle", "ngt", "nge", "neq", "u")),
    *((f"v_cmp_{c}_f32", (1.0, 2.0), want) for c, want in
      zip(("nlt", "nle", "ngt", "nge", "neq", "o", "u"), (0, 0, 1, 1, 1, 1, 0), strict=True)),
    ("v_add_f32", (1.0, 2.0**-24), 1.0),  # a tie, to even
    ("v_add_f32", (TINY, TINY), 2.0**-148),
    ("v_sub_f32", (1.0, 3.0), -2.0),
    ("v_subrev_f32", (1.0, 3.0), 2.0),
    ("v_mul_f32", (2.0**-100, 2.0**-49), TINY),
    ("v_fma_f32", (1.0 + 2.0**-23, 1.0 + 2.0**-23, -(1.0 + 2.0**-22)), 2.0**-46),
    ("v_max_f32", (-0.0, 0.0), 0.0),
    ("v_max_f32", (NAN, 1.0), 1.0),
    ("v_min_f32", (-0.0, 0.0), -0.0),
    ("v_min_f32", (1.0, NAN), 1.0),
    ("v_med3_f32", (3.0, 1.0, 2.0), 2.0),
    ("v_med3_f32", (NAN, 1.0, 2.0), 1.0),  # the least
    ("v_floor_f32", (-1.5,), -2.0),
    ("v_floor_f32", (-TINY,), -1.0),
    ("v_rcp_f32", (3.0,), 0x3EAAAAAB),
    ("v_rcp_iflag_f32", (0.25,), 4.0),
    ("v_exp_f32", (3.0,), 8.0),
    ("v_exp_f32", (-130.0,), 0.0),  # a subnormal result
    # of the denominator or the numerator, and whether the quotient is scaled back
    ("v_div_scale_f32", (3.0, 3.0, 1.0), [3.0, 0]),
    ("v_div_scale_f32", (1.0, 3.0, 1.0), [1.0, 0]),
    ("v_div_scale_f32", (2.0**-20, 2.0**-20, 2.0**90), [2.0**44, 1]),
    ("v_div_scale_f32", (2.0**90, 2.0**-20, 2.0**90), [2.0**90, 1]),
    ("v_div_scale_f32", (TINY, TINY, 2.0**-100), [2.0**-85, 0]),
    ("v_div_scale_f32", (2.0**127, 2.0**127, 2.0**127), [2.0**63, 0]),
    ("v_div_scale_f32", (2.0**-110, 2.0**20, 2.0**-110), [2.0**-46, 1]),
    ("v_div_fixup_f32", (0.5, 2.0, 1.0), 0.5),
    ("v_div_fixup_f32", (0.5, -2.0, 1.0), -0.5),
    ("v_div_fixup_f32", (NAN, 0.0, -1.0), -INF),
    ("v_div_fixup_f32", (NAN, INF, 1.0), 0.0),
    ("v_div_fixup_f32", (1.0, 2.0**100, 2.0**-60), 0.0),
    ("v_cvt_f32_i32", (-(2**24) - 1 & M1,), -(2.0**24)),
    ("v_cvt_f32_u32", (M1,), 2.0**32),
    ("v_cvt_i32_f32", (-1.9,), M1),
    ("v_cvt_i32_f32", (3e9,), 0x7FFFFFFF),
    ("v_cvt_i32_f32", (NAN,), 0),
    ("v_cvt_u32_f32", (3e9,), 3_000_000_000),
    ("v_cvt_u32_f32", (-1.0,), 0),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands", "want"), VECTORS, ids=str)
def test_vector_instructions(op, operands, want):
    want = want if isinstance(want, list) else [want]
    want = [words(w, 1)[0] if isinstance(w, float) else w for w in want]
    assert [hex(v) for v in vector(op, operands)] == [hex(w) for w in want]


# results, and the condition bit, which was 1 before
SCALARS = [
    ("s_add_i32", (0x7FFFFFFF, 1), [0x80000000, 1]),
    ("s_add_i32", (M1, 1), [0, 0]),
    ("s_sub_i32", (0x80000000, 1), [0x7FFFFFFF, 1]),
    ("s_sub_i32", (0, 1), [M1, 0]),
    ("s_add_u32", (M1, 1), [0, 1]),
    ("s_addc_u32", (1, 1), [3, 0]),
    ("s_mul_i32", (M1, 3), [-3 & M1, 1]),
    ("s_mul_hi_i32", (M1, 3), [M1, 1]),
    ("s_mul_hi_u32", (M1, 3), [2, 1]),
    ("s_min_i32", (M1, 1), [M1, 1]),
    ("s_min_i32", (3, 2), [2, 0]),
    ("s_abs_i32", (M1,), [1, 1]),
    ("s_abs_i32", (0,), [0, 0]),
    ("s_mov_b32", (7,), [7, 1]),
    ("s_mov_b64", (0x123456789A,), [0x123456789A, 1]),
    *((f"s_{op}_b{w}", (a << w - 32, b << w - 32), [r << w - 32, bit]) for w in (32, 64)
      for op, a, b, r, bit in (("and", 12, 10, 8, 1), ("and", 12, 3, 0, 0), ("andn2", 12, 10, 4, 1),
                               ("or", 12, 10, 14, 1), ("xor", 12, 12, 0, 0))),
    ("s_cselect_b32", (3, 4), [3, 1]),
    ("s_cselect_b64", (3, 4), [3, 1]),
    ("s_lshl_b32", (1, 32), [1, 1]),
    ("s_lshl_b64", (1, 32), [1 << 32, 1]),
    ("s_lshr_b32", (M1, 31), [1, 1]),
    ("s_ashr_i32", (0x80000000, 31), [M1, 1]),
    ("s_bfe_i32", (0x01000000, 0x10018), [M1, 1]),  # one bit from bit 24: its own sign
    ("s_bfe_i32", (0x70, 0x40004), [7, 1]),
    ("s_brev_b32", (1,), [0x80000000, 1]),
    ("s_bitcmp0_b32", (4, 2), [0]),
    ("s_bitcmp1_b32", (4, 2), [1]),
    *((f"s_cmp_{c}_{t}", (M1, 1), [want]) for t, wants in (("i32", "110001"), ("u32", "001101"))
      for c, want in zip(("lt", "le", "gt", "ge", "eq", "lg"), map(int, wants), strict=True)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands", "want"), SCALARS, ids=str)
def test_scalar_instructions(op, operands, want):
    assert [hex(v) for v in scalar(op, operands, 1)] == [hex(w) for w in want]


def test_condition_bit_chooses():
    assert scalar("s_cselect_b32", (3, 4), 0) == [4, 0]
    assert scalar("s_addc_u32", (1, 1), 0) == [2, 0]


def test_every_instruction_has_a_row():
    rows = {op for op, *_ in (*VECTORS, *SCALARS)}
    others = {"v_div_fmas_f32"}  # below
    assert {*arithmetic.VECTOR, *arithmetic.SCALAR} == rows | others
    text = Path(__file__).read_text()
    assert all(op in text for op in (*arithmetic.PACKED, *program._LOADS, *program._ACCESSES))


DIVIDE = """
	global_load_dword v10, v1, s[4:5]
	global_load_dword v11, v1, s[4:5] offset:4
	s_waitcnt vmcnt(0)
	v_div_scale_f32 v12, s[8:9], v11, v11, v10
	v_rcp_f32_e32 v13, v12
	v_div_scale_f32 v14, vcc, v10, v11, v10
	v_fma_f32 v15, -v12, v13, 1.0
	v_fmac_f32_e32 v13, v15, v13
	v_mul_f32_e32 v15, v14, v13
	v_fma_f32 v16, -v12, v15, v14
	v_fmac_f32_e32 v15, v16, v13
	v_fma_f32 v12, -v12, v15, v14
	v_div_fmas_f32 v12, v12, v13, v15
	v_div_fixup_f32 v12, v12, v11, v10
	global_store_dword v1, v12, s[6:7]
"""


@pytest.mark.parametrize("steps", [0, 1, -1])
def test_divisions_are_rounded_correctly(steps):
    """As the compiler writes them, from an approximate reciprocal, over the whole range."""
    random = np.random.default_rng(0)
    a, b = ((random.integers(1, 255, 4096).astype(np.uint32) << 23)
            | random.integers(0, 1 << 23, 4096).astype(np.uint32) for _ in range(2))  # fmt: skip
    with np.errstate(all="ignore"):
        want = a.view(np.float32) / b.view(np.float32)
    normal = (want >= 2.0**-126) & np.isfinite(want)
    assert normal.sum() > 2000
    for k in range(0, 4096, 64):
        out = run(DIVIDE, [a[k : k + 64], b[k : k + 64]], schedule=Schedule(steps=steps))
        good = out[:, 0] == want[k : k + 64].view(np.uint32)
        assert good[normal[k : k + 64]].all()


@pytest.mark.parametrize(("steps", "want"), [(0, 0x3EAAAAAB), (1, 0x3EAAAAAB), (-1, 0x3EAAAAAA)])
def test_approximate_results_lie_on_either_side(steps, want):
    out = run("""
	v_mov_b32_e32 v10, 0x40400000
	v_rcp_f32_e32 v10, v10
	v_exp_f32_e32 v11, 4.0
	global_store_dword v1, v10, s[6:7]
	global_store_dword v1, v11, s[6:7] offset:4""", schedule=Schedule(steps=steps))  # fmt: skip
    assert (out[:, 0] == want).all()
    assert (out[:, 1] == floats(16.0)).all()  # exact


def floats(*values):
    return np.array(values, np.float32).view(np.uint32)


PAIRS = """
	v_mov_b32_e32 v10, 1.0
	v_mov_b32_e32 v11, 2.0
	v_mov_b32_e32 v12, 4.0
	v_mov_b32_e32 v13, -0.5
	{op} v[14:15], v[10:11], {second} {modifiers}
	global_store_dword v1, v14, s[6:7]
	global_store_dword v1, v15, s[6:7] offset:4
"""


@pytest.mark.parametrize(
    ("op", "second", "modifiers", "want"),
    [
        ("v_pk_add_f32", "v[12:13]", "", (5.0, 1.5)),
        ("v_pk_mul_f32", "v[12:13]", "", (4.0, -1.0)),
        ("v_pk_mul_f32", "v[12:13]", "op_sel:[0,1] op_sel_hi:[1,0]", (-0.5, 8.0)),
        ("v_pk_mul_f32", "v[12:13]", "op_sel_hi:[0,1]", (4.0, -0.5)),
        ("v_pk_add_f32", "v[12:13]", "neg_lo:[0,1] neg_hi:[1,0]", (-3.0, -2.5)),
        ("v_pk_mul_f32", "4.0", "op_sel_hi:[1,0]", (4.0, 8.0)),
        ("v_pk_mov_b32", "v[12:13]", "op_sel:[1,0]", (2.0, 4.0)),
    ],
)
def test_pairs(op, second, modifiers, want):
    out = run(PAIRS.format(op=op, second=second, modifiers=modifiers))
    assert (out[:, :2] == floats(*want)).all()


def test_upper_half_of_a_constant_is_unknown():
    with pytest.raises(GcnError, match="upper half"):
        run(PAIRS.format(op="v_pk_mul_f32", second="4.0", modifiers=""))


def test_signs_of_operands():
    out = run("""
	v_mov_b32_e32 v10, -2.0
	v_mul_f32_e64 v11, |v10|, -v10
	v_add_f32_e64 v12, -|v10|, v10
	global_store_dword v1, v11, s[6:7]
	global_store_dword v1, v12, s[6:7] offset:4""")
    assert (out[:, :2] == floats(4.0, -4.0)).all()


LANE = np.arange(64)
DPP = [
    ("row_shr:1 row_mask:0xf bank_mask:0xf bound_ctrl:1", np.where(LANE % 16, LANE - 1, 0)),
    ("row_shr:4 row_mask:0xf bank_mask:0xf", np.where(LANE % 16 > 3, LANE - 4, 100 + LANE)),
    ("row_bcast:15 row_mask:0xa bank_mask:0xf",
     np.where(LANE // 16 % 2 == 1, LANE // 16 * 16 - 1, 100 + LANE)),
    ("row_bcast:31 row_mask:0xc bank_mask:0xf", np.where(LANE > 31, 31, 100 + LANE)),
    ("quad_perm:[1,0,3,2] row_mask:0xf bank_mask:0xf", LANE ^ 1),
    ("quad_perm:[2,3,0,1] row_mask:0xf bank_mask:0x5",
     np.where(LANE // 4 % 2 == 0, LANE ^ 2, 100 + LANE)),
]  # fmt: skip


@pytest.mark.parametrize(("how", "want"), DPP, ids=[h for h, _ in DPP])
def test_lanes_read_their_neighbours(how, want):
    out = run(f"""
	v_add_u32_e32 v10, 100, v0
	v_mov_b32_dpp v10, v0 {how}
	global_store_dword v1, v10, s[6:7]""")
    assert out[:, 0].tolist() == want.tolist()


def test_lanes_that_are_off_give_nothing():
    out = run("""
	v_add_u32_e32 v10, 100, v0
	v_cmp_ne_u32_e32 vcc, 5, v0
	s_and_saveexec_b64 s[8:9], vcc
	v_max_i32_dpp v10, v0, v0 quad_perm:[1,1,1,1] row_mask:0xf bank_mask:0xf
	s_or_b64 exec, exec, s[8:9]
	global_store_dword v1, v10, s[6:7]""")
    want = np.maximum(LANE // 4 * 4 + 1, LANE)
    want[4:8] = 104, 105, 106, 107  # lane 5 is off: it neither gives nor takes
    assert out[:, 0].tolist() == want.tolist()


def test_one_lane_for_all():
    out = run("""
	v_cmp_lt_u32_e32 vcc, 6, v0
	s_and_saveexec_b64 s[8:9], vcc
	v_readfirstlane_b32 s20, v0
	v_readlane_b32 s21, v0, 3
	s_mov_b64 exec, s[8:9]
	v_mov_b32_e32 v10, s20
	v_mov_b32_e32 v11, s21
	global_store_dword v1, v10, s[6:7]
	global_store_dword v1, v11, s[6:7] offset:4""")
    assert (out[:, :2] == [7, 3]).all()


def test_masks_of_lanes():
    """A mask inside a mask, and its other lanes."""
    out = run("""
	v_mov_b32_e32 v10, 0
	v_cmp_gt_u32_e32 vcc, 8, v0
	s_and_saveexec_b64 s[8:9], vcc
	s_cbranch_execz .LBB0_2
	v_add_u32_e32 v10, 1, v10
	v_cmp_gt_u32_e64 s[10:11], 4, v0
	s_and_saveexec_b64 s[12:13], s[10:11]
	v_add_u32_e32 v10, 2, v10
	s_or_b64 exec, exec, s[12:13]
.LBB0_2:
	s_andn2_saveexec_b64 s[8:9], s[8:9]
	v_mov_b32_e32 v10, 7
	s_or_b64 exec, exec, s[8:9]
	global_store_dword v1, v10, s[6:7]
""")
    assert out[:, 0].tolist() == np.where(LANE < 4, 3, np.where(LANE < 8, 1, 7)).tolist()


@pytest.mark.parametrize(("op", "taken"), [
    ("s_branch", True), ("s_cbranch_scc0", False), ("s_cbranch_scc1", True),
    ("s_cbranch_vccz", True), ("s_cbranch_vccnz", False),
    ("s_cbranch_execz", False), ("s_cbranch_execnz", True),
])  # fmt: skip
def test_branches(op, taken):
    out = run(f"""
	s_mov_b64 vcc, 0
	v_mov_b32_e32 v10, 1
	s_cmp_eq_u32 0, 0
	{op} .LBB0_1
	v_mov_b32_e32 v10, 2
.LBB0_1:
	global_store_dword v1, v10, s[6:7]""")
    assert (out[:, 0] == (1 if taken else 2)).all()


WAVES = """
	v_lshlrev_b32_e32 v2, 2, v0
	v_readfirstlane_b32 s20, v0
	s_cmp_eq_u32 s20, 0
	s_cbranch_scc1 .LBB0_1
	v_mov_b32_e32 v10, 5
	ds_write_b32 v2, v10
.LBB0_1:
	s_waitcnt lgkmcnt(0)
	{barrier}
	v_xor_b32_e32 v2, 0x100, v2
	s_cbranch_scc0 .LBB0_2
	ds_read_b32 v11, v2
	s_waitcnt lgkmcnt(0)
	global_store_dword v1, v11, s[6:7]
.LBB0_2:
"""


@pytest.mark.parametrize("warps", ["together", "forward", "backward", "shuffled"])
def test_waves_part_and_share_memory(warps):
    out = run(WAVES.format(barrier="s_barrier"), lanes=128, schedule=Schedule(warps))
    assert (out[:64, 0] == 5).all()
    with pytest.raises(Fault) as found:
        run(WAVES.format(barrier="s_nop 0"), lanes=128, schedule=Schedule(warps))
    assert found.value.kind in ("race", "unwritten")


FAULTS = {
    "in flight": "\tglobal_load_dword v10, v1, s[4:5]\n\tv_mov_b32_e32 v11, v10",
    "in flight, in any order": "\ts_load_dword s20, s[0:1], 0x0\n"
                               "\ts_load_dword s21, s[0:1], 0x0\n\ts_waitcnt lgkmcnt(1)\n"
                               "\ts_mov_b32 s22, s20",
    "in flight, one too few": "\tglobal_load_dword v10, v1, s[4:5]\n"
                              "\tglobal_load_dword v11, v1, s[4:5]\n\ts_waitcnt vmcnt(1)\n"
                              "\tv_mov_b32_e32 v12, v11",
    "in flight, overwritten": "\tglobal_load_dword v10, v1, s[4:5]\n\tv_mov_b32_e32 v10, 0",
    "in flight, at a barrier": "\tds_write_b32 v1, v0\n\ts_barrier",
    "outside": "\tglobal_load_dword v10, v1, s[4:5] offset:4092",
    "outside, of the arguments": "\ts_load_dwordx2 s[20:21], s[0:1], 0x1c",
    "outside, of shared memory": "\tv_mov_b32_e32 v2, 0x1000\n\tds_read_b32 v3, v2",
    "misaligned": "\tglobal_load_dword v10, v1, s[4:5] offset:2",
    "unwritten": "\tds_read_b32 v10, v1",
    "race": "\tv_mov_b32_e32 v2, 0\n\tglobal_store_dword v2, v0, s[6:7]",
    "endless": ".LBB0_1:\n\ts_branch .LBB0_1",
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_watched(fault, monkeypatch):
    monkeypatch.setattr(machine, "LONGEST", 1000)
    with pytest.raises(Fault) as found:
        run(FAULTS[fault], shared=64 * 64)
    assert found.value.kind == fault.partition(",")[0]


def test_waits_let_the_last_accesses_fly():
    out = run("""
	global_load_dword v10, v1, s[4:5]
	global_load_dword v11, v1, s[4:5] offset:4
	s_waitcnt vmcnt(1)
	global_store_dword v1, v10, s[6:7]
	s_waitcnt vmcnt(1)
	global_store_dword v1, v11, s[6:7] offset:4""", [LANE, LANE + 1])  # fmt: skip
    assert (out[:, 0] == LANE).all()
    assert (out[:, 1] == LANE + 1).all()


@pytest.mark.parametrize(
    ("op", "registers"),
    [("s_load_dword", "s20"), ("s_load_dwordx2", "s[19:20]"), ("s_load_dwordx4", "s[17:20]"),
     ("s_load_dwordx8", "s[13:20]")],
)  # fmt: skip
def test_loads_of_arguments(op, registers):
    count = program._LOADS[op]
    out = run(f"""
	{op} {registers}, s[0:1], {32 - 4 * count}
	s_waitcnt lgkmcnt(0)
	v_mov_b32_e32 v10, s20
	global_store_dword v1, v10, s[6:7]""")
    assert (out[:, 0] == 4 << TENSOR_BITS - 32).all()  # the upper half of the last


@pytest.mark.parametrize(("copies", "want"), [("early", 1), ("late", 2)])
def test_arguments_are_in_registers_or_loaded(copies, want):
    """Where they are in registers the first instructions, up to a branch, are left out."""
    head = (
        HEAD.partition("\ts_load")[0]
        + """
	s_load_dwordx2 s[2:3], s[0:1], 0x8
	s_load_dwordx2 s[4:5], s[0:1], 0x8
	s_waitcnt lgkmcnt(0)
	s_branch .LBB0_0
.LBB0_0:
	v_lshlrev_b32_e32 v1, 6, v0
	s_lshr_b32 s20, s3, 4
	v_mov_b32_e32 v10, s20
	global_store_dword v1, v10, s[4:5]"""
    )
    out = run("", head=head, schedule=Schedule(copies=copies), user_sgpr_kernarg_preload_length=4)
    assert (out[:, 0] == want).all()  # the first argument, or the second in its place


@pytest.mark.parametrize("line", [
    "v_sin_f32_e32 v2, v0", "v_add_u32_sdwa v2, v0, v0 dst_sel:BYTE_0",
    "v_add_f32_e64 v2, v0, v0 clamp",
    "v_mul_f32_e64 v2, v0, v0 mul:2", "buffer_load_dword v2, v0, s[0:3], 0", "s_sleep 1",
    "v_mov_b32_dpp v2, v0 row_ror:1 row_mask:0xf bank_mask:0xf", "v_add_u32_e32 v2, -v0, v0",
    "global_load_dwordx2 v[2:3], v0, s[4:5]", "s_waitcnt expcnt(0)",
])  # fmt: skip
def test_unknown_instructions_are_errors(line):
    with pytest.raises(GcnError):
        run(f"\t{line}")


def test_other_settings_of_the_processor_are_errors():
    with pytest.raises(GcnError, match=re.escape(".amdhsa_float_denorm_mode_32 is 0; expected 3")):
        run("", float_denorm_mode_32=0)
