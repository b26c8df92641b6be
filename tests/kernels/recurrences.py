"""The recurrences under test, as their files declare them; every test here picks them up."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from lapilli.kernels.recurrences import declared
from lapilli.kernels.recurrences.adaptive_threshold import adaptive_phase_threshold
from lapilli.kernels.recurrences.declared import in_package, recurrences
from torch import Tensor

KERNELS, ORACLES = "lapilli.kernels.recurrences", "lapilli.kernels.reference"

# parameters by their names, and what problems.KINDS calls one or a pair; another decay is a "decay"
KINDS_OF = {
    ("sin_decay", "cos_decay"): "rotation",
    ("current_decay", "voltage_decay"): "decays",
    ("threshold_decay", "refractory_decay"): "decays",
    ("decay",): "decay",
    ("threshold",): "threshold",
    ("bias",): "bias",
    ("delay",): "delay",
}


def kinds_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kinds of parameters, in order."""
    kinds = []
    while names:
        own = next((n for n in KINDS_OF if names[: len(n)] == n), names[:1])
        kind = KINDS_OF.get(own, "decay" if own[0].endswith("_decay") else None)
        assert kind is not None, f"say in KINDS_OF and problems.KINDS what {own[0]} is"
        kinds.append(kind)
        names = names[len(own) :]
    return tuple(kinds)


