"""The language of loops that are written for LLVM without Numba (llvm_code.py).

Each function runs twice: as Python, and compiled.
"""

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from lapilli.kernels.executors.llvm_code import code_of  # noqa: E402
from lapilli.kernels.executors.loop_ops import clear, scratch, state_at  # noqa: E402
from numba.core.errors import TypingError  # noqa: E402

EIGHT = 8


def loops(x, y, z, n):
    k = np.int64(0)
    for i in range(n):
        y[i] = i
    for i in range(n, n):
        y[i] = 100
    for i in range(20, 12, -1):
        y[i] = k
        k += 1
    for i in range(0, 12, EIGHT):
        y[i] = 7


def conditions(x, y, z, n):
    for i in range(30):
        if i % 3 == 1:
            continue
        if i < n:
            y[i] = 5
        else:
            y[i] = 6
            z[i] = i == 20


def a_turn_left_from_within(x, y, z, n):
    for i in range(5):
        for k in range(6):
            if k > i:
                if k == 4:
                    continue
                y[6 * i + k] = 1
            y[6 * i + k] = y[6 * i + k] + k


def whole_numbers(x, y, z, n):
    a, b = np.int64(17), np.int64(5)
    if n > 0:
        a, b = b, a
    y[0], y[1], y[2] = a, b, b // a
    y[3] = b % a * 3 - a
    y[4], y[5] = min(a, b), max(a, b - 100)
    y[6] = np.int32(x[1, 2, 3])
    y[7] = -3


def numbers_of_32_bits_in_one_of_64(x, y, z, n):
    far = np.int64(1) * 2147483647
    if n > 0:
        far = n
    y[0] = far
    y[1] = np.int64(2147483647) * 2 // 1000


def rows(x, y, z, n):
    for i in range(2):
        for t in range(3):
            row = x[i, t, 1:4]
            other = x[1 - i, 2 - t, 0:3] if t == 1 else row
            for k in range(2):
                row[k] = other[k + 1]
    flat = x.reshape(-1)
    for k in range(30):
        y[k] = np.int32(flat[k])


def a_name_of_two_uses(x, y, z, n):
    for i in range(3):
        y[i] = 1
    i = np.int64(9)
    y[i] = 2
    i += 1
    y[i] = 3
    for i in range(12, 15):
        y[i] = i


def put(y, first, value, more):
    """Be called by others."""
    for i in range(more):
        y[first + i] = value


def functions(x, y, z, n):
    put(y, n, 3, 4)
    put(y, 20, n, 2)
    put(z, 0, n > 0, n)


def values(n):
    x = (np.arange(30, dtype=np.float32) * 3 % 17).reshape(2, 3, 5)
    return x, np.arange(100, 130, dtype=np.int32), np.zeros(30, np.bool_), np.int32(n)


def compiled(function, *types):
    code = code_of(function)
    taken = ", ".join(function.__code__.co_varnames[: function.__code__.co_argcount])
    found = {"code": code}
    exec(f"def call({taken}):\n    code({taken})", found)
    return numba.njit(error_model="numpy")(found["call"])


@pytest.mark.parametrize("n", [6, 0])
@pytest.mark.parametrize(
    "function",
    [
        loops, conditions, a_turn_left_from_within, whole_numbers, rows, a_name_of_two_uses,
        functions, numbers_of_32_bits_in_one_of_64,
    ],
)  # fmt: skip
def test_it_does_what_python_does(function, n):
    want, got = values(n), values(n)
    function(*want)
    compiled(function)(*got)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(got[:3], values(n)[:3], strict=True))


def states(first_address, last_address, n):
    first0 = state_at(first_address, 1, n)
    first1 = state_at(last_address, 1, n)
    kept = scratch(EIGHT, np.float32)
    for i in range(n):
        kept[i] = first0[0, i]
    for i in range(n):
        first1[0, i] = kept[n - 1 - i]


def test_states_may_share_their_memory():
    memory = np.arange(8, dtype=np.float32)
    address = memory.ctypes.data
    compiled(states)(address, address, 8)
    np.testing.assert_array_equal(memory, np.arange(8)[::-1])


def copies(x, y):
    clear(y)
    for i in range(8):
        y[i] = x[i] + x[i + 1]


def test_vectors_need_no_comparison_of_addresses():
    loop = compiled(copies)
    loop(np.arange(9, dtype=np.int32), np.zeros(8, np.int32))
    (text,) = loop.inspect_llvm().values()
    assert "memcheck" not in text
    assert "noalias" in text


def _while(x):
    while x[0] < 3:
        x[0] += 1


def _other_type(x):
    k = np.int64(0)
    for i in range(3):
        k = x[i]
    x[0] = k


def _unknown(x):
    x[0] = np.sin(x[1])


def _real(x):
    x[0] = x[1] + 1


def _quotient(x):
    x[0] = 3 / 2


def _missing(x):
    x[0] = EIGHTY  # noqa: F821  # pyright: ignore[reportUndefinedVariable] (in no module)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_while, r"cannot contain `while x\[0\] < 3"),
        (_other_type, "k is of type int64, and is given float32"),
        (_real, r"`x\[1\]` is float32, not a whole number"),
        (_quotient, "cannot contain `3 / 2`"),
        (_missing, "cannot contain `EIGHTY`"),
        (_unknown, r"cannot contain `np.sin\(x\[1\]\)`"),
    ],
)
def test_what_is_not_in_the_language_is_named(function, words):
    with pytest.raises(TypingError, match=words):
        compiled(function)(np.zeros(4, np.float32))
