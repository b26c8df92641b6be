"""Docstrings of synapses and blocks: what an argument means is said once."""

import inspect
from collections.abc import Callable
from typing import TypeVar

Class = TypeVar("Class", bound=type)

_PAIR = "Integer, or a pair (height, width)"

_PARAMETERS = {
    "neuron_params": "Arguments of the neuron, by name; the dict is not changed.",
    "in_neurons": "Number of inputs; or (width, height) or (width, height, channels) of an image.",
    "out_neurons": "Number of outputs.",
    "in_features": "Channels of the input.",
    "out_features": "Channels of the output.",
    "kernel_size": f"{_PAIR}.",
    "stride": f"{_PAIR}.",
    "padding": f"{_PAIR}; zeros on every side.",
    "dilation": f"{_PAIR}.",
    "groups": "Groups of channels that do not see each other; divides both numbers of channels.",
    "weight_scale": "Factor of the initial weight, uniform within 1 over the root of the fan-in.",
    "weight_norm": "Learn direction and length of the weight apart.",
    "pre_hook_fx": (
        "Function applied to the weight before use, called ``fx(weight)`` and, for export,\n"
        "``fx(weight, descale=True)``. Left out: the neuron's ``quantize_8bit``. None: no function."
    ),
    "delay": "Learn an axonal delay of each channel, 0 to 62 steps; see ``axon.Delay``.",
    "delay_shift": "Delay the output by one step, as the hop to the next layer takes on the chip.",
    "count_log": "Also return the event rate, the share of non-zero outputs.",
    "num_winners": "Neurons that may be active at once, 1 to ``out_neurons``.",
    "self_excitation": "Initial weight of each neuron on itself, kept within [0, 1].",
    "requires_grad": "Learn the feedback.",
    "gradient": (
        "``lava-dl``: only the feedback links one step to the next, the neuron's parameters get\n"
        "gradients of zero. ``full``: through the neuron's states too, without norm and dropout;\n"
        "it may grow without bound. ``bounded``: as ``full``, but what comes back through the\n"
        "feedback at most doubles it; with norm or dropout, of resonators alone, none comes back.\n"
        "None: ``bounded`` for resonators, whose other gradients do not train, else ``lava-dl``."
    ),
    "synapse": (
        "How inputs are multiplied on a CPU: ``auto`` by their density, ``dense``, or ``events``,\n"
        "which adds the weights of those that are not zero. With groups and transposed, ``dense``\n"
        "always. The result is the same; can be changed as ``block.synapse.product``."
    ),
    "mask": "Tensor or array ``[out, in]`` of 0 and 1, or bool; 0 cuts a synapse. None cuts none.",
}


def documented(raises: str, **parameters: str) -> Callable[[Class], Class]:
    """Complete the docstring of a class with its parameters and errors.

    Parameters
    ----------
    raises
        When it raises ValueError.
    parameters
        Text for the arguments that have no common one, or another.
    """

    def complete(cls: Class) -> Class:
        texts = _PARAMETERS | parameters
        lines = [inspect.cleandoc(cls.__doc__ or ""), "", "Parameters", "----------"]
        for name in inspect.signature(cls).parameters:
            lines += [name, *("    " + line for line in texts[name].split("\n"))]
        lines += ["", "Raises", "------", "ValueError", f"    {raises}"]
        cls.__doc__ = "\n".join(lines)
        return cls

    return complete


def continued(cls: type, *kinds: type) -> None:
    """Let the docstring of a class go on with that of the first kind that lists its parameters."""
    own = vars(cls).get("__doc__")
    for kind in kinds if own else ():
        text = vars(kind).get("__doc__") or ""
        if "\nParameters\n" in text:
            cls.__doc__ = f"{inspect.cleandoc(own)}\n\n{text}"
            return
