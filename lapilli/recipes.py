"""Networks and settings for the data sets that ``lapilli train`` knows."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from . import data
from .blocks import cuba
from .loss import SpikeRate
from .training import Rates


@dataclass(frozen=True)
class Recipe:
    """What is trained on a data set, and how.

    ``data`` and ``network`` make new objects; the network's weights come from torch's generator.
    """

    data: Callable[[], data.Dataset]
    network: Callable[[], torch.nn.Sequential]
    loss: torch.nn.Module
    epochs: int
    batch_size: int
    rates: Rates


def _digits_network() -> torch.nn.Sequential:
    neuron = {
        "threshold": 1.25,
        "current_decay": 0.25,
        "voltage_decay": 0.03,
        "tau_grad": 0.03,
        "requires_grad": True,
    }
    return torch.nn.Sequential(
        cuba.Dense(neuron, 64, 128, weight_norm=True),
        cuba.Dense(neuron, 128, 10, weight_norm=True),
    )


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        data=data.digits,
        network=_digits_network,
        loss=SpikeRate(true_rate=0.3, false_rate=0.0),
        epochs=20,
        batch_size=72,
        rates=Rates(weights=0.03, decays=0.05),
    ),
}
