"""Every public attribute of lava-dl's neurons, axons, synapses and blocks: read, set, with effect.

``attributes_of_lava_dl.txt`` lists them, one object of lava-dl 0.6.0 a line, without those that any
``torch.nn.Module`` has. Each is a method, or stands in one of the tables below.
"""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cells import LEAKY, NEURONS, TURNS
from lapilli.neurons.norm import MeanOnlyBatchNorm

from lapilli import slayer

LINES = Path(__file__).with_name("attributes_of_lava_dl.txt").read_text().splitlines()
NAMES = {line.partition(": ")[0]: line.partition(": ")[2].split() for line in LINES}

PARAMS = NEURONS | {"rf_iz": TURNS | {"threshold": 2.0}}
ARGUMENTS = {
    "Dense": (3, 2), "Affine": (3, 2), "Conv": (2, 2, 3), "ConvT": (2, 2, 3), "Pool": (2,),
    "ConvTranspose": (2, 2, 3), "Unpool": (2,), "KWTA": (3, 4, 2), "Recurrent": (3, 2), "Input": (),
    "Flatten": (), "Average": (1,), "TimeDecimation": (2,), "Output": (3, 2), "Delay": (),
    "Delta": (0.125, 64, 1, 1, False, True, False, True), "Sigma": (),
    "MeanOnlyBatchNorm": (3,), "WgtScaleBatchNorm": (3,), "Dropout": (),
}  # fmt: skip
ABSENT = {("neuron.norm.WgtScaleBatchNorm", "std")}  # docs/migration.md


def made(path):
    kind = path.rpartition(".")[2]
    holder = slayer
    for part in path.split(".")[:-1]:
        holder = getattr(holder, part)
    if path.startswith("neuron.") and kind in PARAMS:
        module = getattr(holder, kind).Neuron(**PARAMS[kind])
    elif path.startswith("block.") and kind not in ("Flatten", "Average", "TimeDecimation"):
        family = path.split(".")[1]
        options = {"weight": 1.0, "bias": 0.0} if kind == "Input" else {}
        module = getattr(holder, kind)(PARAMS[family], *ARGUMENTS[kind], **options)
    else:
        module = getattr(holder, kind)(*ARGUMENTS[kind])
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, (torch.nn.Conv3d, torch.nn.ConvTranspose3d)):
            torch.nn.init.uniform_(part.weight, -0.5, 1)  # neurons spike
    return module


def inputs(path, strength=1.0):
    kind = path.rpartition(".")[2]
    generator = torch.Generator().manual_seed(1)
    image = kind in ("Conv", "ConvT", "ConvTranspose", "Pool", "Unpool", "Flatten")
    shape = (2, 2, 5, 5, 12) if image else (2, 3, 12)
    x = strength * torch.rand(shape, generator=generator)
    x.requires_grad_()
    return (x, 2 * x.detach()) if path[7:] in ("rf", "rf_iz", "adrf", "adrf_iz") else x


def behaviour(module, path, strength=1.0):
    """Outputs of two calls, gradients, what is kept, and what the chip is told."""
    torch.manual_seed(2)
    found = []
    for _ in range(2):
        x = inputs(path, strength)
        y = module(x)
        outputs = y if isinstance(y, tuple) else (y,)
        found += [str(t) if t is None else t.detach().clone() for t in outputs]
        total: Any = sum(t.double().square().sum() for t in outputs if t is not None)
        if total.requires_grad:
            total.backward()
        found.append((x[0] if isinstance(x, tuple) else x).grad)
    for name, parameter in module.named_parameters():
        found.append(name if parameter.grad is None else parameter.grad.clone())
    found += [value.clone() for value in module.state_dict().values()]
    return [*found, getattr(module, "device_params", None)]


def same(a, b):
    def equal(x, y):
        return torch.equal(x, y) if isinstance(x, torch.Tensor) and torch.is_tensor(y) else x == y

    return len(a) == len(b) and all(map(equal, a, b))


def public():
    return [(path, name) for path, names in NAMES.items() for name in names]


def shown(value):
    """Name a case alike in every process: functions print where they lie in memory."""
    return getattr(value, "__name__", "function") if callable(value) else str(value)[:40]


@pytest.mark.parametrize(("path", "name"), public(), ids=lambda v: v)
def test_every_attribute_is_read(path, name):
    module = made(path)
    if (path, name) in ABSENT:
        assert not hasattr(module, name)
    else:
        getattr(module, name)


def fill(value):
    """Write into what is there."""
    return lambda module, name: getattr(module, name).data.fill_(value)


class Half(torch.nn.Module):
    def forward(self, x):
        return x / 2


def norm():
    module = MeanOnlyBatchNorm(3)
    module.running_mean += 0.25
    return module.eval()


