"""The recurrences under test: one row each, which every test of this folder picks up."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lapilli.kernels import cuba, leaky
from lapilli.kernels.reference import cuba as cuba_oracle
from lapilli.kernels.reference import leaky as leaky_oracle

Registers = dict[str, dict[str, int]]


@dataclass(frozen=True, repr=False)
class Recurrence:
    name: str
    kernels: ModuleType
    oracle: ModuleType
    # (module, inputs, decays, threshold, scale, **options) -> spikes, or with return_state also a
    # tuple of states
    spikes: Callable[..., Any]
    # (module, inputs, decays, threshold, scale, state) -> tuple of states over time
    dynamics: Callable[..., Any]
    inputs: int
    decays: int
    states: int
    integrators: int  # filters one after the other: bounds how large a state can grow
    # most registers of any variant, by kernel and target; they are given out in eights
    registers: Registers

    def __repr__(self):
        return self.name


def _cuba(module, inputs, decays, threshold, scale, **options):
    return module.cuba(*inputs, *decays, threshold, scale, **options)


def _cuba_dynamics(module, inputs, decays, threshold, scale, state=None):
    return module.cuba_dynamics(*inputs, *decays, threshold, scale, state=state)


def _leaky(module, inputs, decays, threshold, scale, state=None, **options):
    state = None if state is None else state[0]
    out = module.leaky_spike(*inputs, *decays, threshold, scale, state=state, **options)
    return (out[0], (out[1],)) if options.get("return_state") else out


def _leaky_dynamics(module, inputs, decays, threshold, scale, state=None):
    state = None if state is None else state[0]
    return (module.leaky(*inputs, *decays, scale, threshold=threshold, state=state),)


TABLE = [
    Recurrence(
        "cuba", cuba, cuba_oracle, _cuba, _cuba_dynamics,
        inputs=1, decays=2, states=2, integrators=2,
        registers={
            "_cuba_fwd_kernel": {"sm_80": 64, "sm_90": 64, "sm_120": 56, "gfx942": 40},
            "_cuba_bwd_kernel": {"sm_80": 80, "sm_90": 72, "sm_120": 72, "gfx942": 64},
        },
    ),
    Recurrence(
        "leaky", leaky, leaky_oracle, _leaky, _leaky_dynamics,
        inputs=1, decays=1, states=1, integrators=1,
        registers={
            "_leaky_fwd_kernel": {"sm_80": 64, "sm_90": 64, "sm_120": 56, "gfx942": 40},
            "_leaky_bwd_kernel": {"sm_80": 80, "sm_90": 72, "sm_120": 72, "gfx942": 64},
        },
    ),
]  # fmt: skip

# what each recurrence is compiled for, run in the interpreter and run on fixed inputs with
VARIANTS: dict[str, dict[str, Any]] = {
    "inference": {},
    "training": {"train": True},
    "shift": {"train": True, "shift": True},
    "graded": {"train": True, "graded": True},
    "scale not a power of two": {"train": True, "scale": 6400},
    "learned decays": {"train": True, "learn": True, "shift": True},
    "state": {"train": True, "learn": True, "state": True},
    "dynamics": {"train": True, "dynamics": True},
    "dynamics, learned decays": {"train": True, "learn": True, "dynamics": True, "state": True},
}
