"""Lanes and waves: neighbours, masks, branches, shared memory, what is watched, loads."""

import numpy as np
import pytest
from ptx.memory import Fault
from ptx.schedule import TENSOR_BITS, Schedule

from gcn import machine, program
from gcn.bodies import HEAD, run

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
    count = program.LOADS[op]
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
