"""The default that ``help`` shows is the value that a call without the argument uses."""

import inspect
import pydoc
from pathlib import Path

import numpy as np
import pytest
import torch
from cells import NEURONS
from known import present, wrong
from public import parameters, public
from torch.nn.parameter import is_lazy

from lapilli import slayer

NETWORK = Path(__file__).parents[1] / "golden" / "hdf5" / "cuba_mlp.net"

# what classes need, by name
NEEDED = {
    "advice": "", "binds": None, "block": "cuba", "c_event": [0, 1], "channels": (2, 3),
    "chip": None, "chips": 1, "cores": 1, "dropout": None, "error": None,
    "factor": 4, "false_rate": 0.1, "filter_length": 5, "graded_spike": False, "in_features": 2,
    "in_neurons": 6, "kernel_size": (2, 2), "layer": 0, "layers": (), "limit": "",
    "net": slayer.block.cuba.Dense(NEURONS["cuba"], 6, 5),
    "network_config": NETWORK, "norm": None, "num_filter": 2, "num_outputs": 3, "num_winners": 2,
    "optimizer": None, "out_features": 3, "out_neurons": 5, "persistent_state": False,
    "problem": "", "remedy": "", "requires_grad": False, "scale": 64, "scale_grad": 1,
    "shared_param": True, "t_event": [3, 4], "tau_grad": 1, "threshold": 2, "time_window": 5,
    "true_rate": 0.5, "weight_shape": (3, 2, 1, 1), "x_event": [1, 2], "y_event": [1, 2],
}  # fmt: skip


def classes():
    """Yield every class that can be made and has defaults, with the arguments that it needs."""
    seen = set()
    for module, name, thing in public():
        known = parameters(thing)
        defaults = any(p.default is not p.empty for p in known)
        if not isinstance(thing, type) or thing in seen or not defaults or "Abstract" in name:
            continue
        seen.add(thing)
        neuron = NEURONS.get(module.rpartition(".")[2], {})
        given = NEEDED | neuron | {"neuron_params": neuron}
        wanted = [p.name for p in known if p.default is p.empty or p.name == "neuron_params"]
        yield pytest.param(thing, {n: given[n] for n in wanted}, id=f"{module}.{name}")


def held(value, seen):
    """Describe a value and all that it holds, so that equal ones have equal descriptions."""
    if is_lazy(value):  # a parameter whose size the first call gives
        return type(value), str(value.dtype), str(value.device), value.requires_grad
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return type(value), str(value.dtype), value.tolist()
    if isinstance(value, (list, tuple, set)):
        return type(value), [held(v, seen) for v in value]
    if isinstance(value, dict):
        return {str(k): held(v, seen) for k, v in value.items()}
    if inspect.ismethod(value):
        return value.__name__, held(value.__self__, seen)
    if isinstance(value, type) or not hasattr(value, "__dict__") or inspect.isroutine(value):
        return repr(value)
    if id(value) in seen:
        return "seen", seen[id(value)]
    seen[id(value)] = len(seen)
    return type(value), held(vars(value), seen)


def made(thing, arguments):
    """Describe a new object; random draws are the same each time."""
    torch.manual_seed(0)
    return held(thing(**arguments), {})


@pytest.mark.parametrize(("thing", "needed"), list(classes()))
def test_the_default_that_is_shown_is_used(thing, needed):
    left_out = made(thing, needed)
    for p in parameters(thing):
        if p.name not in needed:
            assert made(thing, needed | {p.name: p.default}) == left_out, p


@pytest.mark.parametrize("kind", ["Dense", "Conv", "Input", "Unpool"])
def test_sigma_delta_blocks_show_that_they_do_not_shift(kind):
    def shown(module):
        return inspect.signature(getattr(module, kind)).parameters["delay_shift"].default

    assert shown(slayer.block.sigma_delta) is False
    assert shown(slayer.block.cuba) is True
    plain = vars(pydoc)["plaintext"]  # which its types do not have
    text = pydoc.render_doc(getattr(slayer.block.sigma_delta, kind), renderer=plain)
    assert "delay_shift: bool = False" in text.partition("Method resolution order")[0]


def test_classes_of_users_show_their_own_arguments():
    class Mine(slayer.block.sigma_delta.Dense):
        """Of one size."""

        def __init__(self, out_neurons=3):
            super().__init__(NEURONS["sigma_delta"], 6, out_neurons)

    class AsInLavaDL(slayer.block.sigma_delta.AbstractSDRelu, slayer.block.base.AbstractDense):
        """Fully connected."""

    assert list(inspect.signature(Mine).parameters) == ["out_neurons"]
    assert Mine.__doc__ == "Of one size."
    assert Mine().delay_shift is False
    assert inspect.signature(AsInLavaDL) == inspect.signature(slayer.block.sigma_delta.Dense)
    assert AsInLavaDL(NEURONS["sigma_delta"], 6, 5).delay_shift is False
    assert present(AsInLavaDL.__doc__).startswith("Fully connected.\n\nDense layer: ")


def test_arguments_that_do_not_fit_say_what_is_expected():
    with pytest.raises(TypeError, match=r"^Dense: missing.*'out_neurons'; expected Dense\(neuron_"):
        wrong(slayer.block.cuba.Dense)(NEURONS["cuba"], 6)


@pytest.mark.parametrize("name", ["Dense", "Conv", "ConvTranspose", "Pool", "Unpool"])
def test_complex_synapses_take_what_real_ones_take(name):
    real, pair = (getattr(m, name) for m in (slayer.synapse.layer, slayer.synapse.complex))
    assert inspect.signature(real) == inspect.signature(pair)
