"""A wrong type of any argument raises, and says which it is, what was given and what is wanted."""

import inspect
import re
from typing import Any

import pytest
import torch
from lapilli.neurons.delta import Delta
from lapilli.neurons.sigma import Sigma
from test_attributes import PARAMS as NEURONS

from lapilli import loss, slayer

BLOCKS = {
    "Affine": {"in_neurons": 4, "out_neurons": 3},
    "Average": {"num_outputs": 3},
    "Conv": {"in_features": 2, "out_features": 3, "kernel_size": 2},
    "ConvT": {"in_features": 2, "out_features": 3, "kernel_size": 2},
    "Dense": {"in_neurons": 4, "out_neurons": 3},
    "Flatten": {},
    "Input": {},
    "KWTA": {"in_neurons": 4, "out_neurons": 3, "num_winners": 1},
    "Output": {"in_neurons": 4, "out_neurons": 3},
    "Pool": {"kernel_size": 2},
    "Recurrent": {"in_neurons": 4, "out_neurons": 3},
    "TimeDecimation": {"factor": 2},
    "Unpool": {"kernel_size": 2},
}
SYNAPSES = {
    "Dense": BLOCKS["Dense"], "Conv": BLOCKS["Conv"], "ConvTranspose": BLOCKS["Conv"],
    "Pool": BLOCKS["Pool"], "Unpool": BLOCKS["Pool"],
}  # fmt: skip


def constructors():
    """Yield every public constructor, with arguments that it takes."""
    for family, arguments in NEURONS.items():
        yield f"neuron.{family}", getattr(slayer.neuron, family).Neuron, arguments
        blocks = getattr(slayer.block, family)
        for kind, sizes in BLOCKS.items():
            if hasattr(blocks, kind):
                neuron = {} if kind in ("Average", "Flatten", "TimeDecimation") else arguments
                neuron = {"neuron_params": neuron} if neuron else {}
                yield f"block.{family}.{kind}", getattr(blocks, kind), neuron | sizes
    for kind, arguments in SYNAPSES.items():
        yield f"synapse.{kind}", getattr(slayer.synapse, kind), arguments
        yield f"synapse.complex.{kind}", getattr(slayer.synapse.complex, kind), arguments
    yield "axon.Delta", Delta, {"threshold": 0.1}
    yield "axon.Delay", slayer.axon.Delay, {}
    yield "dendrite.Sigma", Sigma, {}
    yield "neuron.Dropout", slayer.neuron.Dropout, {}
    for name in ("MeanOnlyBatchNorm", "WgtScaleBatchNorm"):
        yield f"neuron.norm.{name}", getattr(slayer.neuron.norm, name), {}
    yield "loss.SpikeRate", slayer.loss.SpikeRate, {"true_rate": 0.2, "false_rate": 0.1}
    for name in ("SpikeMax", "SpikeMoid", "SpikeTime", "SparsityEnforcer"):
        yield f"loss.{name}", getattr(loss, name), {}
    yield "classifier.MovingWindow", slayer.classifier.MovingWindow, {"time_window": 3}
    yield "filter.FIR", slayer.utils.filter.FIR, {}
    yield "filter.FIRBank", slayer.utils.filter.FIRBank, {"num_filter": 2, "filter_length": 3}


class Thing:
    def __repr__(self):
        return "<a thing>"


WRONG = ("wrong", Thing(), {"a": 1}, [1, 2, 3], None)

# none: the argument is optional, or false as in lava-dl
FLAGS = {
    "count_log", "cum_error", "delay", "delay_shift", "dynamics", "graded_spike", "inplace",
    "log_init", "persistent_state", "requires_grad", "shared_param", "weight_norm",
}  # fmt: skip
OPTIONAL = {"activation", "pre_hook_fx"}

# what errors say of a value, if it is not the value
GIVEN = {
    ("neuron_params", dict): "unknown 'a'", ("mask", list): "shape (3,)",
    ("weight", list): "3 values", ("bias", list): "3 values",
}  # fmt: skip


