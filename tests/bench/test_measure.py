"""What the suite measures, and how it is shown."""

import pytest
import torch
from known import present
from turns import soon

from bench import report
from bench.cases import RECURRENCES, cases
from bench.measure import FEW, Meter, reference_rate
from lapilli.benchmark.counters import counters

CPU = torch.device("cpu")
BY_NAME = {r.name: r for r in RECURRENCES}
SHAPE = (8, 256, 128)  # a series of 1 MiB: from the pool
BYTES = 4 * 8 * 256 * 128


def counted(name, training):
    return counters(BY_NAME[name].build(SHAPE, training, CPU, SHAPE[-1], False).run)


def test_names_of_cases_differ():
    names = [str(case) for case in cases()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", soon(("cuba", "rf", "sigma_delta"), BY_NAME))
def test_inference_keeps_nothing(name):
    found = counted(name, training=False)
    assert found["saved_bytes"] == 0
    assert found["operators"] == found["loops"] == found["buffers"] == 1
    assert found["allocated_bytes"] == BYTES


@pytest.mark.parametrize("name", soon(("cuba", "rf", "sigma_delta"), BY_NAME))
def test_training_keeps_what_the_table_says(name):
    found = counted(name, training=True)
    recurrence = BY_NAME[name]
    parameters = 4 * len(recurrence.call.parameters)
    assert found["saved_bytes"] == pytest.approx(
        BYTES * recurrence.saved / 4 + parameters, abs=parameters + 4
    )
    assert found["loops"] == found["operators"] == 2


@pytest.mark.parametrize("name", BY_NAME)
def test_reference_does_the_same_work(name):
    work = BY_NAME[name].build(SHAPE, False, CPU, 3, True)
    assert work.neuron_steps == 8 * 256 * 3
    assert reference_rate(work, CPU, rounds=1) > 0


def test_share_is_left_out_where_calls_are_short():
    small = Meter(BY_NAME["sigma"].build((1, 16, 1), False, CPU, 1, False), CPU).rounds(2)
    large = Meter(BY_NAME["sigma"].build((1, 16, FEW), False, CPU, FEW, False), CPU).rounds(2)
    assert small.share is None
    assert present(large.share) > 0
    assert large.summary()["neuron_steps_per_s"] > small.summary()["neuron_steps_per_s"]


def test_table_has_a_row_for_each_case():
    meter = Meter(BY_NAME["sigma"].build((1, 16, 1), False, CPU, 1, False), CPU).rounds(2)
    row = {
        "name": "sigma", "shape": "step", "mode": "forward", "neuron_steps": 16, "saved_bytes": 32,
        **meter.summary(),
    }  # fmt: skip
    head, rule, line = report.table({"sigma-step-forward": row})
    assert head.count("|") == rule.count("|") == line.count("|") == len(report.HEADER) + 1
    assert line.startswith("| sigma | step | forward | ")
    assert line.endswith(" | 8 | 2 |")
