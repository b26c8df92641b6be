"""The kernels as they are compiled, run on the CPU: equal to the CPU's loops, and without a fault.

Together these are every entry of the catalogue, the forms with chunks in flight and what the
catalogue leaves out: states, graded and shifted spikes, dynamics, other scales.
"""

import math
from dataclasses import replace
from itertools import chain
from unittest import mock

import pytest
import torch
from lapilli.kernels.executors import dispatch
from lapilli.kernels.executors.dispatch import FULL
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof import aot, catalogue
from lapilli.kernels.proof.calls import RECURRENCES
from lapilli.kernels.recurrences.recurrent import recurrent
from recurrences import TABLE, most_of
from recurrent_layers import Layer
from torch.testing import assert_close

from ptx.launcher import key_of
from ptx.schedule import Schedule
from ptx.work import (
    CONVOLUTIONS,
    ENTRIES,
    LAYERS,
    SCHEDULES,
    SHAPES,
    Work,
    listed,
    modes,
    walk,
    walks,
)

pytestmark = [
    pytest.mark.skipif(BACKEND != "auto", reason="kernels are compiled for a GPU"),
    pytest.mark.turns,
]
slow = pytest.mark.slow

TARGETS = ("sm_90", "sm_80", "sm_120")
QUICK = ("cuba",)


def _listed():
    for recurrence in RECURRENCES.values():
        for mode in modes(recurrence):
            for target in TARGETS:
                for many in (False, True):
                    most = mode == modes(recurrence)[-1]  # what uses most of the kernels
                    quick = recurrence.name in (QUICK[:1] if many else QUICK)
                    marks = () if most and quick and target == "sm_90" else slow
                    yield pytest.param(
                        recurrence, mode, target, many, marks=marks,
                        id=f"{recurrence.name}-{mode}-{target}-{'many' if many else 'few'}",
                    )  # fmt: skip


@pytest.mark.parametrize(("recurrence", "mode", "target", "many"), list(_listed()))
def test_uses_of_the_catalogue(recurrence, mode, target, many):
    shapes = SHAPES if target == "sm_90" else SHAPES[1:6:2]
    for k, shape in enumerate(shapes):
        listed(recurrence, mode, shape).check(target, SCHEDULES[k % 4], many=many)


def _variants():
    for recurrence, variant in walks():
        soon = (recurrence.name, variant) == ("cuba", "state")
        for many in (True, False):
            mark = () if soon and many else slow
            name = f"{recurrence}-{variant}-{'many' if many else 'few'}"
            yield pytest.param(recurrence, variant, many, marks=mark, id=name)


@pytest.mark.parametrize(("recurrence", "variant", "many"), list(_variants()))
def test_variants(recurrence, variant, many):
    for k, shape in enumerate((None, (3, 31, 7), (1, 129, 17))):
        walk(recurrence, variant, shape).check("sm_90", SCHEDULES[k], many=many)


def _layers():
    for k, layer in enumerate(LAYERS):
        for target in TARGETS:
            if target != "sm_90" and layer.mode != "training":
                continue
            apart = k % 2 if target == "sm_90" else 0  # warps one by one take several times as long
            yield pytest.param(
                layer.work(), target, SCHEDULES[apart], marks=slow,
                id=f"{layer.work()}-{target}",
            )  # fmt: skip


@pytest.mark.parametrize(("work", "target", "schedule"), list(_layers()))
def test_recurrent_layers(work, target, schedule):
    work.check(target, schedule)


@pytest.mark.parametrize(
    "target", [pytest.param(t, marks=() if t == "sm_90" else slow) for t in TARGETS]
)
@pytest.mark.parametrize("work", ENTRIES, ids=str)
def test_entries_of_matrices(work, target):
    work.check(target, SCHEDULES[1])


@pytest.mark.parametrize(
    ("work", "target"),
    [
        pytest.param(w, t, marks=slow, id=f"{w}-{t}")
        for k, w in enumerate(CONVOLUTIONS)
        for t in TARGETS[: 1 if k else None]
    ],
)
def test_convolutions(work, target):
    work.check(target, SCHEDULES[0], exact=True)


def _same(work, target, schedules, **how):
    answers = [work.run(target, s, **how)[1] for s in schedules]
    for outputs, gradients in answers[1:]:
        for got, want in zip((*outputs, *gradients), chain(*answers[0]), strict=True):
            assert got.equal(want)


