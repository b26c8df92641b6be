"""A few lines of AMD's assembly as the body of a kernel that each lane runs."""

import numpy as np
from ptx.memory import Watched
from ptx.schedule import TENSOR_BITS, Counts, Schedule

from gcn import arithmetic, program
from gcn.machine import Machine
from gcn.program import Program
from gcn.text import parse

SETTINGS = {**program.SETTINGS, "user_sgpr_count": 16, "user_sgpr_kernarg_preload_length": 0}
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


def floats(*values):
    return np.array(values, np.float32).view(np.uint32)