# set to this, another behaviour follows; a function is called with module and name instead
EFFECT = {
    "neuron.": {
        "threshold": 0.5, "tau_rho": 0.01, "scale_rho": 0.5, "graded_spike": True, "drop": Half(),
        "norm": norm(), "real_norm": norm(), "imag_norm": norm(), "persistent_state": True,
        "threshold_step": 0.5, "ref_delay": 3, "activation": torch.sin, "bias_is_set": None,
        "current_decay": fill(2048), "voltage_decay": fill(2048), "threshold_decay": fill(2048),
        "refractory_decay": fill(3000), "sin_decay": fill(1000), "cos_decay": fill(1000),
        "requires_grad": True,
    },
    "axon.Delay": {"delay": fill(3.0), "init": None, "sampling_time": 0.25,
                   "max_delay": 1, "grad_scale": 3},
    "axon.Delta": {"threshold": fill(1.5), "cum_error": True, "scale": 1, "scale_grad": 2,
                   "tau_grad": 3, "persistent_state": True, "requires_grad": False},
    "dendrite.Sigma": {"persistent_state": True},
    "synapse.": {
        "bias": None, "weight": fill(0.25), "pre_hook_fx": torch.round, "stride": 3, "padding": 1,
        "dilation": 2, "weight_norm_enabled": True, "groups": None, "real": None, "imag": None,
    },
    "block.": {
        "count_log": True, "delay_shift": None, "mask": torch.tensor([[1, 0, 1], [0, 1, 1]]),
        "bias": None, "num_winners": 1, "self_excitation": fill(0.0), "persistent_state": True,
        "requires_grad": False, "dynamics": False, "num_outputs": 3, "factor": 4,
        "weight": fill(2.0), "pre_hook_fx": torch.sign,
    },
    "neuron.norm.": {"momentum": 0.5, "running_mean": fill(1.0), "update": False,
                     "running_var": fill(60.0), "pre_hook_fx": lambda x, descale=False: x.round(),
                     "weight_exp_bits": 0, "eps": 100.0},
    "neuron.Dropout": {"p": 0.0, "inplace": True},
}  # fmt: skip

# cannot be set: the error says what to do instead
REFUSED = {
    "neuron.": {
        "p_scale": 2, "w_scale": 32, "s_scale": 32, "shared_param": False, "threshold_eps": 0.5,
        "scale": 32, "v_th_mant": 3, "v_th_step": 3, "weight_exponent": 1, "device_params": {},
        "device": "cpu", "decay": 0.5, "frequency": 0.5, "period": 9, "lam": 0.5,
        "cx_current_decay": 1, "cx_voltage_decay": 1, "cx_threshold_decay": 1,
        "cx_refractory_decay": 1, "cx_sin_decay": 1, "cx_cos_decay": 1, "complex": None,
    },
    "axon.Delta": {"shared_param": False, "device": "cpu"},
    "dendrite.Sigma": {"device_params": {}},
    "synapse.": {"output_padding": 1, "padding_mode": "circular"},
}  # fmt: skip


# neither a method nor in a table: why
OTHERS = {
    "states, held by the tests of neurons and blocks": (
        "current_state voltage_state threshold_state refractory_state real_state imag_state "
        "pre_state residual_state error_state spike_state"
    ),
    "learned from the input or the weight, checked against it": (
        "shape num_neurons input_shape in_channels out_channels kernel_size num_features init"
    ),
    "held by tests of their own": "bias bias_is_set groups delay delay_shift grad_norm weight_exp",
    "say what a class is": "complex transposed synapse_params",
    "asks lava-dl for its slow path; the numbers are the same": "debug",
    "used at the first call": "log_init",
}
NAMED = {name for names in OTHERS.values() for name in names.split()}


def test_no_attribute_is_left_out():
    tables = {(path, name) for entries in (EFFECT, REFUSED) for path, name, _ in table(entries)}
    left = {
        name
        for path, name in public()
        if (path, name) not in tables | ABSENT
        and name not in NAMED
        and not callable(getattr(made(path), name))
    }
    assert not left


def table(entries):
    """(path, name, value) of each entry, for the objects that have the attribute."""
    found = []
    for path, names in NAMES.items():
        prefix = max((p for p in entries if path.startswith(p)), key=len, default=None)
        if prefix in ("neuron.",) and path.startswith(("neuron.norm", "neuron.Dropout")):
            continue
        for name in names:
            value = entries.get(prefix, {}).get(name)
            if value is not None:
                found.append((path, name, value))
    return found


NO_EFFECT_ON = {  # of these an attribute says nothing, here as there
    ("neuron.rf", "norm"), ("neuron.rf_iz", "norm"), ("neuron.adrf", "norm"),
    ("neuron.adrf_iz", "norm"), ("neuron.sigma_delta", "tau_rho"),  # refused: see below
    ("neuron.sigma_delta", "scale_rho"), ("neuron.sigma_delta", "graded_spike"),
    ("synapse.Dense", "stride"), ("synapse.Dense", "padding"), ("synapse.Dense", "dilation"),
}  # fmt: skip


HELD_ELSEWHERE = {
    ("block.cuba.KWTA", "num_winners"), ("neuron.sigma_delta", "persistent_state"),
    ("neuron.Dropout", "inplace"),
}  # fmt: skip


