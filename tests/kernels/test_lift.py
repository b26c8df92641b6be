"""Lifting of step functions and loops to Numba: what is folded, and that an edit is seen."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from lapilli.kernels.executors import dispatch
from lapilli.kernels.executors.loops import cpu_loop, lift
from lapilli.kernels.numbers.language import jit, tl

BITS = tl.constexpr(12)
FACTOR = 3


@jit
def _narrowed(a, b):
    return (a * b + (a << BITS)) >> 1


@jit
def _chosen(x, y):
    return tl.where(x > y, tl.abs(x), -y) * 0.1


@jit
def _nested(a, b):
    return _narrowed(a, b) + FACTOR


@jit
def _cast(x):
    return (x * 2.5).to(tl.int32)


@jit
def _ordered(a, b, DESCENDING: tl.constexpr):
    lower = tl.minimum(a, b)
    a = tl.maximum(a, b)
    if DESCENDING:
        return a, lower
    else:
        return lower, a


@jit
def _halved(x, a):
    x = x * 0.5
    return x + a


@jit
def _signed(x, n):
    return tl.where(x == x, x * n + 0.5, float("nan"))


@cpu_loop
def _read_loop(first, last, x, out, SHIFT: bool, MORE: tl.constexpr, CARE: int):
    for i in range(first, last):
        out[i + SHIFT] = x[i] + np.float32(CARE + MORE)


ROOM = 4


@cpu_loop
def _scratch_loop(first, last, x, out):
    total, part = np.zeros(ROOM, np.float32), np.empty(ROOM, np.float32)
    part[:] = 0
    for i in range(first, last):
        part[i] += x[i]
        total[i] += part[i]
    part[:], out[:] = 0, 0
    for i in range(first, last):
        out[i] = total[i] * np.float32(2) + part[i]


@cpu_loop
def _adding_loop(first, last, x, sum0, sum1, N, C):
    for n in range(first, last):
        for c in range(C):
            y = x[n, c] + x[n, c]
            if sum0 is not None:
                y += sum0[n, c]
            if sum1 is not None:
                sum1[n, c] = y


@cpu_loop
def _sorted_loop(first, last, x, y, SHAPE: tl.constexpr, DESCENDING: tl.constexpr):
    for i in range(first, last):
        a = x[i]
        a, y[i] = _ordered(a, y[i], DESCENDING)
        x[i] = SHAPE(SHAPE(a, np.float32(0)), a)


@jit
def _early(x):
    if x > 0.0:
        return x
    return -x


@cpu_loop
def _early_loop(first, last, x):
    for i in range(first, last):
        x[i] = _early(x[i])


@cpu_loop
def _lazy_loop(first, last, x, y):
    for i in range(first, last):
        x[i] = _halved(y[i + 1], x[i]) if i > 0 else x[i]


@cpu_loop
def _optional_loop(
    first, last, x, bias, out, SQUARE: tl.constexpr, STEPS: tl.constexpr
):  # fmt: skip
    for i in range(first, last):
        y = x[i]
        if bias is not None:
            y += bias[i]
        out[i] = y * y if SQUARE else y
        for _ in range(STEPS):
            out[i] += np.float32(1)


def text_of(cache: Path) -> str:
    (module,) = cache.glob("*/*.py")
    return module.read_text()


def test_operations_stay_in_32_bits(cache):
    a, b = np.int32(2**20 + 7), np.int32(2**13)
    wrapped = (int(a) * int(b) + (int(a) << 12)) & 0xFFFFFFFF
    wrapped -= (wrapped >> 31) << 32
    assert lift(_narrowed)(a, b) == wrapped >> 1


def test_constants_are_float32(cache):
    got = lift(_chosen)(np.float32(-3), np.float32(1))
    assert got == np.float32(-1) * np.float32(0.1)


def test_steps_and_constants_that_are_named_come_along(cache):
    assert lift(_nested)(np.int32(4), np.int32(6)) == ((4 * 6 + (4 << 12)) >> 1) + 3
    text = text_of(cache)
    assert "FACTOR = 3" in text
    assert "BITS = 12" in text
    assert text.count("def ") == 1, "a step that is called stands where it is called"


def test_cast_truncates(cache):
    assert [lift(_cast)(np.float32(x)) for x in (0.9, -0.9)] == [2, -2]


def test_flags_and_absent_arguments_are_folded(cache):
    x, bias, out = (
        np.array([1, 2, 3], np.float32),
        np.array([10, 20, 30], np.float32),
        np.empty(3, np.float32),
    )
    _optional_loop.specialise((False, True, False), (True, 0))(0, 3, x, out)
    assert out.tolist() == [1, 4, 9]
    text = text_of(cache)
    assert "bias" not in text
    assert " if " not in text
    _optional_loop.specialise((False, False, False), (False, 2))(0, 2, x, bias, out)
    assert out.tolist() == [13, 24, 9], "the last one is outside [first, last)"


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_states_may_be_absent_from_one_call_to_the_next(before, after, cache):
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    sum0, sum1 = torch.full((2, 3), 10.0), torch.full((2, 3), -1.0)
    loop = cpu_loop(_adding_loop.fn)
    for given in ((None, None), (sum0 if before else None, sum1 if after else None)):
        dispatch.run_loop(loop, 2, 0, (x, *given, 2, 3))
    ends = x * 2 + 10 if before else x * 2
    assert sum1.tolist() == (ends if after else torch.full((2, 3), -1.0)).tolist()
    assert len(list(cache.glob("*/*.py"))) == 1


def test_flags_that_are_read_are_no_constants(cache):
    _, constants = _read_loop.divided((True, 5, False))
    loop = _read_loop.specialise((False, False), constants)
    assert constants == (5,)
    for shift, care in ((0, 0), (1, 0), (1, 7)):
        out = np.zeros(3, np.float32)
        loop(0, 2, np.array([1, 2], np.float32), out, shift, care)
        want = np.zeros(3)
        want[shift : shift + 2] = [1 + care + 5, 2 + care + 5]
        assert out.tolist() == want.tolist()
    assert len(list(cache.iterdir())) == 1
    assert _read_loop.divided((True, 5, False))[0] == (True, False)


def test_each_expression_is_one_function(cache):
    assert lift(_signed)(np.float32(-3), np.int32(4)) == np.float32(-3 * 4 + 0.5)
    assert np.isnan(lift(_signed)(np.float32("nan"), np.int32(4)))
    text = next(t for t in (p.read_text() for p in cache.glob("*/*.py")))
    body = text.partition("def _signed")[2]
    assert "multiply" in text
    assert not any(name in body for name in ("where(", "multiply(", "add(", "float32("))


def test_scratch_is_on_the_stack(cache):
    loop = _scratch_loop.specialise((False, False), ())
    out = np.full(3, 9, np.float32)
    for _ in range(2):
        loop(0, 3, np.array([1, 2, 3], np.float32), out)
        assert out.tolist() == [2, 4, 6]
    text = text_of(cache)
    assert "np.empty" not in text
    assert "np.zeros" not in text
    assert "_nrt=False" in text


def test_states_lie_in_order():
    with pytest.raises(AssertionError):
        dispatch.run_loop(_adding_loop, 2, 0, (torch.ones(2, 3), torch.ones(3, 2).t(), None, 2, 3))
    state = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(AssertionError, match="float64"):
        dispatch.run_loop(_adding_loop, 2, 0, (torch.ones(2, 3), state, None, 2, 3))


@pytest.mark.parametrize("descending", [False, True])
def test_steps_stand_where_they_are_called(descending, cache):
    x, y = np.array([1, 5], np.float32), np.array([2, 3], np.float32)
    _sorted_loop.specialise((False, False), (_halved, descending))(0, 2, x, y)
    low, high = np.array([1, 3], np.float32), np.array([2, 5], np.float32)
    first, second = (high, low) if descending else (low, high)
    assert y.tolist() == second.tolist()
    assert x.tolist() == (first / 4 + first).tolist()
    text = text_of(cache)
    assert text.count("def ") == 1
    assert " if " not in text


def test_step_that_may_return_before_its_end_is_refused(cache):
    with pytest.raises(NotImplementedError, match=r"'_early' returns within 'if .* each branch"):
        _early_loop.specialise((False,), ())


def test_call_that_may_not_happen_is_refused(cache):
    with pytest.raises(NotImplementedError, match=r"'_halved\(.* if i > 0.* in a statement before"):
        _lazy_loop.specialise((False, False), ())


def test_a_combination_is_compiled_once(cache):
    loop = cpu_loop(_optional_loop.fn)
    first = loop.specialise((False, False, False), (True, 0))
    assert loop.specialise((False, False, False), (True, 0)) is first
    assert loop.specialise((False, False, False), (False, 0)) is not first


def test_edit_of_a_helper_changes_the_folder(cache, monkeypatch):
    def folders():
        lift(_nested)
        return set(cache.iterdir())

    original = folders()
    assert folders() == original
    monkeypatch.setitem(globals(), "FACTOR", 4)  # a constant that a step names
    edited = folders()
    assert len(edited) == 2
    source = inspect.getsource

    def edited_source(obj):  # the text of a nested step
        return source(obj).replace(">> 1", ">> 2") if obj is _narrowed.fn else source(obj)

    monkeypatch.setattr(inspect, "getsource", edited_source)
    assert len(folders()) == 3
    assert lift(_nested)(np.int32(4), np.int32(6)) == ((4 * 6 + (4 << 12)) >> 2) + 4


EXECUTORS = Path(dispatch.__file__).parent
CALLED = {*EXECUTORS.glob("*_ops.py"), *EXECUTORS.glob("vector*.py")}
CALLED.remove(EXECUTORS / "vector_ops.py")  # names what is in others


@pytest.mark.parametrize("name", sorted(path.stem for path in CALLED))
def test_edit_of_what_loops_call_changes_the_folder(name, cache, monkeypatch):
    lift(_cast)
    source = inspect.getsource

    def edited_source(obj):
        edited = getattr(obj, "__name__", "") == f"lapilli.kernels.executors.{name}"
        return source(obj) + "\n# edited" if edited else source(obj)

    monkeypatch.setattr(inspect, "getsource", edited_source)
    lift(_cast)
    assert len(list(cache.iterdir())) == 2
