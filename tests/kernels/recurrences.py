"""The recurrences under test: one row each, which every test of this folder picks up."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

KERNELS, ORACLES = "lapilli.kernels.recurrences", "lapilli.kernels.reference"


@dataclass(frozen=True, repr=False)
class Recurrence:
    """A recurrence, by its public functions ``module.name``, which kernels and oracles share."""

    name: str
    # what each of the functions is called with: (function, problem, x, parameters, **options)
    spikes: str | None = None
    spikes_form: Callable[..., Any] | None = None
    dynamics: str | None = None
    dynamics_form: Callable[..., Any] | None = None
    inputs: int = 1  # real and imaginary part are two
    parameters: tuple[str, ...] = ()  # names in problems.KINDS
    states: int = 0
    # how large a state can grow: a bound by the number of steps, for the largest input 1
    growth: Callable[[int], float] = lambda steps: 1.0
    strict: bool = False  # a spike exceeds the threshold
    adapts: bool = False  # spikes raise the threshold
    features: frozenset[str] = frozenset()  # fields and options of problems that it has
    options: tuple[str, ...] = ()  # flags of ``spikes``, each drawn at random
    dynamics_parts: int = 1  # kernels that the dynamics take, one after the other

    def __post_init__(self):
        for path in filter(None, (self.spikes, self.dynamics)):
            importlib.import_module(f"{KERNELS}.{path.split('.')[0]}")

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
        dynamics = dynamics or self.spikes is None
        path, form = (
            (self.dynamics, self.dynamics_form) if dynamics else (self.spikes, self.spikes_form)
        )
        assert path is not None
        assert form is not None
        module, name = path.split(".")
        function = getattr(importlib.import_module(f"{package}.{module}"), name)
        x = tuple(inputs) if self.inputs > 1 else inputs[0]
        if options.get("state") is not None and self.states == 1:
            options["state"] = options["state"][0]
        out = form(function, problem, x, parameters, **options)
        if options.get("return_state"):
            outputs, after = out
            return (outputs,), after if isinstance(after, tuple) else (after,)
        return out if isinstance(out, tuple) else (out,), ()


def _neuron(function, problem, x, parameters, **options):
    return function(x, *parameters, *problem.thresholds, problem.scale, **options)


def _filter(function, problem, x, parameters, **options):
    return function(x, *parameters, problem.scale, **options)


def _filter_with_reset(function, problem, x, parameters, **options):
    return function(x, *parameters, problem.scale, threshold=problem.threshold, **options)


def _phase(function, problem, x, parameters, state=None, **options):
    last, state = (None, None) if state is None else (state[0], state[1:])
    return function(
        *x, *parameters, *problem.thresholds, problem.scale, imag_before=last, state=state,
        **options,
    )  # fmt: skip


def _encoder(function, problem, x, parameters, tau_rho=1.0, **options):
    threshold, *bias = parameters
    if bias:
        options["bias"] = bias[0]
    return function(x, threshold, problem.scale, tau_grad=tau_rho, **options)


def _sum(function, problem, x, parameters, tau_rho=1.0, **options):
    return function(x, **options)


def _hop(function, problem, x, parameters, tau_rho=1.0, state=None, return_state=False):
    y = function(x, state)
    return (y, x[..., -1].detach().float()) if return_state else y


def _delay(function, problem, x, parameters, tau_rho=1.0):
    return function(x, *parameters, sampling_time=2.0, grad_scale=0.5)


def _one_filter(steps):
    return steps + 1


def _two_filters(steps):
    return (steps + 1) * (steps + 2)


def _rotation(steps):
    return 8 * (steps + 1)


def _raised_threshold(steps):
    return 24 * (steps + 2) ** 2


_SPIKING = frozenset({"scale", "train", "learn", "graded", "shift", "state"})
_NEURON: dict[str, Any] = {
    "spikes_form": _neuron,
    "features": _SPIKING | {"dynamics"},
    "options": ("graded", "shift"),
}
_RESONATOR: dict[str, Any] = _NEURON | {
    "inputs": 2,
    "parameters": ("rotation",),
    "growth": _rotation,
}
_ADAPTIVE: dict[str, Any] = {
    "states": 4,
    "adapts": True,
    "growth": _raised_threshold,
    "dynamics_form": _neuron,
}


def _with(arguments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return arguments | changes


TABLE = [
    Recurrence(
        "cuba", "cuba.cuba", dynamics="cuba.cuba_dynamics", dynamics_form=_neuron,
        parameters=("decays",), states=2, growth=_two_filters, strict=True, **_NEURON,
    ),
    Recurrence(
        "leaky", "leaky.leaky_spike", dynamics="leaky.leaky", dynamics_form=_filter_with_reset,
        parameters=("decay",), states=1, growth=_one_filter, strict=True, **_NEURON,
    ),
    Recurrence(
        "alif", "alif.alif", dynamics="alif.alif_dynamics",
        parameters=("decays", "decays"), dynamics_parts=2,
        **_NEURON | _ADAPTIVE,
    ),
    Recurrence(
        "rf", "rf.rf", dynamics="resonator.resonator", dynamics_form=_filter, states=2,
        **_RESONATOR,
    ),
    Recurrence(
        "rf_iz", "rf_iz.rf_iz", dynamics="resonator.resonator", dynamics_form=_filter_with_reset,
        states=2, **_RESONATOR,
    ),
    Recurrence(
        "adrf", "rf.adrf", dynamics="rf.adrf_dynamics",
        **_with(_RESONATOR | _ADAPTIVE, parameters=("rotation", "decays")),
    ),
    Recurrence(
        "adrf_iz", "rf_iz.adrf_iz", dynamics="rf_iz.adrf_iz_dynamics",
        **_with(_RESONATOR | _ADAPTIVE, parameters=("rotation", "decays")),
    ),
    Recurrence(
        "adaptive_threshold", dynamics="adaptive_threshold.adaptive_threshold",
        parameters=("decays",), features=frozenset({"scale", "state"}),
        **_with(_ADAPTIVE, states=2),
    ),
    Recurrence(
        "adaptive_phase_threshold", dynamics="adaptive_threshold.adaptive_phase_threshold",
        inputs=2, parameters=("decays",), features=frozenset({"scale", "state"}),
        **_with(_ADAPTIVE, states=3, dynamics_form=_phase),
    ),
    Recurrence(
        "sigma", "sigma.sigma", _sum, states=1, features=frozenset({"train", "state"}),
    ),
    Recurrence(
        "delta", "delta.delta", _encoder, parameters=("threshold",), states=3,
        features=_SPIKING - {"graded"} | {"cum_error"}, options=("shift", "cum_error"),
    ),
    Recurrence(
        "sigma_delta", "sigma_delta.sigma_delta", _encoder, parameters=("threshold", "bias"),
        states=4, features=_SPIKING - {"graded"} | {"cum_error", "relu"},
        options=("shift", "cum_error", "relu"),
    ),
    Recurrence(
        "step_delay", "delay.step_delay", _hop, states=1, features=frozenset({"train", "state"}),
    ),
    Recurrence(
        "channel_delay", "delay.channel_delay", _delay, parameters=("delay",),
        features=frozenset({"train", "learn"}),
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


# these share the kernels of rf and alif, whose other forms are run at once
_SHARING = ("rf_iz", "adrf", "adrf_iz")


def soon(recurrence: Recurrence) -> list[str]:
    """Names of the variants that quick tests run."""
    later = ("graded", "scale not a power of two") if recurrence.name in _SHARING else ()
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
