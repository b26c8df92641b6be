"""The network around each cell, and the settings of the neurons that all of them use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

RESONATORS = ("rf", "rf_iz", "adrf", "adrf_iz")
TURNS = {"threshold": 1.0, "period": 12, "decay": 0.3}
BY_PHASE = TURNS | {"period": 16}
LEAKY = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.1}
ADAPTS = {"threshold_step": 0.25, "threshold_decay": 0.2, "refractory_decay": 0.5}
NEURONS: dict[str, dict[str, Any]] = {
    "cuba": LEAKY | {"tau_grad": 0.03},
    "alif": LEAKY | ADAPTS | {"tau_grad": 0.03},
    "rf": BY_PHASE | {"tau_grad": 2.0},
    "rf_iz": TURNS | {"tau_grad": 0.03},
    "adrf": BY_PHASE | ADAPTS | {"tau_grad": 0.01},
    "adrf_iz": TURNS | ADAPTS | {"tau_grad": 0.03},
    "sigma_delta": {"threshold": 0.1, "activation": torch.relu},
}
# As drawn, the few weights of a convolution leave resonators of a threshold of 1 silent.
OF_IMAGES = ("Flatten", "Conv", "ConvT", "Pool", "Unpool")
LOW: dict[str, dict[str, Any]] = {f: {"threshold": 0.25} for f in ("rf", "rf_iz")}
LOW |= {f: {"threshold": 0.25, "threshold_step": 0.0625} for f in ("adrf", "adrf_iz")}
# The weights of a pool have equal real and imaginary parts. Where spikes go by phase, positive ones
# turn the state to where it has seven eighths of a turn to go, negative ones three eighths.
PHASE = ("rf", "adrf")
POOLS: dict[str, dict[str, Any]] = {f: {"period": 6, "decay": 0.1} for f in PHASE}
POOLED = {"cuba": 1.5, "alif": 1.5, "rf": -4.0, "rf_iz": 1.5, "adrf": -4.0, "adrf_iz": 1.5}
CARRIER = 4  # steps of a turn of what encodes values, and of the oscillation that carries them
ENCODERS: dict[str, dict[str, Any]] = {f: {"period": CARRIER} for f in RESONATORS}


@dataclass(frozen=True)
class Blocks:
    """Blocks of a family in a library with lava-dl's names."""

    namespace: Any
    family: str
    settings: dict[str, Any]  # of its neurons

    def __call__(self, kind: str, *args: Any, **options: Any) -> nn.Module:
        """Make a block; those with neurons get the family's settings."""
        made = getattr(getattr(self.namespace.block, self.family), kind)
        if kind in ("Flatten", "Average", "TimeDecimation"):
            return made(*args, **options)
        own = {"Pool": POOLS, "Unpool": POOLS, "Input": ENCODERS}.get(kind, {})
        return made(self.settings | own.get(self.family, {}), *args, **options)

    def readout(self, inputs: int, outputs: int) -> nn.Module:
        """Make a last layer."""
        return self("Output" if self.family == "sigma_delta" else "Dense", inputs, outputs)


def _dense(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [make("Dense", i, 96), make.readout(96, o)]


def _affine(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [make("Dense", i, 96), make("Affine", 96, o)]


def _input(make: Blocks, i: int, o: int) -> list[nn.Module]:
    if make.family == "sigma_delta":
        return [make("Input"), make("Dense", i, 96), make.readout(96, o)]
    encoder = make("Input", weight=1.0)
    # where spikes go by phase, training moves the one weight to where nothing spikes
    encoder.weight.requires_grad_(make.family not in PHASE)
    return [encoder, make("Dense", i, 96), make.readout(96, o)]


def _average(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [make("Dense", i, 96), make.readout(96, 4 * o), make("Average", o)]


def _decimation(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [make("Dense", i, 96), make("TimeDecimation", 2), make.readout(96, o)]


def _recurrent(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [make("Recurrent", i, 64), make.readout(64, o)]


def _kwta(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [make("KWTA", i, 96, 24), make.readout(96, o)]


def _flatten(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [make("Conv", 1, 8, 3, stride=2), make("Flatten"), make.readout(72, o)]


def _conv(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [
        make("Conv", 1, 6, 3), make("Conv", 6, 12, 3, stride=2), make("Flatten"),
        make.readout(48, o),
    ]  # fmt: skip


def _convt(make: Blocks, i: int, o: int) -> list[nn.Module]:
    return [
        make("Conv", 1, 6, 3, stride=2), make("ConvT", 6, 4, 3, stride=2), make("Flatten"),
        make.readout(196, o),
    ]  # fmt: skip


def _pool(make: Blocks, i: int, o: int) -> list[nn.Module]:
    scale = POOLED.get(make.family, 0.25)  # sigma-delta: a mean
    return [
        make("Conv", 1, 6, 3), make("Pool", 2, weight_scale=scale), make("Flatten"),
        make.readout(54, o),
    ]  # fmt: skip


def _unpool(make: Blocks, i: int, o: int) -> list[nn.Module]:
    scale = POOLED.get(make.family, 1.0)
    return [
        make("Conv", 1, 6, 3, stride=2), make("Unpool", 2, weight_scale=scale), make("Flatten"),
        make.readout(216, o),
    ]  # fmt: skip


AROUND: dict[str, Callable[[Blocks, int, int], list[nn.Module]]] = {
    "Input": _input,
    "Flatten": _flatten,
    "Average": _average,
    "TimeDecimation": _decimation,
    "Dense": _dense,
    "Affine": _affine,
    "Output": _dense,
    "Recurrent": _recurrent,
    "KWTA": _kwta,
    "Conv": _conv,
    "ConvT": _convt,
    "Pool": _pool,
    "Unpool": _unpool,
}


def gain(family: str, kind: str) -> float:
    """Return the factor from the outputs of a network, mean over time, to logits."""
    if family in ("sigma_delta", "torch") or kind == "Affine":
        return 1.0
    return 30.0 if family in PHASE else 20.0  # which spike once a period, or so


def form(family: str, kind: str) -> str:
    """Return the form in which a network takes its data."""
    if family == "sigma_delta":
        return "values"
    if kind != "Input":
        return "spikes"
    return "carrier" if family in RESONATORS else "values"


def build(
    namespace: Any, family: str, kind: str, inputs: int, outputs: int, **settings: Any
) -> nn.Sequential:
    """Make the network around a cell, its neurons with these settings besides those above.

    The generator of torch draws its weights.
    """
    low = LOW.get(family, {}) if kind in OF_IMAGES else {}
    make = Blocks(namespace, family, NEURONS[family] | low | settings)
    layers = AROUND[kind](make, inputs, outputs)
    if family == "sigma_delta" and kind != "Input":
        layers.insert(0, make("Input"))
    return nn.Sequential(*layers)


class Yardstick(nn.Module):
    """A recurrent layer of torch on the same spikes, and a linear readout at every step."""

    def __init__(self, kind: str, inputs: int, neurons: int, outputs: int):
        super().__init__()
        self.layer = getattr(nn, kind)(inputs, neurons, batch_first=True)
        self.readout = nn.Linear(neurons, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Run over ``[N, inputs, T]``; returns ``[N, outputs, T]``."""
        return self.readout(self.layer(x.transpose(1, 2))[0]).transpose(1, 2)
