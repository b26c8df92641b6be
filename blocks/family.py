"""What the mixins of the neurons share, which join a neuron with the kinds of base.py.

class AbstractCuba(NeuronMixin):
    neurons = lapilli.neurons.cuba

class Dense(AbstractCuba, base.AbstractDense):
    ...
"""

import inspect
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch


class NeuronMixin(torch.nn.Module):
    """Base of the mixins that give a block its neuron.

    A block takes the arguments of its kind. Where the neuron has other defaults, they are in
    ``defaults``, by name.
    """

    neurons: ModuleType  # module of the neuron
    defaults: dict[str, Any] = {}  # noqa: RUF012 (a table)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Show the defaults of the neuron in the signature."""
        super().__init_subclass__(**kwargs)
        passes = cls.__init__ is NeuronMixin.__init__
        cls.__signature__ = cls._constructor() if passes else None
        if passes and hasattr(cls, "_set_neuron"):  # joined with a kind of block
            cls._is_joined = True

    @classmethod
    def _constructor(cls) -> inspect.Signature:
        """Return the signature of the kind's constructor with the defaults of the neuron."""
        signature = inspect.signature(super().__init__)
        _, *parameters = signature.parameters.values()  # the first is self
        for k, p in enumerate(parameters):
            if p.name in cls.defaults and p.default is not p.empty:
                parameters[k] = p.replace(default=cls.defaults[p.name])
        return signature.replace(parameters=parameters)

    if not TYPE_CHECKING:  # checkers see the constructor of the kind

        def __init__(self, *args: Any, **kwargs: Any):
            signature = self._constructor()
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                name = type(self).__name__
                raise TypeError(f"{name}: {error}; expected {name}{signature}") from None
            given.apply_defaults()
            super().__init__(*given.args, **given.kwargs)
            params = self.__dict__.pop("neuron_params", None)  # of a class that has no kind
            if params is not None:
                self.neuron = self._new_neuron(**params)

    def _new_neuron(self, **params: Any) -> torch.nn.Module:
        kind = self.neurons.Neuron
        known = inspect.signature(kind).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
        unknown = [repr(name) for name in params if not (takes_any or name in known)]
        missing = [
            repr(p.name)
            for p in known.values()
            if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in params
        ]
        if unknown or missing:
            wrong = [f"unknown {', '.join(unknown)}"] * bool(unknown)
            wrong += [f"missing {', '.join(missing)}"] * bool(missing)
            raise TypeError(
                f"neuron_params of a {type(self).__name__}: {'; '.join(wrong)}; expected are "
                f"{', '.join(known)}"
            )
        return kind(**params)
