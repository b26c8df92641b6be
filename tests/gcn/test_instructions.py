"""Each instruction against values that were worked out by hand from AMD's description of it."""

import re
from pathlib import Path

import numpy as np
import pytest
from ptx.schedule import Schedule

from gcn import arithmetic, program
from gcn.bodies import floats, run, scalar, vector, words
from gcn.text import GcnError

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
    text = Path(__file__).read_text() + Path(__file__).with_name("test_waves.py").read_text()
    assert all(op in text for op in (*arithmetic.PACKED, *program.LOADS, *program.ACCESSES))


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
