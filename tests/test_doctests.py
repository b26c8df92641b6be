"""The examples of docstrings run, and everything public has one."""

import doctest
import importlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "slayer"))
import public

# Without an example: bases of what users call, and functions of lava-dl that blocks call. What lies
# in kernels/ has its examples in docs/.
WITHOUT = {
    "lapilli.blocks.block": {"step_delay", "event_rate"},
    "lapilli.blocks.generic_layer": {"GenericLayer"},
    "lapilli.blocks.complex_synapse": {"ComplexLayer"},
    **{
        f"lapilli.neurons.dynamics.{name}": {"dynamics"}
        for name in ("adaptive_phase_th", "adaptive_resonator")
    },
    "lapilli.neurons.dynamics.adaptive_threshold": {
        "dynamics",
        "persistent_ref_state",
        "persistent_th_state",
    },
    "lapilli.neurons.dynamics.leaky_integrator": {"dynamics", "persistent_state"},
    "lapilli.neurons.dynamics.resonator": {
        "dynamics",
        "persistent_real_state",
        "persistent_imag_state",
    },
    "lapilli.neurons.alif": {"neuron_params"},
    "lapilli.neurons.cuba": {"neuron_params"},
    "lapilli.neurons.resonator": {"neuron_params"},
    "lapilli.neurons.adaptive_resonator": {"adaptive_neuron_params"},
    "lapilli.neurons.sigma_delta": {"activation_name", "neuron_params"},
    "lapilli.kernels.recurrences.decays": {"decay_gradient", "set_decay_gradient"},
    "lapilli.kernels.numbers.formula": {"surrogate", "surrogates"},
    "lapilli.kernels.executors.memory": {"keep_memory"},
    "lapilli.kernels.synapses.quantize": {"quantize", "quantize_hook_fx"},
    "lapilli.neurons.neuron": {"Neuron"},
    "lapilli.neurons.fixed_point": {"FixedPointNeuron", "chip_value", "fixed_point_scales"},
}


def documented():
    """Public classes and functions by module, each once, under the name of its definition."""
    found = {"lapilli.encode": {"rate", "latency", "thermometer", "delta"}}
    for _, name, thing in public.public():
        if not name.startswith("Abstract") and thing.__module__.startswith("lapilli."):
            found.setdefault(thing.__module__, set()).add(thing.__qualname__)
    return found


def has_example(module, name):
    thing = importlib.import_module(module)
    for part in name.split("."):
        thing = getattr(thing, part)
    return ">>>" in (thing.__doc__ or "")


DOCUMENTED = documented()  # here, as fixtures replace some functions


def test_everything_public_has_an_example():
    lacking = {}
    for module, names in DOCUMENTED.items():
        without = {name for name in names if not has_example(module, name)}
        if without != WITHOUT.get(module, set()):
            lacking[module] = without ^ WITHOUT.get(module, set())
    assert not lacking


@pytest.mark.parametrize("module", sorted(DOCUMENTED))
@pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")
def test_examples(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(importlib.import_module(module), optionflags=options)
    assert result.failed == 0
    if DOCUMENTED[module] - WITHOUT.get(module, set()):
        assert result.attempted > 0
    assert os.getcwd() == str(tmp_path)