# these share their attributes with cuba and rf, and compile loops of their own
LATER = tuple(f"neuron.{family}" for family in ("alif", "rf_iz", "adrf", "adrf_iz"))


def effects():
    for case in table(EFFECT):
        yield pytest.param(*case, marks=pytest.mark.slow if case[0].startswith(LATER) else ())


@pytest.mark.parametrize(("path", "name", "value"), list(effects()), ids=shown)
def test_what_is_set_has_its_effect(path, name, value):
    if (path, name) in NO_EFFECT_ON:
        pytest.skip("refused, or without a meaning: see the other tests")
    before = behaviour(made(path), path)
    module = made(path)
    if path == "axon.Delay":
        module(inputs(path))  # draws
    if inspect.isfunction(value) and value.__qualname__.startswith("fill"):
        value(module, name)
    else:
        setattr(module, name, value)
    if (path, name) in HELD_ELSEWHERE:
        assert getattr(module, name) == value
        return
    assert not same(behaviour(module, path), before)


@pytest.mark.parametrize(("path", "name", "value"), table(REFUSED), ids=shown)
def test_what_cannot_be_set_says_what_to_do(path, name, value):
    module = made(path)
    with pytest.raises((AttributeError, ValueError), match=name):
        setattr(module, name, value)


@pytest.mark.parametrize("family", ["rf", "rf_iz", "adrf", "adrf_iz"])
def test_a_norm_of_a_resonator_has_two_parts(family):
    module = made(f"neuron.{family}")
    with pytest.raises(AttributeError, match="real_norm and imag_norm"):
        module.norm = norm()


# the threshold


@pytest.mark.parametrize("family", [f for f in PARAMS if f != "sigma_delta"])
def test_a_threshold_that_is_set_is_that_of_the_constructor(family):
    path = f"neuron.{family}"
    options = {"requires_grad": True, "tau_grad": 0.5, "persistent_state": True}
    kind = getattr(slayer.neuron, family).Neuron
    module = kind(**PARAMS[family] | options)
    module.threshold = 0.79
    want = kind(**PARAMS[family] | options | {"threshold": 0.79})
    assert module.threshold == want.threshold == int(0.79 * 64) / 64
    assert module.v_th_mant == want.v_th_mant
    assert module.tau_rho == pytest.approx(want.tau_rho, rel=1e-15)
    got, wanted = behaviour(module, path, 4.0), behaviour(want, path, 4.0)
    assert torch.equal(got[0], wanted[0])
    assert got[0].any()
    for a, b in zip(got, wanted, strict=True):
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(a, b)
        else:
            assert a == b
    with pytest.raises(ValueError, match="threshold"):
        module.threshold = 0.001
    assert module.threshold == want.threshold


def test_a_threshold_set_between_calls_moves_its_state():
    module = slayer.neuron.alif.Neuron(**PARAMS["alif"], persistent_state=True)
    module(inputs("neuron.alif"))
    raised = module.threshold_state - 0.75
    assert raised.any()
    module.threshold = 0.5
    torch.testing.assert_close(module.threshold_state - 0.5, raised, rtol=0, atol=0)
    module.reset_state()
    assert module.threshold_state.item() == 0.5


@pytest.mark.parametrize("shared", [True, False])
def test_the_threshold_of_sigma_delta_is_written_into_its_parameter(shared):
    module = slayer.neuron.sigma_delta.Neuron(**PARAMS["sigma_delta"], shared_param=shared)
    module(inputs("neuron.sigma_delta"))
    parameter = module.threshold
    module.threshold = 0.26
    assert module.threshold is parameter
    assert parameter.detach().unique().tolist() == [0.25]
    assert set(np.ravel(module.v_th_mant)) == {16}
    assert np.ndim(module.v_th_mant) == (0 if shared else 1)


def test_flags_of_sigma_delta_reach_its_parts():
    module = slayer.neuron.sigma_delta.Neuron(**PARAMS["sigma_delta"])
    module.persistent_state = module.cum_error = module.requires_grad = True
    assert module.sigma.persistent_state
    assert module.delta.persistent_state
    assert module.delta.cum_error
    assert module.delta.requires_grad
    assert module.bias.requires_grad


def test_the_number_of_winners_is_used():
    block = slayer.block.cuba.KWTA(LEAKY | {"threshold": 8.0}, 3, 4, 2)
    before = block._feedback()[1]
    block.num_winners = 1
    assert block._feedback()[1] > before


def test_a_mask_that_is_set_is_checked():
    block = slayer.block.cuba.Dense(LEAKY, 3, 2)
    with pytest.raises(ValueError, match=r"mask must be \[out, in\] = \(2, 3\)"):
        block.mask = torch.ones(3, 2)
    with pytest.raises(ValueError, match="0 and 1"):
        block.mask = torch.full((2, 3), 2)
    block.mask = torch.zeros(2, 3)
    assert not block.synapse.raw_weight(block.mask).any()
    block.mask = None
    assert block(torch.ones(1, 3, 4)).shape == (1, 2, 4)
