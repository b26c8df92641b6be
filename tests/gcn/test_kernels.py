"""The kernels of neurons as they are compiled for AMD, run on the CPU: equal to the CPU's loops."""

from itertools import chain
from typing import Any

import pytest
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof.aot import can_compile
from lapilli.kernels.proof.calls import RECURRENCES
from ptx.schedule import Schedule
from ptx.work import SCHEDULES, SHAPES, listed, modes, walk, walks
from recurrences import TABLE, most_of

TARGET = "gfx942"
pytestmark = [
    pytest.mark.skipif(
        BACKEND != "auto" or not can_compile(TARGET), reason="kernels are compiled for this GPU"
    ),
    pytest.mark.turns,
]
QUICK = (("cuba", "training"),)


@pytest.mark.parametrize(
    ("recurrence", "variant"),
    [pytest.param(r, v, marks=() if (r.name, v) in QUICK else pytest.mark.slow, id=f"{r}-{v}")
     for r, v in walks()],
)  # fmt: skip
def test_variants(recurrence, variant):
    for k, shape in enumerate((None, (3, 31, 7), (1, 129, 17))):
        walk(recurrence, variant, shape).check(TARGET, SCHEDULES[k])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recurrence", "mode"),
    [pytest.param(r, m, id=f"{r.name}-{m}") for r in RECURRENCES.values() for m in modes(r)],
)
def test_uses_of_the_catalogue(recurrence, mode):
    for k, shape in enumerate(SHAPES):
        listed(recurrence, mode, shape).check(TARGET, SCHEDULES[k % 4])


@pytest.mark.slow
@pytest.mark.parametrize(
    "recurrence",
    [pytest.param(r, marks=() if r.name == "cuba" else pytest.mark.slow, id=r.name)
     for r in TABLE],
)  # fmt: skip
def test_orders_of_waves_change_no_bit(recurrence):
    """Early: the arguments are in registers before the first instruction, late: they are loaded."""
    work = walk(recurrence, most_of(recurrence), (2, 129, 17))
    orders: Any = (("together", "late"), ("together", "early"), ("forward", "late"),
                   ("backward", "early"), ("shuffled", "late"))  # fmt: skip
    first, *others = (
        list(chain(*work.run(TARGET, Schedule(warps, arguments))[1])) for warps, arguments in orders
    )
    for answer in others:
        assert all(got.equal(want) for got, want in zip(answer, first, strict=True))
