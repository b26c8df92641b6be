"""What the file of a neuron declares for those who call all of them alike.

A ``Recurrence`` stands at the end of each file of this room. Tests, benchmarks and the list of
kernels read it, so that none of them has a row of its own for a neuron. What the signatures of the
public functions say is read there; only what they cannot say is declared.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor

_ADAPTING = ("threshold_decay", "refractory_decay")  # their gradients are zero, as in lava-dl


@dataclass(frozen=True, repr=False)
class Recurrence:
    """A recurrence, by its public functions.

    They take the input, parameters that are tensors, numbers, and then by name only what has a
    default. ``kernels/reference`` has functions of the same names.

    Parameters
    ----------
    spikes
        Function that gives the output, or None.
    dynamics
        Function that gives the states instead, or None.
    usual
        Values of parameters and numbers, by argument, that measurements use.
    growth
        How large a state can grow in so many steps of inputs up to 1.
    kept
        Bytes kept for backward, a neuron and step: of frozen parameters and of learned ones.
    strict
        Whether a spike must exceed the threshold, where others reach it.
    resets
        Whether a spike sets the state back, so that the dynamics depend on the threshold.
    trains
        Whether gradients flow through it.
    dynamics_kernels
        Kernels that the dynamics take, one after another.
    name
        If it is not that of the first function.
    """

    spikes: Callable[..., Any] | None
    dynamics: Callable[..., Any] | None = None
    usual: Mapping[str, float] = field(default_factory=dict)
    growth: Callable[[int], float] = lambda steps: 1.0
    kept: tuple[float, float] = (0.0, 0.0)
    strict: bool = False
    resets: bool = True
    trains: bool = True
    dynamics_kernels: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        """Take the name of the function."""
        object.__setattr__(self, "name", self.name or self.function.__name__)

    def __repr__(self) -> str:
        return self.name

    @property
    def function(self) -> Callable[..., Any]:
        """What it is called by: the spikes if it has some, else the dynamics."""
        function = self.spikes or self.dynamics
        assert function is not None
        return function

    @functools.cached_property
    def _arguments(self) -> list[inspect.Parameter]:
        return [*inspect.signature(self.function).parameters.values()]

    def _positional(self, of_kind: Callable[[Any], bool]) -> tuple[str, ...]:
        return tuple(
            p.name
            for p in self._arguments[1:]
            if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty and of_kind(p.annotation)
        )

    def _options(self, annotation: Any) -> tuple[str, ...]:
        return tuple(
            p.name
            for p in self._arguments
            if p.kind is p.KEYWORD_ONLY and p.annotation == annotation
        )

    @property
    def inputs(self) -> int:
        """Series of the input: real and imaginary part are two."""
        return 1 if self._arguments[0].annotation is Tensor else 2

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Parameters that are tensors and must be given."""
        return self._positional(lambda kind: kind is Tensor)

    @property
    def optional_names(self) -> tuple[str, ...]:
        """Parameters that are tensors and may be left out."""
        return tuple(n for n in self._options(Tensor | None) if n != "state")

    @property
    def learned_names(self) -> tuple[str, ...]:
        """Those of ``tensor_names`` whose gradients are not always zero."""
        return tuple(n for n in self.tensor_names if n not in _ADAPTING)

    @property
    def number_names(self) -> tuple[str, ...]:
        """Numbers that must be given, such as the threshold and the scale."""
        return self._positional(lambda kind: kind is not Tensor)

    @property
    def flags(self) -> tuple[str, ...]:
        """Options that are true or false and change the output."""
        return tuple(n for n in self._options(bool) if n not in ("return_state", "count"))

    @property
    def states(self) -> int:
        """Tensors that make up the state, 0 if the function takes none."""
        for p in self._arguments:
            if p.name == "state":
                (kind,) = (k for k in get_args(p.annotation) if k is not type(None))
                return 1 if kind is Tensor else len(get_args(kind))
        return 0

    @property
    def adapts(self) -> bool:
        """Whether spikes raise its threshold."""
        return "threshold_step" in self.number_names

    @property
    def learns(self) -> bool:
        """Whether it has parameters that can be learned."""
        return bool(self.tensor_names)

    @property
    def parameters(self) -> tuple[float, ...]:
        """Usual values of ``tensor_names``."""
        return tuple(float(self.usual[n]) for n in self.tensor_names)

    @property
    def numbers(self) -> tuple[float, ...]:
        """Usual values of ``number_names``."""
        return tuple(self.usual[n] for n in self.number_names)

    def tensors(self, device: torch.device | None = None) -> list[Tensor]:
        """Return the usual parameters, one value for all neurons."""
        return [torch.tensor([p], device=device) for p in self.parameters]

    def callable(self, package: str = "") -> Callable[..., Any]:
        """Return the function, or that of a package such as ``lapilli.kernels.reference``."""
        return in_package(self.function, package) if package else self.function


def in_package(function: Callable[..., Any], package: str) -> Callable[..., Any]:
    """Return what a package has under the module and the name of a function."""
    module = function.__module__.rpartition(".")[2]
    return getattr(importlib.import_module(f"{package}.{module}"), function.__name__)


@functools.cache
def recurrences() -> dict[str, Recurrence]:
    """Return what the files of this room declare, by name.

    In the order of tables: what leaks, what turns, and what does neither; each without an adapting
    threshold first.
    """
    found: dict[str, Recurrence] = {}
    package = __name__.rpartition(".")[0]
    for file in pkgutil.iter_modules(importlib.import_module(package).__path__):
        declared = vars(importlib.import_module(f"{package}.{file.name}")).values()
        found |= {r.name: r for r in declared if isinstance(r, Recurrence)}

    def place(name: str) -> tuple[bool, int, bool, str]:
        own = found[name]
        decays = any(n.endswith("decay") for n in own.tensor_names)
        return not decays, own.inputs, own.adapts, name

    return {name: found[name] for name in sorted(found, key=place)}
