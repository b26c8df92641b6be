"""Surrogate gradients of users: what is taken, and what is refused with its reason."""

import math
import os
import re
import textwrap
from pathlib import Path

import lapilli.kernels.executors.loops as loops
import lapilli.kernels.numbers.surrogate as surrogate_module
import pytest
import torch
from known import wrong
from lapilli.kernels.numbers.formula import name_of
from lapilli.kernels.numbers.surrogate import SURROGATES
from lapilli.kernels.recurrences.cuba import _cuba_bwd_kernel, cuba
from surrogates_of_users import gaussian, lopsided

import lapilli


def test_users_function_is_what_it_was():
    assert gaussian(0) == 1
    assert lopsided(0.75) == 0.5
    assert name_of(gaussian) == name_of("gaussian") == "gaussian"


def test_functions_of_users_call_nothing_slowly():
    """One name for each formula, so that what is compiled is never that of another."""
    first, second = (SURROGATES[n].shape.fn.__name__ for n in ("gaussian", "lopsided"))
    assert first != second
    assert first.startswith("gaussian_")


def refused(text, space=None):
    """Define a function from a text, as a surrogate, and return the error."""
    folder = Path(os.environ["PYTEST_SURROGATES"])
    file = folder / f"refused_{len(list(folder.iterdir()))}.py"
    file.write_text(textwrap.dedent(text))
    found = {"math": math, "__name__": "refused"} | (space or {})
    exec(compile(file.read_text(), str(file), "exec"), found)
    with pytest.raises(ValueError, match="surrogate") as error:
        lapilli.surrogate(found["mine"])
    assert "mine" not in SURROGATES
    return str(error.value)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_SURROGATES", str(tmp_path))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("for k in range(3): pass\n    return z", "only assignments"),
        ("return math.sin(z)", "'math.sin(z)': this function is not known"),
        ("return sinus(z)", "'sinus': this name is not known where the function is defined"),
        ("return z.abs()", "'z': this name is not known"),
        ("return z ** z", "this power is not known"),
        ("return z ** 9", "this power is not known"),
        ("return z // 2", "this operator is not known"),
        ("return 1 if z in (1, 2) else 0", "this comparison is not known"),
        ("return 1 if -1 < z < 1 else 0", "a condition is one comparison"),
        ("return 1 if not z > 0 else 0", "a condition is one comparison"),
        ("return 'high'", "this is str, not a number"),
        ("return z > 0", "this is not an expression of numbers"),
        ("return [z]", "this is not an expression of numbers"),
        ("return max(z)", "this function is not known"),
        ("return max(z, key=z)", "arguments are given by place"),
        ("return math.exp(-abs(z)) / math.inf", "this is not finite"),
        ("return z / (1 / 2 - 0.5) + 1 / 0", "division by zero"),
        ("z += 1\n    return z", "only assignments"),
        ("y = z", "it must end with a return"),
        ("return", "it must end with a return"),
    ],
)
def test_what_is_not_in_the_language_says_why(body, reason):
    message = refused(f"def mine(z):\n    {body}\n")
    assert reason in message
    assert "'mine', line" in message
    assert "math.exp and math.sqrt" in message  # what there is


@pytest.mark.parametrize("arguments", ["", "z, y", "z=0", "*z", "**z", "z, /", "*, z"])
def test_a_surrogate_has_one_argument(arguments):
    assert "one argument" in refused(f"def mine({arguments}):\n    return 1.0\n")


def test_a_surrogate_is_finite_and_not_zero():
    assert "'mine' is inf at 0.0; it must be finite" in refused("def mine(z): return 1 / abs(z)\n")
    assert "0 everywhere" in refused("def mine(z): return 0 * z\n")


def test_a_surrogate_is_a_function_with_a_source():
    with pytest.raises(ValueError, match="a surrogate is a function; got int"):
        lapilli.surrogate(wrong(3))
    space = {}
    exec("def nowhere(z): return 1.0", space)
    with pytest.raises(ValueError, match="'nowhere': its source cannot be read"):
        lapilli.surrogate(space["nowhere"])
    with pytest.raises(ValueError, match="must be defined with def"):
        lapilli.surrogate(lambda z: 1.0)


def test_built_in_names_are_taken():
    def arctan(z):
        return 1.0

    with pytest.raises(ValueError, match="'arctan' is built in"):
        lapilli.surrogate(arctan)


def test_another_formula_of_a_name_warns_and_is_used(monkeypatch):
    monkeypatch.setattr(surrogate_module, "SURROGATES", SURROGATES)
    monkeypatch.setitem(SURROGATES, "passing", None)
    del SURROGATES["passing"]

    def define(width):
        def passing(z):
            return max(1 - abs(z) / width, 0)

        return passing

    first = lapilli.surrogate(define(2.0))
    x = torch.full((1, 1, 1), 0.25, requires_grad=True)

    def gradient():
        y = cuba(x, torch.tensor([0.0]), torch.tensor([0.0]), 1.0, 4096, surrogate="passing")
        return torch.autograd.grad(y.sum(), x)[0].item()

    assert gradient() == pytest.approx(0.5 * (1 - 0.75 / 2), abs=1e-5)
    again = lapilli.surrogate(define(2.0))  # the same again says nothing
    assert name_of(first) == name_of(again) == "passing"
    with pytest.warns(UserWarning, match="'passing' had another formula"):
        last = lapilli.surrogate(define(1.0))
    assert gradient() == pytest.approx(0.5 * (1 - 0.75), abs=1e-5)
    assert name_of(last) == "passing"
    with pytest.raises(ValueError, match="has another formula by now"):
        name_of(first)


def test_an_unknown_name_lists_what_exists():
    x = torch.zeros(1, 1, 1)
    for given in ("exponentiel", "", 3, None, ["arctan"]):
        with pytest.raises(
            ValueError, match="expected one of 'exponential', 'fast_sigmoid'"
        ) as error:
            cuba(x, x[0, 0], x[0, 0], 1.0, 4096, surrogate=wrong(given))
        assert repr(given) in str(error.value)
        assert "import the module" in str(error.value)

    def unknown(z):
        return 1.0

    with pytest.raises(ValueError, match=r"decorate it with lapilli\.surrogate"):
        name_of(unknown)


def test_a_shape_stands_in_the_text_that_is_compiled():
    shape = SURROGATES["straight_through"].shape
    flags = {"GRADED": False, "SHIFT": False, "DECAYS": False, "SHAPE": shape}
    text = loops.loop_of(_cuba_bwd_kernel).text(["g_current", "g_voltage"], flags)
    assert re.search(r"where\(\(.* >= float32\(0.0\)\), float32\(1.0\), float32\(1.0\)\)", text)
