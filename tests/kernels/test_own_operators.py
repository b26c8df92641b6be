"""What a neuron of a user's own gets wrong raises, and says what is given and what is expected."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from known import present, wrong
from lapilli.kernels.executors import trace
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.recurrences import alif, cuba, recurrent, sigma
from lapilli.kernels.toolkit import derivative, jit, kernel_op, to_rows
from torch import Tensor

FILE = Path(__file__).parents[2] / "examples" / "own_neuron.py"


@pytest.fixture(scope="module")
def own():
    spec = present(importlib.util.spec_from_file_location("own_neuron", FILE))
    module = sys.modules["own_neuron"] = importlib.util.module_from_spec(spec)
    present(spec.loader).exec_module(module)
    return module


X, BETA = torch.rand(2, 9, 5), torch.tensor([0.9])
CALLS = {  # what is wrong, and what is said of it
    "float64": (
        (X, BETA.double(), 1.0, 0.5, True),
        r"beta is of torch\.float64; .*beta\.float\(\)",
    ),
    "a half": ((X.half(), BETA, 1.0, 0.5, True), r"x is of torch\.float16; .*x\.float\(\)"),
    "two axes": (
        (X, BETA.view(1, 1), 1.0, 0.5, True),
        r"beta has shape \(1, 1\) for 5 .*\[1\], or",
    ),
    "no axis": ((X, BETA[0], 1.0, 0.5, True), r"beta has shape \(\) for 5 neurons; expected \[1\]"),
    "three of five": ((X, torch.ones(3), 1.0, 0.5, True), r"beta has shape \(3,\) for 5 neurons"),
    "no sample": ((X[0], BETA, 1.0, 0.5, True), r"first of x has shape \(9, 5\).*to_rows\(x\)"),
    "None": ((None, BETA, 1.0, 0.5, True), "x is None; expected a tensor"),
    "a number": ((X, BETA, 1.0, 0.5, 1.5), r"save is 1\.5; expected bool"),
    "too few": ((X, BETA, 1.0, 0.5), "lif_fwd takes 5 arguments, x, beta, .* got 4"),
}


@pytest.mark.parametrize("wrong", CALLS)
def test_a_wrong_call(own, wrong):
    arguments, words = CALLS[wrong]
    with pytest.raises((TypeError, ValueError), match=words):
        own.lif_fwd(*arguments)


def test_a_module_in_float64_says_to_stay_in_float32(own):
    with pytest.raises(TypeError, match="leave the module in float32"):
        own.LIF().double()(torch.rand(2, 5, 9))


def test_rows_may_be_strided(own):
    x = X.transpose(1, 2).contiguous().transpose(1, 2)
    for arguments in ((x, BETA), (x, BETA.clone().requires_grad_())):
        assert torch.equal(
            own.lif_fwd(*arguments, 1.0, 0.5, True)[0], own.lif_fwd(X, BETA, 1.0, 0.5, True)[0]
        )


def test_samples_fit_each_other(own):
    g, saved = torch.ones(2, 9, 5), torch.ones(3, 9, 5)
    with pytest.raises(ValueError, match=r"saved has shape \(3, 9, 5\); expected \[2, T, 5\]"):
        own.lif_bwd(g, saved, BETA, 1.0, 0.5, True)


OUTPUTS = {"spikes": "[N, T, C]", "saved": "[N, T, C] if save"}
VALUES = {"spike": "spikes", "theta": "threshold"}
DECLARATIONS = {
    "values": ({"values": VALUES | {"thta": "1"}}, "values names 'thta', which nothing uses"),
    "outputs": ({"outputs": OUTPUTS | {"more": "[N, C]"}}, "outputs names 'more', which nothing"),
    "where": ({"where": {"q": "1"}}, "where names 'q', which nothing uses"),
    "at_rest": ({"at_rest": {"q": "1"}}, "at_rest names 'q', which nothing uses"),
    "no expression": ({"values": VALUES | {"theta": "a b"}}, "'a b' is no expression"),
    "kernel": ({"kernel": print}, "expected a function decorated with jit"),
    "samples": ({"samples": ["x"]}, r"samples .* is \['x'\]; expected a str"),
}


def declare(own, name="declared_own", **options):
    def function(
        x: Tensor, beta: Tensor, threshold: float, width: float, save: bool, wide: int = 0
    ):
        """Do nothing but be declared."""

    function.__name__ = name
    options = {"samples": "x", "outputs": OUTPUTS, "values": VALUES} | options
    return kernel_op(options.pop("kernel", own.lif_fwd_kernel), **options)(function)


@pytest.mark.parametrize("wrong", DECLARATIONS)
def test_a_wrong_declaration(own, wrong):
    options, words = DECLARATIONS[wrong]
    with pytest.raises(TypeError, match=words):
        declare(own, **options)


def test_half_a_number_is_no_int(own):
    with pytest.raises(TypeError, match=r"wide is 1\.5; expected int"):
        declare(own)(X, BETA, 1.0, 0.5, False, 1.5)


GRADIENTS = {
    "left out": (lambda back: {"x": back.g}, "returns gradients of x, and that of 'beta' is want"),
    "another name": (lambda back: {"x": None, "beta": None, "b": None}, "no argument 'b' whose"),
    "wants": (lambda back: back.wants("b"), "no argument 'b' whose gradient could be wanted"),
    "attribute": (lambda back: back.b, "keeps no 'b'; it keeps g, beta, saved"),
    "run": (lambda back: back.run(learned=True, b=1), "run is given 'b', which lif_bwd does not"),
    "not run": (lambda back: back.run(), r"lif_bwd takes 'learned', .*back\.run\(learned=\.\.\.\)"),
    "no dict": (lambda back: None, "returns NoneType; expected a dict of gradients"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", GRADIENTS)
def test_a_wrong_gradient(own, wrong):
    gradients, words = GRADIENTS[wrong]
    forward = declare(own)
    derivative(forward, own.lif_bwd)(gradients)
    x, beta = torch.rand(2, 5, 9).requires_grad_(), BETA.clone().requires_grad_()
    spikes, _ = forward(to_rows(x), beta, 1.0, 0.5, True, 0)
    with pytest.raises((TypeError, AttributeError), match=words):
        spikes.sum().backward()


def test_a_wrong_derivative(own):
    for options, words in (
        ({"keep": "thresh"}, "keep of the derivative of declared_own names 'thresh'"),
        ({"keep_outputs": "sve"}, "keep_outputs of the derivative of declared_own names 'sve'"),
    ):
        with pytest.raises(TypeError, match=words):
            derivative(declare(own), own.lif_bwd, **options)
    with pytest.raises(TypeError, match="joins two operators that kernel_op declared; got <built"):
        derivative(declare(own), wrong(print))


@pytest.mark.skipif(BACKEND != "auto", reason="Triton says it in its own words")
def test_a_carry_of_another_length(own, monkeypatch):
    def shorter(carry, ptrs, fixed, base, at, live, t, C, flags, U):
        return carry[0]

    monkeypatch.setitem(own.lif_bwd_kernel.fn.__globals__, "_backward_rows", jit(shorter))
    monkeypatch.setattr(trace, "_bodies", {})
    with pytest.raises(TypeError, match="shorter returns one value, and the walk began with 2 val"):
        trace.trace(own.lif_bwd_kernel, (), {"SHAPE": 0}, 0, ())


def test_names_of_lapilli_are_free():
    code = (
        "import torch; from lapilli.kernels.toolkit import define_op\n"
        "def linear_fwd(x: torch.Tensor) -> torch.Tensor: return x + 1\n"
        "def sequence(x: torch.Tensor) -> torch.Tensor: return x + 2\n"
        "one, two = define_op(linear_fwd), define_op(sequence)\n"
        "import lapilli.blocks.linear\n"
        "print(one.op(torch.zeros(1)).item(), two.op(torch.zeros(1)).item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "1.0 2.0\n", done.stderr


def test_without_steps_states_stay_and_gradients_are_zero():
    x, before = torch.zeros(2, 3, 0), torch.rand(2, 3)
    decay = torch.tensor([410.0], requires_grad=True)
    states = cuba.cuba(
        x, decay, decay, 1.0, 4096, state=(before, before), return_state=True
    )[1]  # fmt: skip
    assert all(torch.equal(s, before) for s in states)
    rest = alif.alif(x, decay, decay, decay, decay, 1.5, 0.5, 4096, return_state=True)[1]
    assert [s.unique().tolist() for s in rest] == [[0.0], [0.0], [1.5], [0.0]]
    assert torch.equal(sigma.sigma(x, state=before, return_state=True)[1], before)
    _, states, spikes = recurrent.recurrent(
        x, torch.eye(3), (decay, decay), 1.0, 4096, state=(before, before), return_state=True
    )
    assert all(torch.equal(s, before) for s in states)
    assert not spikes.any()
    cuba.cuba(x, decay, decay, 1.0, 4096).sum().backward()
    assert decay.grad == 0


@pytest.mark.skipif(BACKEND != "auto", reason="other executors convert")
def test_a_parameter_of_a_function_of_lapilli():
    decay = torch.tensor([410.0], dtype=torch.float64)
    with pytest.raises(TypeError, match=r"torch\.float64; expected one of torch\.float32"):
        cuba.cuba(torch.rand(1, 2, 3), decay, decay, 1.0, 4096)
