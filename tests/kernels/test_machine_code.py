"""Reading machine code: loops, what a pass executes, and cycles worked out by hand."""

import pytest
from lapilli.kernels.proof.machine_code import issue_slots, read_amd, read_nvidia, warp_cycles


def sass(*lines):
    """Print instructions as nvdisasm does: (text, stall, scoreboard written, scoreboards awaited).

    A line that is a string is a label.
    """
    printed, address = [], 0
    for line in lines:
        if isinstance(line, str):
            printed.append(f"{line}:")
            continue
        text, stall, written, waits = line
        upper = (waits << 11 | 7 << 8 | written << 5 | stall) << 41
        printed.append(f"        /*{address:04x}*/        {text} ;     /* 0x{0:016x} */")
        printed.append(f"                                       /* 0x{upper:016x} */")
        address += 16
    return "\n".join(printed)


def ops(trace):
    return [instruction.op for instruction in trace]


WALK = sass(
    ("S2R R0, SR_TID.X", 1, 0, 0),
    (".L_x_0"),
    ("LDG.E R2, [R4.64]", 2, 0, 0),
    ("@P1 LDG.E.64 R6, [R4.64+0x8]", 2, 0, 0),
    ("IADD3 R2, R2, R6, RZ", 4, 7, 0b1),
    ("STG.E [R8.64], R2", 1, 7, 0),
    ("@P0 BRA `(.L_x_0)", 5, 7, 0),
    ("EXIT", 1, 7, 0),
    (".L_x_1"),
    ("BRA `(.L_x_1)", 0, 7, 0),
)


def test_nvidia_loop():
    code = read_nvidia(WALK)
    assert code.loops == {1: {1, 2, 3, 4, 5}}
    assert code.main == 1
    trace = code.one_pass()
    assert ops(trace) == ["LDG.E", "LDG.E.64", "IADD3", "STG.E", "BRA"]
    assert [i.load for i in trace] == [4, 8, 0, 0, 0]
    assert [i.store for i in trace] == [0, 0, 0, 4, 0]


@pytest.mark.parametrize(("memory", "cycles"), [(0, 2 + 2 + 4 + 1 + 5), (100, 102 + 4 + 1 + 5)])
def test_warp_waits_for_the_last_load_of_a_scoreboard(memory, cycles):
    # the second load is issued in cycle 2
    assert warp_cycles(read_nvidia(WALK).one_pass(), memory, amd=False) == cycles


# as the AMD backend lays it out: the end of the loop before its start, a guarded access behind it
SCATTERED = """
    s_mov_b32 s0, 0
    s_branch .LBB0_2
.LBB0_1:                                ; in Loop
    s_or_b64 exec, exec, s[2:3]
    s_cbranch_scc0 .LBB0_5
.LBB0_2:                                ; in Loop
    global_load_dword v1, v[2:3], off
    s_cbranch_execnz .LBB0_4
.LBB0_3:
    s_waitcnt vmcnt(0)
    v_exp_f32_e32 v1, v1
    s_branch .LBB0_1
.LBB0_4:
    global_store_dwordx2 v[4:5], v[2:3], off
    s_branch .LBB0_3
.LBB0_5:
    s_endpgm
"""


def test_amd_loop_is_followed_wherever_it_lies():
    code = read_amd(SCATTERED)
    (body,) = code.loops.values()
    assert body == {2, 3, 4, 5, 6, 7, 8, 9, 10}
    assert sorted(ops(code.one_pass())) == sorted(code.instructions[k].op for k in body)
    trace = code.one_pass()
    assert ops(trace)[:4] == [
        "global_load_dword", "s_cbranch_execnz", "global_store_dwordx2", "s_branch"
    ]  # fmt: skip
    assert [i.load for i in trace if i.load] == [4]
    assert [i.store for i in trace if i.store] == [8]


def test_amd_waits_for_accesses_in_order():
    trace = read_amd(SCATTERED).one_pass()
    # nine instructions of 4 cycles, of which v_exp takes 16
    assert warp_cycles(trace, 0, amd=True) == 9 * 4 + 12
    # the wait is over 100 cycles after the load; the write, issued 8 after it, takes 50
    assert warp_cycles(trace, 100, amd=True) == 100 + 4 + 16 + 3 * 4
    # three instructions are vector ones for memory or scalar; v_exp is worth four
    assert issue_slots(trace, "gfx942", amd=True) == 4


NESTED = sass(
    (".L_x_0"),
    ("LDG.E R2, [R4.64]", 1, 0, 0),
    (".L_x_1"),
    ("HMMA.16816.F32.BF16 R8, R4, R6, R8", 4, 7, 0),
    ("@P0 BRA `(.L_x_1)", 5, 7, 0),
    ("HMMA.16816.F32.BF16 R8, R4, R6, R8", 4, 7, 0),
    ("STG.E [R8.64], R2", 1, 7, 0),
    ("@P1 BRA `(.L_x_0)", 5, 7, 0),
    ("EXIT", 1, 7, 0),
)


def test_matrix_products_settle_how_often_an_inner_loop_runs():
    code = read_nvidia(NESTED)
    assert code.main == 0
    once = 16 * 8 * 16
    for k in (1, 2, 5):
        trace = code.passes((k + 1) * once)
        assert ops(trace).count("HMMA.16816.F32.BF16") == k + 1
        assert len(trace) == 4 + 2 * k
    with pytest.raises(ValueError, match=f"has {2 * once} matrix products, {once} of them in"):
        code.passes(3 * once + 1)
    with pytest.raises(ValueError, match="no number of passes gives 0"):
        code.passes(0)


def test_matrix_units_can_be_busier_than_the_schedulers():
    trace = read_nvidia(NESTED).passes(6 * 16 * 8 * 16)
    assert len(trace) == 14
    assert issue_slots(trace, "sm_80", amd=False) == 6 * 2048 / 256
    assert issue_slots(trace, "sm_90", amd=False) == 6 * 2048 / 512
    assert issue_slots(trace[:2], "sm_80", amd=False) == 2048 / 256
    assert issue_slots(trace[:1], "sm_80", amd=False) == 1


@pytest.mark.parametrize(
    ("op", "products", "operand"),
    [
        ("IMMA.16832.S8.S8", 4096, "8 bits"),
        ("HMMA.16816.F32.BF16", 2048, "16 bits"),
        ("HMMA.1688.F32.TF32", 1024, "32 bits"),
        ("v_mfma_i32_16x16x32_i8", 8192, "8 bits"),
        ("v_mfma_f32_16x16x16_bf16", 4096, "16 bits"),
        ("v_mfma_f32_16x16x4_f32", 1024, "32 bits"),
        ("IMAD.WIDE", 0, None),
    ],
)
def test_matrix_instructions(op, products, operand):
    (instruction,) = (
        read_amd(f" {op} v[0:3], v[4:5]") if op[0] == "v" else read_nvidia(sass((op, 1, 7, 0)))
    ).instructions
    assert instruction.products == products
    if operand:
        assert instruction.operand == operand


def test_code_without_a_loop_is_one_pass():
    code = read_nvidia(sass(("LDG.E.U8 R0, [R2.64]", 1, 7, 0), ("@P0 EXIT", 1, 7, 0),
                            ("STG.E.128 [R2.64], R4", 1, 7, 0), ("EXIT", 1, 7, 0)))  # fmt: skip
    assert code.main is None
    trace = code.passes(0)
    assert len(trace) == 4
    assert (trace[0].load, trace[2].store) == (1, 16)
