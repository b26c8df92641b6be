"""Networks and settings for the data sets that ``lapilli train`` knows."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lapilli.blocks import cuba

from lapilli import data, neurons, recordings
from lapilli.data import Dataset
from lapilli.loss import SpikeRate
from lapilli.recordings.networks import NEURON, convolutions
from lapilli.training import Rates


@dataclass(frozen=True)
class Recipe:
    """What is trained on a data set, and how.

    ``network`` makes a new one; its weights come from torch's generator. ``summary`` says what the
    data are. ``data`` opens them, with the folder that the user gave; where ``on_disk`` is false
    it takes none. A second argument says whether to download them first.
    """

    summary: str
    data: Callable[..., Dataset]
    network: Callable[[], torch.nn.Sequential]
    loss: torch.nn.Module
    epochs: int
    batch_size: int
    rates: Rates
    on_disk: bool = True


def _digits_network() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        cuba.Dense(NEURON, 64, 128, weight_norm=True),
        cuba.Dense(NEURON, 128, 10, weight_norm=True),
    )


def _nmnist_network() -> torch.nn.Sequential:
    neuron = NEURON | {"scale_grad": 3, "dropout": neurons.Dropout(0.05)}
    return torch.nn.Sequential(
        cuba.Dense(neuron, 2 * 34 * 34, 512, weight_norm=True, delay=True),
        cuba.Dense(neuron, 512, 512, weight_norm=True, delay=True),
        cuba.Dense(neuron | {"dropout": None}, 512, 10, weight_norm=True),
    )


def _shd_network() -> torch.nn.Sequential:
    neuron = NEURON | {"scale_grad": 3, "voltage_decay": 0.1, "dropout": neurons.Dropout(0.1)}
    return torch.nn.Sequential(
        cuba.Dense(neuron, 700, 256, weight_norm=True, delay=True),
        cuba.Dense(neuron, 256, 256, weight_norm=True, delay=True),
        cuba.Dense(neuron | {"dropout": None}, 256, 20, weight_norm=True),
    )


def _dvsgesture_network() -> torch.nn.Sequential:
    return convolutions(2, 32, 32, 11)


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        summary="8 x 8 handwritten digits",
        data=data.digits,
        network=_digits_network,
        loss=SpikeRate(true_rate=0.3, false_rate=0.0),
        epochs=20,
        batch_size=72,
        rates=Rates(weights=0.03, decays=0.05),
        on_disk=False,
    ),
    "nmnist": Recipe(
        summary="N-MNIST, digits in front of an event camera",
        data=functools.partial(recordings.load, "nmnist"),
        network=_nmnist_network,
        loss=SpikeRate(true_rate=0.2, false_rate=0.03),
        epochs=20,
        batch_size=64,
        rates=Rates(weights=0.003, decays=0.005),
    ),
    "shd": Recipe(
        summary="Spiking Heidelberg Digits, spoken digits",
        data=functools.partial(recordings.load, "shd"),
        network=_shd_network,
        loss=SpikeRate(true_rate=0.2, false_rate=0.02),
        epochs=50,
        batch_size=64,
        rates=Rates(weights=0.003, decays=0.005),
    ),
    "dvsgesture": Recipe(
        summary="IBM DVS128 Gesture, hand gestures in front of an event camera",
        data=functools.partial(recordings.load, "dvsgesture"),
        network=_dvsgesture_network,
        loss=SpikeRate(true_rate=0.2, false_rate=0.02),
        epochs=50,
        batch_size=16,
        rates=Rates(weights=0.003, decays=0.005),
    ),
}
