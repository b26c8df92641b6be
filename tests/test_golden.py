"""Neurons, axons and dendrites against lava-dl: outputs, states, gradients, values of the chip."""

import importlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from golden_cases import all_cases, cases, find, index, way_name, ways
from golden_runs import compare, construct, run
from tolerances import RESONATOR_PROPERTY

MODULES = cases("neuron", "axon", "dendrite")
NEURONS = cases("neuron")


# cases whose flags need loops of their own: one way of CUBA at once, all in continuous integration
_RARE = ("graded", "24bit", "scale_not_power_of_two")  # in their names


def _marked(case: Any, *way: Any) -> Any:
    fused = way[:1] == (True,)
    rare = any(flag in case.name for flag in _RARE) and (
        fused or case.target != "neuron.cuba.Neuron"
    )
    name = "-".join(map(way_name, (case, *way)))
    return pytest.param(case, *way, id=name, marks=pytest.mark.slow if rare else ())


@pytest.mark.parametrize(("case", "fused", "sign"), [_marked(*way) for way in ways(MODULES)])
def test_golden(case, fused, sign, device):
    module, results = run(case, device, fused=fused, sign=sign)
    compare(case, module, results, fused=fused, sign=sign)


RESIZED = [c for c in MODULES if "warmup_zeros" in c.setup]


@pytest.mark.parametrize("case", [_marked(case) for case in RESIZED])
def test_fresh_module_loads_sized_parameters(case):
    fused = case.method == "dynamics+spike"
    module, results = run(case, fused=fused, warm=False)
    compare(case, module, results, fused=fused, sign="lava-dl")


def same(got: object, want: Any) -> None:
    """Integers, strings and flags equal; floats to the rounding of a library."""
    values = np.asarray(got)
    if values.dtype.kind == "f":
        assert values.shape == np.shape(want)
        np.testing.assert_allclose(values, want, **RESONATOR_PROPERTY)
    else:
        assert values.tolist() == want


@pytest.mark.parametrize("case", [_marked(case) for case in NEURONS if case.properties])
def test_values_of_the_chip(case):
    neuron, _ = run(case)
    for name, want in case.properties.items():
        same(getattr(neuron, name), want)
    if case.device_params is None:
        return
    assert list(neuron.device_params) == list(case.device_params)
    for name, want in case.device_params.items():
        same(neuron.device_params[name], want)
    if case.neuron_params_of_device_params is None:  # lava-dl's function raises
        return
    params = importlib.import_module(type(neuron).__module__).neuron_params(neuron.device_params)
    assert set(params) == set(case.neuron_params_of_device_params)
    for name, want in case.neuron_params_of_device_params.items():
        if name == "threshold_step":  # lava-dl takes it from the threshold
            want = neuron.device_params["vThStep"] / 64
        same(params[name], want)


INTENDED = [
    error
    for error in index()["lava_dl_errors"]
    if "intended lava-dl argument check" in error.get("note", "") and find(error["target"])
]
WRONG_SHAPES = {  # accepted first, then refused
    "bad_shape": ((), (3, 4)),
    "channel_mismatch": ((2, 3, 5), (2, 4, 5)),
}


@pytest.mark.parametrize("error", INTENDED, ids=lambda e: e["name"])
def test_argument_checks_raise(error):
    assert error["lava_dl_error"].startswith("AssertionError")
    if error["stage"] == "construct":
        with pytest.raises(AssertionError):
            construct(error["target"], error["kwargs"])
        return
    module = construct(error["target"], error["kwargs"])
    accepted, refused = WRONG_SHAPES[error["name"].rsplit(".", 1)[1]]
    if accepted:
        module(torch.zeros(accepted))
    with pytest.raises(AssertionError):
        module(torch.zeros(refused))


# How many cases of each target run. A target that lapilli gains adds its line, with all its cases.
RUN = {
    "axon.Delay": 15,
    "axon.Delta": 18,
    "block.adrf.Average": 1,
    "block.adrf.Conv": 12,
    "block.adrf.ConvT": 7,
    "block.adrf.Dense": 24,
    "block.adrf.Flatten": 1,
    "block.adrf.Input": 1,
    "block.adrf.Pool": 12,
    "block.adrf.TimeDecimation": 1,
    "block.adrf.Unpool": 5,
    "block.adrf_iz.Average": 1,
    "block.adrf_iz.Flatten": 1,
    "block.adrf_iz.Input": 1,
    "block.adrf_iz.TimeDecimation": 1,
    "block.alif.Average": 1,
    "block.alif.Conv": 12,
    "block.alif.ConvT": 7,
    "block.alif.Dense": 24,
    "block.alif.Flatten": 1,
    "block.alif.Input": 6,
    "block.alif.KWTA": 11,
    "block.alif.Pool": 12,
    "block.alif.Recurrent": 12,
    "block.alif.TimeDecimation": 1,
    "block.alif.Unpool": 5,
    "block.cuba.Affine": 8,
    "block.cuba.Average": 3,
    "block.cuba.Conv": 12,
    "block.cuba.ConvT": 7,
    "block.cuba.Dense": 24,
    "block.cuba.Flatten": 2,
    "block.cuba.Input": 6,
    "block.cuba.KWTA": 11,
    "block.cuba.Pool": 12,
    "block.cuba.Recurrent": 12,
    "block.cuba.TimeDecimation": 4,
    "block.cuba.Unpool": 5,
    "block.rf.Average": 1,
    "block.rf.Conv": 12,
    "block.rf.ConvT": 7,
    "block.rf.Dense": 24,
    "block.rf.Flatten": 1,
    "block.rf.Input": 1,
    "block.rf.Pool": 12,
    "block.rf.TimeDecimation": 1,
    "block.rf.Unpool": 5,
    "block.rf_iz.Average": 1,
    "block.rf_iz.Conv": 12,
    "block.rf_iz.ConvT": 7,
    "block.rf_iz.Dense": 24,
    "block.rf_iz.Flatten": 1,
    "block.rf_iz.Input": 1,
    "block.rf_iz.Pool": 12,
    "block.rf_iz.TimeDecimation": 1,
    "block.rf_iz.Unpool": 5,
    "block.sigma_delta.Average": 1,
    "block.sigma_delta.Conv": 12,
    "block.sigma_delta.ConvT": 7,
    "block.sigma_delta.Dense": 22,
    "block.sigma_delta.Flatten": 1,
    "block.sigma_delta.Input": 6,
    "block.sigma_delta.Output": 4,
    "block.sigma_delta.Pool": 12,
    "block.sigma_delta.Unpool": 5,
    "dendrite.Sigma": 5,
    "network": 14,
    "neuron.adrf.Neuron": 47,
    "neuron.adrf_iz.Neuron": 46,
    "neuron.alif.Neuron": 50,
    "neuron.cuba.Neuron": 50,
    "neuron.rf.Neuron": 47,
    "neuron.rf_iz.Neuron": 51,
    "neuron.sigma_delta.Neuron": 29,
}


def test_no_case_is_dropped():
    kinds = sorted({case.kind for case in all_cases()})
    assert Counter(case.target for case in cases(*kinds)) == RUN
    total = Counter(case.target for case in all_cases())
    assert {target: total[target] for target in RUN if target != "network"} == {
        target: count for target, count in RUN.items() if target != "network"
    }
