"""Which executor runs, how operators are registered, and what is refused."""

import contextlib
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from lapilli.kernels.executors import dispatch, operators
from lapilli.kernels.executors.declaration import kernel_op
from lapilli.kernels.executors.dispatch import execute, executor, launch_options
from lapilli.kernels.executors.operators import define_op
from lapilli.kernels.executors.rows import BLOCK
from lapilli.kernels.proof.aot import launches
from lapilli.kernels.recurrences import cuba, sigma
from operator_calls import OperatorCalls, record_gradients
from problems import fixed_problem, shared_parameters
from recurrences import TABLE
from turns import soon

TRAINED = [r for r in TABLE if "train" in r.features]


@pytest.mark.parametrize(
    "recurrence",
    soon([r for r in TRAINED if r.name in ("cuba", "rf", "sigma_delta", "step_delay")], TRAINED),
    ids=repr,
)
def test_backward_gives_one_gradient_for_each_argument(recurrence, monkeypatch):
    problem = shared_parameters(fixed_problem(recurrence))
    inputs, parameters, _ = problem.tensors()
    outputs, _ = problem.call([x.requires_grad_() for x in inputs], parameters)
    recorded = record_gradients(outputs[0], monkeypatch)
    outputs[0].sum().backward()
    assert recorded
    for op, gradients, arguments in recorded:
        assert gradients == arguments, op


@pytest.mark.parametrize("recurrence", TABLE, ids=repr)
def test_kernels_get_the_types_of_the_schema_past_the_dispatcher(recurrence):
    def types():
        recorded = launches(fixed_problem(recurrence).fast)
        return [list(map(type, launch.args)) for launch in recorded]

    direct = types()
    with OperatorCalls():
        assert types() == direct


@pytest.mark.parametrize("recurrence", TABLE, ids=repr)
def test_tracing_launches_nothing(recurrence):
    problem = shared_parameters(fixed_problem(recurrence))
    inputs, parameters, _ = problem.tensors()
    with torch._subclasses.FakeTensorMode() as mode:
        outputs, _ = problem.call(
            [mode.from_tensor(x) for x in inputs], [mode.from_tensor(p) for p in parameters]
        )
    for y in outputs:
        assert y.shape == inputs[0].shape == (3, 5, 15)
        assert y.stride() == (75, 1, 5)


@pytest.mark.skipif(dispatch.BACKEND != "auto", reason="a backend was chosen")
def test_device_chooses_the_executor():
    assert executor(torch.device("cpu")) == "numba"
    assert executor(torch.device("cuda")) == "triton"
    assert executor(torch.device("xpu:1")) == "triton"
    with pytest.raises(RuntimeError, match=r"no kernel runs on device 'mps:0'.*\.to\('cpu'\)"):
        executor(torch.device("mps:0"))


def test_device_without_triton_is_refused(monkeypatch):
    monkeypatch.setattr(dispatch, "HAS_TRITON", False)
    monkeypatch.setattr(dispatch, "BACKEND", "auto")
    assert executor(torch.device("cpu")) == "numba"
    with pytest.raises(RuntimeError, match="Triton is not installed"):
        executor(torch.device("cuda"))