def takes(function, argument, value):
    """Whether a value is legal, although it looks wrong."""
    if value is None:
        default = inspect.signature(function).parameters[argument].default
        return default is None or argument in FLAGS | OPTIONAL
    # height, width, channels; a response
    return argument in ("in_neurons", "fir_response") and isinstance(value, list)


# as cuba and rf have them, from which these derive
LATER = re.compile(r"(neuron|block)\.(alif|rf_iz|adrf|adrf_iz)\b")
CASES = [
    pytest.param(
        function, arguments, argument, id=f"{path}-{argument}",
        marks=pytest.mark.slow if LATER.match(path) else (),
    )
    for path, function, arguments in constructors()
    for argument in inspect.signature(function).parameters
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "argument"), CASES)
def test_a_wrong_type_names_argument_and_value(function, arguments, argument):
    function(**arguments)
    for value in WRONG:
        if takes(function, argument, value):
            continue
        with pytest.raises((TypeError, ValueError)) as error:
            function(**arguments | {argument: value})
        message = str(error.value)
        assert re.search(rf"\b{argument}\b", message)
        given = GIVEN.get((argument, type(value)), str(value))
        assert given in message
        assert re.search(r"must be|expected|needs|is a pair|one of", message)


def test_every_public_constructor_of_a_neuron_and_a_block_is_here():
    tested = {function for _, function, _ in constructors()}
    for family in NEURONS:
        module = getattr(slayer.block, family)
        named = {getattr(module, name) for name in module.__all__}
        blocks = {c for c in named if isinstance(c, type) and "Abstract" not in c.__name__}
        assert blocks <= tested


@pytest.mark.parametrize(
    "one", [True, 1, torch.tensor(True), torch.tensor([1]), torch.ones(()).numpy()], ids=repr
)
def test_flags_take_what_is_true_or_false(one):
    neuron = slayer.neuron.cuba.Neuron(**NEURONS["cuba"], requires_grad=one, persistent_state=one)
    assert neuron.requires_grad is neuron.persistent_state is True


@pytest.mark.parametrize("number", [torch.tensor(0.75), torch.tensor([0.75]).numpy()], ids=repr)
def test_numbers_may_be_arrays_of_one(number):
    arguments: dict[str, Any] = NEURONS["cuba"] | {
        "threshold": number,
        "tau_grad": number,
        "scale_grad": number,
    }
    neuron = slayer.neuron.cuba.Neuron(**arguments)
    assert (neuron.threshold, neuron.tau_grad, neuron.scale_grad) == (0.75, 0.75, 0.75)


def test_missing_and_unknown_arguments_of_a_neuron_name_the_block():
    for params, wrong in (({"threshold": 1}, "current_decay"), ({"treshold": 1}, "treshold")):
        with pytest.raises(
            TypeError, match=rf"neuron_params of a Dense: .*'{wrong}'.*; expected are threshold, "
        ):
            slayer.block.cuba.Dense(params, 4, 3)


def test_a_norm_that_takes_arguments_and_a_norm_that_is_none():
    neuron = {"threshold": 1, "current_decay": 0.2, "voltage_decay": 0.1}
    for norm, words in (
        (torch.nn.BatchNorm1d, "norm is BatchNorm1d, which is called without arg.*MeanOnlyBatch"),
        (lambda: 3, "gives 3; expected a module"),
    ):
        with pytest.raises(TypeError, match=words):
            slayer.block.cuba.Dense(neuron | {"norm": norm}, 3, 2)


@pytest.mark.parametrize("kind", BLOCKS)
def test_an_input_in_float64_names_the_block(kind):
    family = "sigma_delta" if kind == "Output" else "cuba"
    neuron = {} if kind in ("Average", "Flatten", "TimeDecimation") else NEURONS[family]
    given = {"neuron_params": neuron} if neuron else {}
    block = getattr(getattr(slayer.block, family), kind)(**given | BLOCKS[kind])
    image = kind in ("Conv", "ConvT", "Pool", "Unpool")
    x = torch.rand(1, 2, 4, 4, 3) if image else torch.rand(1, 4, 3)
    with pytest.raises(TypeError, match=rf"^{kind} input must be float32 .*Use x\.float\(\)"):
        block(x.double())