@dataclass(frozen=True, repr=False)
class Recurrence:
    """A recurrence, by its public functions, which kernels and oracles share."""

    name: str
    spikes: Callable[..., Any] | None
    dynamics: Callable[..., Any] | None
    inputs: int  # real and imaginary part are two
    parameters: tuple[str, ...]  # names in problems.KINDS
    states: int
    # how large a state can grow: a bound by the number of steps, for the largest input 1
    growth: Callable[[int], float]
    strict: bool  # a spike exceeds the threshold
    resets: bool  # a spike sets the state back
    adapts: bool  # spikes raise the threshold
    features: frozenset[str]  # fields and options of problems that it has
    options: tuple[str, ...]  # flags of ``spikes``, each drawn at random
    dynamics_parts: int  # kernels that the dynamics take, one after the other
    kept: tuple[float, float]  # bytes a neuron and step, with frozen and with learned parameters
    form: Callable[..., Any] | None = None  # (function, problem, x, parameters, **options)

    def __repr__(self):
        return self.name

    def variants(self) -> dict[str, dict[str, Any]]:
        """Return those of ``VARIANTS`` that it has; less the gradients, where it has none."""
        kept: dict[str, dict[str, Any]] = {}
        for name, options in VARIANTS.items():
            own = {k: v for k, v in options.items() if k in self.features}
            if own not in kept.values() and options.keys() - own.keys() <= {"train", "learn"}:
                kept[name] = own
        return kept

    def run(
        self, package: str, problem: Any, inputs: list[Tensor], parameters: list[Tensor],
        dynamics: bool = False, **options: Any,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:  # fmt: skip
        """Call the function of a package and return its outputs and the states after."""
        declared_function = self.dynamics if dynamics or self.spikes is None else self.spikes
        assert declared_function is not None
        function = in_package(declared_function, package)
        x = tuple(inputs) if self.inputs > 1 else inputs[0]
        if options.get("state") is not None and self.states == 1:
            options["state"] = options["state"][0]
        if self.form is not None:
            out = self.form(function, problem, x, parameters, **options)
        else:
            out = self._called(function, declared_function, problem, x, parameters, **options)
        if options.get("return_state"):
            outputs, after = out
            return (outputs,), after if isinstance(after, tuple) else (after,)
        return out if isinstance(out, tuple) else (out,), ()

    def _called(self, function, as_declared, problem, x, parameters, tau_rho=1.0, **options):
        """Call a function with the numbers that the declared one names."""
        values = {
            "threshold": problem.threshold, "threshold_step": problem.threshold_step,
            "scale": problem.scale,
        }  # fmt: skip
        named = [*inspect.signature(as_declared).parameters.values()][1:]
        given = iter(parameters)
        arguments = [x]
        for p in named:
            if p.annotation is Tensor:
                arguments.append(next(given))
            elif p.kind is p.POSITIONAL_OR_KEYWORD:
                arguments.append(values[p.name])
            elif p.annotation == Tensor | None and p.name != "state":
                options[p.name] = next(given)
            elif p.name == "threshold" and self.resets:  # dynamics may leave the reset out
                options[p.name] = values[p.name]
            elif p.name in ("tau_rho", "tau_grad"):
                options[p.name] = tau_rho
        return function(*arguments, **options)


def _row(own: declared.Recurrence, **changes: Any) -> Recurrence:
    """Return what tests want to know of a declared recurrence."""
    tensors = (*own.tensor_names, *own.optional_names)
    numbers = own.number_names
    has = {
        "scale": "scale" in numbers,
        "train": own.trains,
        "learn": own.trains and bool(tensors),
        "state": bool(own.states),
        "dynamics": own.spikes is not None and own.dynamics is not None,
    }
    row = Recurrence(
        own.name, own.spikes, own.dynamics, own.inputs, kinds_of(tensors), own.states, own.growth,
        own.strict, own.resets, own.adapts,
        frozenset([*(name for name, value in has.items() if value), *own.flags]), own.flags,
        own.dynamics_kernels, own.kept,
    )  # fmt: skip
    return replace(row, **changes)


def _phase(function, problem, x, parameters, state=None, **options):
    last, state = (None, None) if state is None else (state[0], state[1:])
    return function(
        *x, *parameters, *problem.thresholds, problem.scale, imag_before=last, state=state,
        **options,
    )  # fmt: skip


def _hop(function, problem, x, parameters, tau_rho=1.0, state=None, return_state=False):
    y = function(x, state)
    return (y, x[..., -1].detach().float()) if return_state else y


def _delay(function, problem, x, parameters, tau_rho=1.0):
    return function(x, *parameters, sampling_time=2.0, grad_scale=0.5)


# those that are no neurons, and are not called like one
FORMS: dict[str, dict[str, Any]] = {
    "step_delay": {"form": _hop, "states": 1, "features": frozenset({"train", "state"})},
    "channel_delay": {"form": _delay},
}
_BY_NAME = {name: _row(own, **FORMS.get(name, {})) for name, own in recurrences().items()}
TABLE = [
    *_BY_NAME.values(),
    replace(  # the same kernel, behind operators of torch
        _BY_NAME["adaptive_threshold"], name="adaptive_phase_threshold",
        dynamics=adaptive_phase_threshold, inputs=2, states=3, form=_phase,
    ),
]  # fmt: skip

# what each recurrence is compiled for, run in the interpreter and run on fixed inputs with
VARIANTS: dict[str, dict[str, Any]] = {
    "inference": {},
    "training": {"train": True},
    "shift": {"train": True, "shift": True},
    "graded": {"train": True, "graded": True},
    "accumulated error": {"train": True, "cum_error": True},
    "no rectifier": {"train": True, "relu": False},
    "scale not a power of two": {"train": True, "scale": 6400},
    "learned decays": {"train": True, "learn": True},
    "learned decays only": {"learn": True},
    "state": {"train": True, "learn": True, "state": True},
    "dynamics": {"train": True, "dynamics": True},
    "dynamics, learned decays": {"train": True, "learn": True, "dynamics": True, "state": True},
}

# tested where time does not matter, for what only combinations show
RARE = {
    "all at once": VARIANTS["state"] | {"graded": True, "shift": True, "scale": 6400},
    "all of an encoder": VARIANTS["state"] | {"cum_error": True, "shift": True, "scale": 6400},
}
VARIANTS |= RARE


def _pair(recurrence: Recurrence, name: str, soon: bool) -> Any:
    marks = () if soon else pytest.mark.slow
    return pytest.param(
        recurrence, recurrence.variants()[name], id=f"{recurrence}-{name}", marks=marks
    )


# each of the others shares its flags with one of these, and some share kernels
_WHOLE = ("cuba", "adaptive_threshold", "adaptive_phase_threshold", "sigma")
# variants that need loops of their own: of the others, tested in continuous integration only
_OWN_LOOPS = (
    "graded", "accumulated error", "no rectifier", "scale not a power of two",
    "learned decays only", "dynamics", "dynamics, learned decays",
)  # fmt: skip
# of the sort of cuba, rf or sigma_delta: at once the one that trains, learns and has a state
ALIKE = ("leaky", "alif", "rf_iz", "adrf", "adrf_iz", "delta")


def soon(recurrence: Recurrence) -> list[str]:
    """Names of the variants that quick tests run."""
    later = () if recurrence.name in _WHOLE else _OWN_LOOPS
    if recurrence.name in ALIKE:
        return ["state"]
    return [name for name in recurrence.variants() if name not in (*RARE, *later)]


# (recurrence, choices) for pytest.mark.parametrize
PAIRS = [_pair(r, name, name in soon(r)) for r in TABLE for name in r.variants()]


def most_of(recurrence: Recurrence) -> str:
    """Name of the variant without state that uses most of a recurrence's kernels."""
    variants = recurrence.variants()
    return "learned decays" if "learned decays" in variants else [*variants][-1]


# the others pass other flags to the same operators
FEW = [
    _pair(r, name, name in (most_of(r), "dynamics, learned decays"))
    for r in TABLE
    for name in r.variants()
]


def _fullest(recurrence: Recurrence) -> list[str]:
    """Names of the variants with most flags: one of spikes, and one of the dynamics."""
    variants = recurrence.variants()
    rare = [name for name in RARE if name in variants]
    dynamics = [name for name in ("dynamics, learned decays",) if name in variants]
    return list(dict.fromkeys([*(rare[-1:] or [most_of(recurrence)]), *dynamics]))


# each way of running a recurrence, with all that its kernels can be given
FULL = [
    pytest.param(r, r.variants()[name], id=f"{r}-{name}") for r in TABLE for name in _fullest(r)
]

# samples, neurons and steps that fill programs, chunks of time and tiles partly
RAGGED = [
    (17, 1, 17), (3, 2, 7), (2, 3, 1), (3, 5, 2), (3, 31, 48), (2, 127, 9), (1, 128, 49),
    (1, 129, 17), (1, 1000, 8),
]  # fmt: skip