def test_unknown_backend_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", "import lapilli.kernels.numbers.language"],
        env=os.environ | {"LAPILLI_BACKEND": "cuda"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "LAPILLI_BACKEND is 'cuda'; expected one of auto, reference, interpret" in done.stderr


def test_one_lane_a_thread():
    assert launch_options("cuda")["num_warps"] * 32 == BLOCK
    assert launch_options("hip")["num_warps"] * 64 == BLOCK
    assert "maxnreg" not in launch_options("hip")


@pytest.mark.parametrize(
    ("steps", "neurons"), [(2**28, 8), (2**26, 31), (2**24, 43)], ids=lambda n: f"{n:x}"
)
def test_sample_beyond_32_bit_offsets_is_refused(steps, neurons, monkeypatch):
    monkeypatch.setattr(dispatch, "BACKEND", "interpret")
    x = torch.zeros(1).expand(2, steps, neurons)
    with pytest.raises(ValueError, match=r"neuron-steps\. Run the sequence in chunks"):
        execute(None, (2, steps, neurons), (x,))


@pytest.fixture
def observed(monkeypatch):
    """Count the calls of ``lapilli::sigma_sum`` that go through torch's dispatcher."""
    calls = []
    operator = sigma.sigma_sum
    monkeypatch.setattr(
        operator, "op", lambda *args, op=operator.op: calls.append(args) or op(*args)
    )
    return calls


def test_nobody_listens_to_a_plain_call(observed):
    x = torch.randn(2, 3, 5)
    with torch.no_grad():
        expected = sigma.sigma(x.requires_grad_())
    assert not observed
    torch.testing.assert_close(sigma.sigma(x.detach()), expected, rtol=0, atol=0)
    assert not observed
    torch.testing.assert_close(sigma.sigma(x), expected, rtol=0, atol=0)
    assert not observed, "autograd records a function of its own"


def test_what_is_recorded_equals_the_operator():
    x, decay, g = torch.randn(2, 3, 40), torch.tensor([410.0]), torch.randn(2, 3, 40)
    found, nodes = [], set()
    for observer in (contextlib.nullcontext, torch.autograd.profiler.profile):
        leaves = [x.clone().requires_grad_(), decay.clone().requires_grad_()]
        with observer():
            y = cuba.cuba(leaves[0], leaves[1], decay, 1.0, 4096)
        nodes.add(y.grad_fn.next_functions[0][0].name())
        found.append((y.detach(), *torch.autograd.grad(y, leaves, g)))
    assert len(nodes) == 2, "one is the operator's"
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


class _Tagged(torch.Tensor):
    pass


def _under(mode):
    def call(x):
        with mode():
            return sigma.sigma(x)

    return call


def _traced(x):
    traced: Any = torch.jit.trace(sigma.sigma, (torch.zeros_like(x),))
    return traced(x)


LISTENERS = {
    "dispatch mode": _under(OperatorCalls),
    "profiler": _under(torch.autograd.profiler.profile),
    "subclass": lambda x: sigma.sigma(x.as_subclass(_Tagged)),
    "trace": _traced,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # torch's own, about tracing
@pytest.mark.parametrize("listener", LISTENERS)
def test_listeners_get_the_operator(listener, observed):
    x = torch.randn(2, 3, 5)
    got = LISTENERS[listener](x.clone())
    assert observed
    torch.testing.assert_close(
        got.detach().as_subclass(torch.Tensor), x.cumsum(-1), rtol=0, atol=1e-6
    )


def test_output_that_is_not_wanted_is_none_or_empty():
    x = torch.randn(2, 5, 3)
    assert sigma.sigma_sum(x, None, False, False)[1] is None
    assert sigma.sigma_sum.op(x, None, False, False)[1].shape == (0,)


def _again(factor, module="somewhere", with_offset=False):
    """Define ``lapilli::own__defined_again``, as a cell of a notebook does."""

    def plain(x: torch.Tensor) -> torch.Tensor:
        return x * factor

    def offset(x: torch.Tensor, offset: float) -> torch.Tensor:
        return x * factor + offset

    function = offset if with_offset else plain
    function.__name__, function.__module__ = "defined_again", module
    return define_op(function, samples="x")


def test_an_operator_defined_again_takes_the_place_of_the_old_one():
    x = torch.ones(2, 3)
    old, new = _again(2.0), _again(3.0)
    for call in (old, new, new.op, torch.ops.lapilli.own__defined_again):
        assert torch.equal(call(x), x * 3.0)
    other = _again(3.0, with_offset=True)
    for call in (other, other.op, torch.ops.lapilli.own__defined_again_2):
        assert torch.equal(call(x, 1.0), x * 4.0)
    assert torch.equal(_again(5.0).op(x), x * 5.0)
    torch.library.opcheck(other.op, (x, 1.0))


def test_an_operator_of_another_module_keeps_its_name():
    _again(2.0)
    with pytest.raises(ValueError, match=r"elsewhere defines an operator 'defined_again', and so"):
        _again(3.0, module="elsewhere")


def test_an_operator_may_be_called_as_one_of_lapilli_is():
    def cuba_fwd(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    def sequence(x: torch.Tensor) -> torch.Tensor:
        return x + 2

    first = cuba.cuba_fwd
    one, two = define_op(cuba_fwd, samples="x"), define_op(sequence, samples="x")
    assert one.op(torch.zeros(1, 1)) == 1
    assert two.op(torch.zeros(1, 1)) == 2
    assert operators.OPERATORS["cuba_fwd"] is first is not one


def test_a_declaration_names_what_it_does_not_know():
    def declared(x: torch.Tensor, sum0: torch.Tensor | None, final: bool):
        """Do not know REVERSE."""

    outputs = {"y": "[N, T, C]", "sum1": "[N, C] if final"}
    decorate = kernel_op(sigma._sigma_kernel, samples="x sum0", outputs=outputs)
    with pytest.raises(TypeError, match="takes REVERSE, which is neither an argument nor"):
        decorate(declared)
    for text, problem in (
        ("[N, T, C] float64", "expected a shape"),
        ("[N, T, C] if lost", "lost"),
        ("[N, C, T]", "samples first, neurons last"),
        ("[C]", "samples first, neurons last"),
    ):
        decorate = kernel_op(
            sigma._sigma_kernel, samples="x sum0", outputs=outputs | {"y": text},
            values={"REVERSE": "False"},
        )  # fmt: skip
        with pytest.raises(TypeError, match=problem):
            decorate(declared)
    decorate = kernel_op(sigma._sigma_kernel, samples="z sum0", outputs=outputs)
    with pytest.raises(TypeError, match=r"expected some of .*, its tensors"):
        decorate(declared)


def test_a_gradient_that_nobody_gives_is_zero_or_none():
    x, decay = torch.randn(2, 3, 9), torch.tensor([410.0])
    leaf = x.clone().requires_grad_()
    current, voltage = cuba.cuba_dynamics(leaf, decay, decay, 1.0, 4096)
    (alone,) = torch.autograd.grad(voltage.sum(), leaf, retain_graph=True)
    (both,) = torch.autograd.grad(voltage.sum() + 0.0 * current.sum(), leaf)
    assert torch.equal(alone, both)
    assert alone.abs().max() > 0
