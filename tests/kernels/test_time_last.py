"""Series that lie time last, as users have them, give the same bits as rows."""

import dataclasses
import itertools
from typing import Any, cast

import pytest
import torch
from lapilli.kernels.executors.order import is_time_last
from lapilli.kernels.toolkit import (
    derivative,
    from_rows,
    jit,
    kernel_op,
    lanes,
    load_rows,
    store_row,
    tl,
    to_rows,
    walk_forward,
)
from problems import assert_same_bits, fixed_problem
from recurrences import ALIKE, FULL, TABLE, most_of
from torch import Tensor
from torch.testing import assert_close

# layouts that hold the same numbers: whole, behind others, between others, every other sample
LAYOUTS = {
    "whole": lambda x: x.contiguous(),
    "offset": lambda x: torch.cat((x.new_zeros(3), x.flatten()))[3:].view(x.shape),
    "strided": lambda x: torch.stack((x, x), -1)[..., 0],
    "every other sample": lambda x: torch.stack((x, x), 1).flatten(0, 1)[::2],
}


def as_rows(x):
    """Return the series in memory as kernels walk it."""
    return x.movedim(-1, 1).contiguous().movedim(1, -1)


def answers(problem, layout):
    """Return outputs, states and gradients for series and gradients in a layout."""
    inputs, parameters, state = problem.tensors()
    inputs = [layout(x.detach()).requires_grad_(problem.train) for x in inputs]
    outputs, after = problem.call(inputs, parameters, state, return_state=problem.state)
    wanted = [t for t in (*inputs, *parameters) if t.requires_grad]
    gradients = map(layout, problem.upstreams(outputs))
    pairs = [(y, g) for y, g in zip(outputs, gradients, strict=True) if y.requires_grad]
    if not pairs:
        return [*outputs, *after]
    ends, seeds = zip(*pairs, strict=True)
    return [*outputs, *after, *torch.autograd.grad(ends, wanted, seeds, materialize_grads=True)]


# what other files compile too; of neurons of the same sort, and with all flags at once, in
# continuous integration only
SOON = [
    pytest.param(
        r, r.variants()[most_of(r)], id=f"{r}-{most_of(r)}",
        marks=pytest.mark.slow if r.name in ALIKE else (),
    )
    for r in TABLE
]  # fmt: skip
LATER = [
    pytest.param(*p.values, id=p.id, marks=pytest.mark.slow)
    for p in FULL
    if p.id not in [q.id for q in SOON]
]


@pytest.mark.parametrize(("recurrence", "choices"), SOON + LATER)
def test_layouts_give_the_same_bits(recurrence, choices):
    fixed = fixed_problem(recurrence, **choices)
    for channels, steps in itertools.product((1, 3, 7, 31, 129), (0, 1, 2, 9, 17)):
        columns = (itertools.islice(itertools.cycle(p), channels) for p in fixed.parameters)
        parameters = tuple(map(list, columns))
        sizes = {"batch": 2, "shape": (channels,), "steps": steps, "parameters": parameters}
        problem = dataclasses.replace(fixed, **sizes)
        if not steps and (problem.state or recurrence.name == "adaptive_phase_threshold"):
            continue  # some have no last frame, or look for a first one
        want = answers(problem, as_rows)
        for layout in LAYOUTS.values():
            for got, wanted in zip(answers(problem, layout), want, strict=True):
                assert_same_bits(got, wanted, equal_nan=True)


def test_gradient_lies_as_the_input_does():
    problem = fixed_problem(cast("Any", FULL[0].values[0]), train=True)
    for layout in (as_rows, LAYOUTS["whole"]):
        (x,), parameters, _ = problem.tensors()
        x = layout(x.detach()).requires_grad_()
        (y,), _ = problem.call([x], parameters)
        (g,) = torch.autograd.grad(y, x, torch.ones(y.shape))
        assert g.stride() == x.stride()


@jit
def _doubled_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U):
        store_row(ptrs[1], base, at + i * C, xs[i] + xs[i], live)
        store_row(ptrs[1], base, at + i * C, xs[i] + xs[i], live)  # tiles turn back one store
    return carry


@jit
def _doubled_kernel(
    x_ptr,  # [N, T, C] float32
    y_ptr,  # [N, T, C] float32, out
    T, C, M, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, _ = lanes(T, C, BLOCK)
    live = j < M
    walk_forward(
        _doubled_rows, tl.zeros([BLOCK], tl.float32), (x_ptr, y_ptr), (),
        base, at, live, T, C, (), U, STAGES)  # fmt: skip


@kernel_op(_doubled_kernel, samples="x", outputs={"y": "[N, T, C]"})
def time_last_doubled(x: Tensor):
    """Double."""


@kernel_op(_doubled_kernel, samples="x", outputs={"y": "[N, T, C]"})
def time_last_doubled_bwd(x: Tensor):
    """Double the gradient."""


@derivative(time_last_doubled, time_last_doubled_bwd)
def _gradients(back):
    return {"x": back.run()}


def test_what_tiles_cannot_turn_runs_on_copies():
    x = torch.randn(2, 9, 17, requires_grad=True)
    y = from_rows(time_last_doubled(to_rows(x)), x.shape[1:-1])
    assert is_time_last(to_rows(x.detach()))
    assert_close(y, 2 * x, rtol=0, atol=0, check_stride=False)
    upstream = torch.randn(x.shape)
    (g,) = torch.autograd.grad(y, x, upstream)
    assert_close(g, 2 * upstream, rtol=0, atol=0)
