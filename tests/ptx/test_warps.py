"""Instructions of whole warps: shuffles, reductions, matrices and their products, by hand."""

import numpy as np
import pytest

from ptx import program
from ptx.bodies import LANES, run


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
    assert set(program.MATRIX_ACCESSES) == {
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
