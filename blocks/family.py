"""How the blocks of one neuron are made: its mixin joined with the kinds of base.py.

class AbstractCuba(NeuronMixin):
    neurons = lapilli.neurons.cuba

Input, Dense = blocks(AbstractCuba, "Input", "Dense")
"""

import inspect
from types import ModuleType
from typing import Any

import torch

from . import base


class NeuronMixin(torch.nn.Module):
    """Base of the mixins that give a block its neuron.

    Its constructor passes everything on to the kind of block. What the caller leaves out is taken
    from ``defaults`` first.
    """

    neurons: ModuleType  # module of the neuron
    defaults: dict[str, Any] = {"pre_hook_fx": base.NEURON_HOOK}  # noqa: RUF012 (a table)

    def __init__(self, *args: Any, **kwargs: Any):
        signature = inspect.signature(super().__init__)
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            name = type(self).__name__
            raise TypeError(f"{name}: {error}; expected {name}{signature}") from None
        for name, value in self.defaults.items():
            if name in signature.parameters and name not in given:
                kwargs[name] = value
        super().__init__(*args, **kwargs)
        params = self.__dict__.pop("neuron_params", None)  # of a class that has no kind
        if params is not None:
            self.neuron = self._new_neuron(**params)

    def _new_neuron(self, **params: Any) -> torch.nn.Module:
        return self.neurons.Neuron(**params)


def blocks(mixin: type[NeuronMixin], *kinds: str) -> tuple[type, ...]:
    """Make the classes ``kinds`` of a neuron, in its mixin's module.

    Kinds without a neuron (Flatten, ...) derive from their base alone.
    """
    made = []
    for kind in kinds:
        abstract = getattr(base, f"Abstract{kind}")
        has_neuron = issubclass(abstract, base._NeuronBlock)
        parents = (mixin, abstract) if has_neuron else (abstract,)
        names = {"__module__": mixin.__module__, "__qualname__": kind, "_is_joined": True}
        block = type(kind, parents, names)
        summary, _, rest = abstract.__doc__.partition("\n")
        neurons = f"\n\nThe neurons are ``{mixin.neurons.__name__}.Neuron``." if has_neuron else ""
        block.__doc__ = f"{summary}{neurons}\n{rest}"
        block.__signature__ = inspect.signature(abstract)
        made.append(block)
    return tuple(made)
