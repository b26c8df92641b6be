"""Docstrings of synapses and blocks: what an argument means is said once."""

import importlib
import inspect
import textwrap
from collections.abc import Callable
from typing import TypeVar

Class = TypeVar("Class", bound=type)

_PAIR = "an integer, or a pair (height, width)"

_PARAMETERS = {
    "neuron_params": "Arguments of the neuron by name, as a dict, which is not changed.",
    "in_neurons": "Number of inputs; for an image (width, height) or (width, height, channels).",
    "out_neurons": "Number of outputs.",
    "in_features": "Number of channels of the input.",
    "out_features": "Number of channels of the output.",
    "kernel_size": f"Size of the window: {_PAIR}.",
    "stride": f"How far the window moves at a time: {_PAIR}.",
    "padding": f"Number of zeros added on every side: {_PAIR}.",
    "dilation": f"Distance between neighbouring inputs of a window: {_PAIR}.",
    "groups": (
        "Number of groups of channels that do not see each other. It must divide both numbers\n"
        "of channels."
    ),
    "weight_scale": "Factor of the initial weights, drawn uniformly within 1 / sqrt(fan-in).",
    "weight_norm": "Learn the length and the direction of each output's weights separately.",
    "pre_hook_fx": (
        "Function applied to the weight before use, called ``fx(weight)`` and, for export,\n"
        "``fx(weight, descale=True)``. If left out, it is the neuron's ``quantize_8bit``.\n"
        "With None, no function is applied."
    ),
    "delay": "Learn an axonal delay for each channel, of 0 to 62 steps; see ``axon.Delay``.",
    "delay_shift": "Delay the output by one step, which a spike takes to arrive on the chip.",
    "count_log": "Also return the event rate, which is the share of outputs that are not zero.",
    "num_winners": "Number of neurons that may be active at once, 1 to ``out_neurons``.",
    "self_excitation": "Initial weight of each neuron on itself, kept within [0, 1].",
    "requires_grad": "Learn the weights of the feedback.",
    "gradient": (
        "Which way the gradient takes from a step to the one before. ``full``: through the\n"
        "neuron's states and the feedback, as in training through time; it can grow with every\n"
        "step, and norm and dropout are not allowed. ``bounded``: the same, but what comes back\n"
        "through the feedback can at most double the gradient; with norm or dropout, which only\n"
        "resonators may have, nothing comes back through it. ``lava-dl``: through the feedback\n"
        "alone; the neuron's own parameters get gradients of zero. None:\n"
        "``bounded`` for resonators, which do not learn with the others, else ``lava-dl``."
    ),
    "synapse": (
        "How inputs are multiplied on a CPU: ``auto`` by their density, ``dense``, or ``events``,\n"
        "which adds the weights of those that are not zero. With groups and transposed, ``dense``\n"
        "always. The result is the same; can be changed as ``block.synapse.product``."
    ),
    "mask": "Tensor or array ``[out, in]`` of 0 and 1, or bool. A 0 cuts the synapse.",
}


_examples: dict[type, str] = {}  # of the kinds; their classes have them in their docstrings


def documented(raises: str, example: str = "", **parameters: str) -> Callable[[Class], Class]:
    """Complete the docstring of a class with its parameters and errors.

    Parameters
    ----------
    raises
        When it raises ValueError.
    example
        Lines of a doctest after the imports, in which ``Kind`` stands for the class and ``neuron``
        for settings of its neuron. It is shown by the classes that are used.
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
        _examples[cls] = example
        if example and not cls.__name__.startswith(("Abstract", "_")):  # used itself
            cls.__doc__ += _shown(cls, example)
        return cls

    return complete


def _shown(cls: type, example: str) -> str:
    """Return the section with the example of a kind, as it is written for a class."""
    module = cls.__module__.rpartition(".")[2]
    where = {"synapse": "synapse", "complex_synapse": "synapse.complex"}
    path = f"slayer.{where.get(module, f'block.{module}')}.{cls.__name__}"
    if module == "complex_synapse":
        example = example.replace("y = ", "real, imag = ").replace("y.", "real.")
    lines = [">>> import torch", ">>> from lapilli import slayer"]
    if "neuron" in example:
        lines += _settings_of(module)
    lines += example.replace("Kind", path).split("\n")
    return "\n".join(["", "", "Examples", "--------", *lines])


def _settings_of(module: str) -> list[str]:
    """Return the lines of an example that set the arguments of a neuron."""
    given = importlib.import_module(f"lapilli.neurons.{module}").SETTINGS.quick
    values = {n: f"torch.{v.__name__}" if callable(v) else f"{v:g}" for n, v in given.items()}
    text = f"neuron = dict({', '.join(f'{n}={v}' for n, v in values.items())})"
    first, *others = textwrap.wrap(text, 76)
    return [f">>> {first}", *(f"...               {line}" for line in others)]


def continued(cls: type, *kinds: type) -> None:
    """Let the docstring of a class go on with that of the first kind that lists its parameters."""
    own = vars(cls).get("__doc__") or ""
    for kind in kinds if own else ():
        text = vars(kind).get("__doc__") or ""
        if "\nParameters\n" in text:
            text = text.partition("\n\nExamples\n")[0]
            cls.__doc__ = f"{inspect.cleandoc(own)}\n\n{text}"
            example = _examples.get(kind, "")
            ours = cls.__module__.startswith("lapilli.blocks.")
            if example and ours and not cls.__name__.startswith("Abstract"):
                cls.__doc__ += _shown(cls, example)
            return
