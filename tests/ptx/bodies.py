"""A few lines of PTX as the body of a kernel that each thread runs on numbers of its own."""

from typing import Any

import numpy as np

from ptx import arithmetic
from ptx.launcher import program_of
from ptx.machine import Machine
from ptx.memory import Watched
from ptx.schedule import TENSOR_BITS, Counts, Schedule

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
    program: Any = program_of(text)
    Machine(
        program, (1, 1, 1), range(1),
        [np.uint64(k << TENSOR_BITS) for k in (1, 2)],
        tensors, shared, schedule or Schedule(), counts, counting,
    ).run()  # fmt: skip
    return out, counts


def bits(value, kind):
    """Return the low bits of a value as the words of a register, lowest first."""
    if isinstance(value, float):
        value = int(np.float32(value).view(np.uint32))
    return [value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF][: 2 if kind == "b64" else 1]


LANES = np.arange(32)  # of a warp
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
