"""Neurons with usual parameters, for measurements that have to choose some."""

import importlib
from typing import Any

import torch
from torch import Tensor

_CUBA = {"threshold": 1.0, "current_decay": 0.1, "voltage_decay": 0.04}
_RESONATOR = {"threshold": 1.0, "period": 20, "decay": 0.1}
_ADAPTATION = {"threshold_step": 0.1, "threshold_decay": 0.02, "refractory_decay": 0.05}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "cuba": _CUBA,
    "alif": _CUBA | _ADAPTATION,
    "rf": _RESONATOR,
    "rf_iz": _RESONATOR,
    "adrf": _RESONATOR | _ADAPTATION,
    "adrf_iz": _RESONATOR | _ADAPTATION,
    "sigma_delta": {"threshold": 0.1, "activation": torch.relu},
}


def parts(name: str) -> int:
    """Return the number of series in a neuron's input: a resonator takes a pair."""
    return 2 if "rf" in name else 1


def make(name: str, namespace: Any = None) -> torch.nn.Module:
    """Make a neuron of ``ARGUMENTS``; ``namespace`` has a module of each name."""
    if namespace is None:
        module = importlib.import_module(f"lapilli.neurons.{name}")
    else:
        module = getattr(namespace, name)
    return module.Neuron(**ARGUMENTS[name])


def as_input(series: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    """Join ``parts`` series to what a neuron takes."""
    return series[0] if len(series) == 1 else tuple(series)
