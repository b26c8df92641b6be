"""Every operator keeps what torch asks of one: schema, shapes, derivatives, tracing."""

import pytest
import torch
from cells import CELLS, events
from features import outputs, trained
from lapilli.kernels.executors.operators import OPERATORS
from lapilli.kernels.synapses.quantize import quantize_8bit
from operator_calls import OperatorCalls
from problems import fixed_problem
from recurrences import FEW

IN_GRAPHS = ("used_once",)  # of torch.compile alone
_QUICK = [("cuba", "Dense")]
_OTHERS = [cell for cell in CELLS if cell[0] == "cuba" and cell not in _QUICK]
_OTHERS += [("rf", "Dense"), ("rf", "Conv"), ("sigma_delta", "Dense"), ("sigma_delta", "Output")]
CELLS_OF_EACH = _QUICK + [pytest.param(*cell, marks=pytest.mark.slow) for cell in _OTHERS]


def _leaf(argument, differentiable):
    """Return an argument without its history."""
    if not isinstance(argument, torch.Tensor):
        return argument
    wanted = argument.requires_grad and differentiable and argument.is_floating_point()
    return argument.detach().requires_grad_(wanted)


def _name(op):
    return op.name().removeprefix("lapilli::").removesuffix(".bare")


def _check(calls):
    first = {_name(op): args for op, args, _ in reversed(calls)}
    for name, args in first.items():
        forward = not name.endswith("_bwd")
        torch.library.opcheck(OPERATORS[name].op, tuple(_leaf(a, forward) for a in args))
    return set(first)


def _train(family, kind):
    block = trained(family, kind)
    x = events(kind, steps=8).requires_grad_()
    y, _ = outputs(block(x))
    y.square().sum().backward()


_SOON = ("cuba", "rf", "sigma_delta", "channel_delay")
_FEW = [
    pytest.param(
        *case.values, id=case.id,
        marks=case.marks if case.values[0].name in _SOON else pytest.mark.slow,
    )
    for case in FEW
]  # fmt: skip


@pytest.mark.parametrize(("recurrence", "choices"), _FEW)
def test_kernels_pass_opcheck(recurrence, choices):
    problem = fixed_problem(recurrence, **choices)
    with OperatorCalls() as recorded:
        problem.fast()
    _check(recorded.calls)
    around = {"turned", "sum_of_samples"}
    assert sum(_name(op) not in around for op, *_ in recorded.calls) == problem.launches


@pytest.mark.parametrize(("family", "kind"), CELLS_OF_EACH, ids=str)
def test_operators_of_blocks_pass_opcheck(family, kind):
    with OperatorCalls() as recorded:
        _train(family, kind)
    if kind not in ("Flatten", "Average", "TimeDecimation"):
        assert recorded.calls
    _check(recorded.calls)


def test_second_derivatives_pass_opcheck():
    w = torch.randn(3, 4, requires_grad=True)
    with OperatorCalls() as recorded:
        (g,) = torch.autograd.grad(quantize_8bit(w).square().sum(), w, create_graph=True)
        g.sum().backward()
    assert _check(recorded.calls) == {"quantize_clipped", "quantize_clipped_bwd"}


def test_what_stands_in_compiled_graphs_passes_opcheck():
    with OperatorCalls() as recorded:
        _train("cuba", "Dense")
    for op, args, _ in recorded.calls:
        assert op is OPERATORS[_name(op)].bare
        torch.library.opcheck(op, tuple(_leaf(a, False) for a in args))


@pytest.mark.parametrize("name", IN_GRAPHS)
def test_what_only_graphs_call_passes_opcheck(name):
    torch.library.opcheck(OPERATORS[name].op, (torch.rand(3, requires_grad=True),))


@pytest.mark.slow
def test_every_operator_is_tried():
    with OperatorCalls() as recorded:
        for family, kind in CELLS:
            _train(family, kind)
        for case in FEW:
            recurrence, choices = case.values
            fixed_problem(recurrence, **choices).fast()
    # other tests may have run here, and some register operators of their own
    own = {n for n, known in OPERATORS.items() if known.launch.__module__.startswith("lapilli.")}
    assert {_name(op) for op, *_ in recorded.calls} | {*IN_GRAPHS} == own
