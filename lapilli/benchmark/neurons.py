"""Neurons with usual parameters, for measurements that have to choose some."""

import importlib
from typing import Any

import torch
from lapilli.kernels.recurrences.declared import recurrences
from lapilli.neurons.settings import settings
from torch import Tensor

ARGUMENTS: dict[str, dict[str, Any]] = {name: own.usual for name, own in settings().items()}


def parts(name: str) -> int:
    """Return the number of series in a neuron's input: a resonator takes a pair."""
    return recurrences()[name].inputs


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