ORDERS = [
    Schedule("together", "late"), Schedule("together", "early"), Schedule("forward", "late"),
    Schedule("backward", "early"), Schedule("shuffled", "late"),
]  # fmt: skip


@pytest.mark.parametrize(
    "recurrence",
    [pytest.param(r, marks=() if r.name == "cuba" else slow, id=r.name) for r in TABLE],
)
def test_orders_and_arrivals_change_no_bit(recurrence):
    _same(walk(recurrence, most_of(recurrence), (2, 129, 17)), "sm_90", ORDERS)


def _ordered():
    """Layers with R on the chip, in shared memory, and split: 257 neurons, which take long."""
    kept = [f for f in LAYERS if f.neurons in (3, 127, 257) and f.mode == "training"]
    split = next(f for f in kept if f.neurons == 257)
    for layer in kept:
        marks = () if layer.neurons == 3 else slow
        orders = (ORDERS[0], *ORDERS[3:]) if layer is split else ORDERS
        yield pytest.param(layer, orders, marks=marks, id=str(layer.work()))


@pytest.mark.parametrize(("layer", "orders"), list(_ordered()))
def test_orders_and_arrivals_change_no_bit_of_recurrent_layers(layer, orders):
    _same(layer.work(), "sm_90", orders)


@pytest.mark.slow
def test_what_is_not_a_number_reaches_every_program_of_a_layer():
    """One step later: such a spike has no code of eight bits."""

    def call():
        layer = Layer("cuba", 257, 2, 4, coarse=1.0)
        with torch.no_grad():
            layer.z[0][1, 3, 1] = math.nan
            y, states, last = layer.call(recurrent)
        return [y, *states, last], []

    _, (outputs, _) = Work("a neuron that is not a number", call).run("sm_90", SCHEDULES[0])
    assert outputs[0][1, 3, 1].isnan()
    assert outputs[0][1, :, 2:].isnan().all()
    assert outputs[0][0].isfinite().all()
    for got, want in zip(outputs, call()[0], strict=True):
        assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def test_every_entry_of_the_catalogue_is_run():
    """By what each is compiled for, in both forms."""
    run = set()

    def note(launches):
        for launch in launches:
            forms = (FULL, FULL - 1) if launch.lanes is not None else (None,)
            run.update(key_of(replace(launch, lanes=lanes), "sm_90") for lanes in forms)

    for recurrence in RECURRENCES.values():
        for mode in modes(recurrence):
            note(aot.launches(listed(recurrence, mode, (1, 2, 3)).call))
    for work in ENTRIES:
        note(aot.launches(work.call))
        note(aot.terms_launches(work.call) if work.name.startswith("terms") else [])
    for work in CONVOLUTIONS:
        with mock.patch.object(dispatch, "executor", return_value="triton"):
            note(aot.convolution_launches(work.call))
    for layer in LAYERS:
        note(aot.recurrent_launches(layer.work().call))
    missing = []
    for entry in catalogue.entries(*catalogue.names()):
        forms = (FULL, FULL - 1) if entry.launch.lanes is not None else (None,)
        for lanes in forms:
            if key_of(replace(entry.launch, lanes=lanes), "sm_90") not in run:
                missing.append(f"{entry}, {lanes}")
    assert not missing


@pytest.mark.parametrize("name", ["delta", pytest.param("sigma_delta", marks=slow)])
def test_tiny_changes_are_rounded_down(name):
    """Subnormal numbers below zero: Triton takes NVIDIA's floor with ``.ftz``, which loses them."""
    tiny = [-1e-44, -1e-40, -(2.0**-149), 1e-42, -0.0, -3.0]
    x = torch.tensor(tiny).view(len(tiny), 1, 1)
    options = {"relu": False} if name == "sigma_delta" else {}

    def call():
        return [RECURRENCES[name].callable()(x, torch.zeros(1), 64, **options)], []

    work = Work(name, call)
    work.check("sm_90", SCHEDULES[0], many=True)
    (y,), _ = work.run("sm_90", SCHEDULES[0], many=True)[1]
    step = -1 / 64
    assert y.flatten().tolist() == [step, step, step, 0, 0, -3]
