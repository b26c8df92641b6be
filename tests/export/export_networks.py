"""Networks that the export tests write, and the files that they read."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from lapilli.blocks import adrf, adrf_iz, alif, cuba, rf, rf_iz, sigma_delta
from torch import Tensor, nn
from turns import soon

from lapilli import neurons

CUBA: dict[str, Any] = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
MEAN: dict[str, Any] = {"norm": neurons.norm.MeanOnlyBatchNorm}
SCALE: dict[str, Any] = {"norm": neurons.norm.WgtScaleBatchNorm}
OWN_DECAYS: dict[str, Any] = {
    "threshold": 1.0,
    "current_decay": (0.1, 0.5),
    "voltage_decay": (0.01, 0.2),
    "shared_param": False,
}


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.3).float()


def settle(net: Any, shape: tuple[int, ...], steps: int = 40) -> Any:
    """Train a little, so that norms, delays and channels have values of their own."""
    with torch.no_grad():
        for _ in range(3):
            net(spikes(2, *shape, steps))
        for module in net.modules():
            if isinstance(getattr(module, "init", None), bool):
                module.delay.copy_(torch.rand_like(module.delay) * 20)
    return net.eval()


def mlp() -> nn.Module:
    """The first worked example of the format."""
    return nn.Sequential(
        cuba.Dense(CUBA, 34, 16, weight_scale=3, delay=True),
        cuba.Dense(CUBA, 16, 8, weight_scale=3),
        cuba.Dense(CUBA, 8, 3, weight_scale=3),
    )


def conv_net() -> nn.Module:
    """The second worked example."""
    return nn.Sequential(
        cuba.Input(delay_shift=False),
        cuba.Conv(CUBA | MEAN, 2, 8, 3, padding=1, weight_scale=2),
        cuba.Conv(CUBA, 8, 16, 3, stride=2, weight_scale=4),
        cuba.Flatten(),
        cuba.Dense(CUBA, 320, 11, weight_scale=4),
    )


def _dense(params: dict, *, outputs: int = 9, **arguments: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        first = cuba.Dense(params, 12, outputs, weight_scale=3, **arguments)
        return nn.Sequential(first, cuba.Dense(CUBA, outputs, 5, weight_scale=3))

    return make


def _image() -> nn.Module:
    return nn.Sequential(
        cuba.Input(CUBA | {"threshold": 0.5}, weight=1.5, bias=0.25),
        cuba.Conv(CUBA | SCALE, 2, 6, (3, 2), (1, 2), 1, groups=2, weight_scale=3, delay=True),
        cuba.Unpool(CUBA, 2, weight_scale=1.5),
        cuba.Pool(CUBA, (2, 3), weight_scale=0.5),
        cuba.ConvT(CUBA | OWN_DECAYS, 6, 4, 3, stride=2, dilation=2, weight_scale=6),
        cuba.TimeDecimation(2),
        cuba.Flatten(),
        cuba.Average(4),
    )


def _tuple_dense() -> nn.Module:
    return nn.Sequential(
        cuba.Dense(CUBA, (4, 3, 2), 9, weight_scale=3),
        cuba.Flatten(),
        cuba.Flatten(),
        cuba.Affine(CUBA | MEAN, 9, 4, weight_scale=3),
    )


def _options() -> nn.Module:
    own = CUBA | {"graded_spike": True, "scale": 128, "dropout": neurons.Dropout(0.3)}
    own |= {"tau_grad": 0.3, "scale_grad": 2.0, "requires_grad": True, "persistent_state": True}
    return nn.Sequential(
        cuba.Dense(own, 12, 9, weight_scale=2, delay_shift=False),
        cuba.Dense(CUBA, 9, 5, weight_scale=2),
        cuba.Affine(CUBA, 5, 4, dynamics=False),
    )


ROTATING: dict[str, Any] = {"threshold": 0.5, "period": 9.0, "decay": 0.05}
ADAPTING: dict[str, Any] = {
    "threshold_step": 0.25,
    "threshold_decay": 0.1,
    "refractory_decay": 0.25,
}
PER_CHANNEL: dict[str, Any] = {"shared_param": False}
SENDING: dict[str, Any] = {"threshold": 0.1, "activation": nn.functional.relu}


def _complex(family: ModuleType, params: dict, **arguments: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return nn.Sequential(
            family.Dense(params | MEAN, 12, 9, weight_scale=3, delay=True),
            family.Dense(params | PER_CHANNEL, 9, 8, weight_scale=4, **arguments),
            family.Dense(params | {"graded_spike": True}, 8, 5, weight_scale=4),
        )

    return make


def _complex_image() -> nn.Module:
    return nn.Sequential(
        rf_iz.Input(ROTATING, weight=1.0),
        adrf.Conv(ROTATING | ADAPTING | SCALE, 2, 4, 3, weight_scale=3),
        rf.Pool(ROTATING, 2, weight_scale=0.6),
        adrf_iz.ConvT(ROTATING | ADAPTING, 4, 3, 2, groups=1, weight_scale=4),
        rf_iz.Unpool(ROTATING, 2, weight_scale=1.5),
        rf_iz.Flatten(),
        rf_iz.Affine(ROTATING | {"graded_spike": True}, 144, 4, weight_scale=3),
    )


def _alif() -> nn.Module:
    params = CUBA | ADAPTING | {"threshold": 0.6}
    return nn.Sequential(
        alif.Dense(params | SCALE, 12, 9, weight_scale=3),
        alif.Dense(params | PER_CHANNEL | {"graded_spike": True}, 9, 8, weight_scale=3, delay=True),
        alif.Dense(params | MEAN, 8, 5, weight_scale=3),
    )


def _sigma_delta() -> nn.Module:
    net: Any = nn.Sequential(
        sigma_delta.Input(SENDING, weight=1.25, bias=0.125),
        sigma_delta.Conv(SENDING | MEAN, 2, 4, 3, weight_scale=2, delay=True),
        sigma_delta.Conv(SENDING | SCALE | {"cum_error": True}, 4, 4, 3, weight_scale=3),
        sigma_delta.Pool(SENDING | {"activation": None}, 2, weight_scale=0.5, delay_shift=True),
        sigma_delta.Flatten(),
        sigma_delta.Dense(SENDING, 16, 7, weight_scale=3, delay=True),
        sigma_delta.Output(SENDING, 7, 4, weight_scale=3),
    )
    net[1].neuron.set_bias(torch.tensor([0.25, -0.5, 0.125, 1.0]))
    net[5].neuron.set_bias(torch.tensor([0.5]))
    return net


def _recurrent(family: ModuleType, params: dict) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return nn.Sequential(
            family.Recurrent(params | MEAN, 12, 9, weight_scale=2, delay=True),
            family.Recurrent(params | {"graded_spike": True}, 9, 8, weight_scale=2),
            # winners and threshold such that the competition has a bias
            family.KWTA(params | MEAN | {"threshold": 2.5}, 8, 6, 1, weight_scale=8),
            family.KWTA(params, 6, 5, 2, self_excitation=0.3, weight_scale=4),
        )

    return make


MASK = torch.arange(9 * 12).view(9, 12) % 3 > 0

# name -> (network, shape of its input without batch and time)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (34,)),
    "conv": (conv_net, (2, 12, 10)),
    "image": (_image, (2, 8, 7)),
    "tuple dense": (_tuple_dense, (2, 3, 4)),
    "options": (_options, (12,)),
    "mean norm": (_dense(CUBA | MEAN), (12,)),
    "scale norm": (_dense(CUBA | SCALE), (12,)),
    "weight norm": (_dense(CUBA, weight_norm=True), (12,)),
    "mask": (_dense(CUBA, mask=MASK), (12,)),
    "mask and weight norm": (_dense(CUBA, mask=MASK.float(), weight_norm=True), (12,)),
    "delay": (_dense(CUBA, delay=True), (12,)),
    "delay of one channel": (_dense(CUBA, delay=True, outputs=1), (12,)),
    "channel decays": (_dense(OWN_DECAYS), (12,)),
    "decays of one channel": (_dense(OWN_DECAYS, outputs=1), (12,)),
    "rf": (_complex(rf, ROTATING), (12,)),
    "rf_iz": (_complex(rf_iz, ROTATING, weight_norm=True), (12,)),
    "adrf": (_complex(adrf, ROTATING | ADAPTING), (12,)),
    "adrf_iz": (_complex(adrf_iz, ROTATING | ADAPTING), (12,)),
    "complex image": (_complex_image, (2, 6, 7)),
    "complex readout": (
        lambda: nn.Sequential(
            rf.Dense(ROTATING, 12, 9, weight_scale=4),
            rf.Affine(ROTATING | PER_CHANNEL, 9, 5, dynamics=False),
        ),
        (12,),
    ),
    "recurrent": (_recurrent(cuba, CUBA | {"threshold": 0.7}), (12,)),
    "recurrent rf": (_recurrent(rf, ROTATING), (12,)),
    "recurrent rf_iz": (_recurrent(rf_iz, ROTATING), (12,)),
    "alif": (_alif, (12,)),
    "sigma delta": (_sigma_delta, (2, 8, 7)),
    "scale that is no power of two": (_dense(CUBA | {"scale": 50}), (12,)),
    "norm, delay, weight norm": (_dense(CUBA | MEAN, delay=True, weight_norm=True), (12,)),
}


# of these neurons others are saved, loaded and checked at once
_LATER = (
    "recurrent rf", "recurrent rf_iz", "rf_iz", "adrf", "adrf_iz", "scale that is no power of two",
)  # fmt: skip
each_network = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in _LATER else ()) for n in NETWORKS],
)
# for what does not depend on the neuron
a_few_networks = pytest.mark.parametrize(
    "name", soon(("conv", "image", "recurrent", "sigma delta"), NETWORKS)
)
# the same for neurons whose recurrence takes long to compile
SLOW_NETWORKS = {
    "recurrent alif": (_recurrent(alif, CUBA | ADAPTING), (12,)),
    "recurrent adrf": (_recurrent(adrf, ROTATING | ADAPTING), (12,)),
    "recurrent adrf_iz": (_recurrent(adrf_iz, ROTATING | ADAPTING), (12,)),
}


def network(name: str) -> tuple[Any, tuple[int, ...]]:
    """A settled network in eval mode, and the shape of its input."""
    make, shape = (NETWORKS | SLOW_NETWORKS)[name]
    return settle(make(), shape), shape


def settled_dense(**arguments: Any) -> Any:
    """One settled dense block, 6 to 4."""
    params = CUBA | arguments.pop("params", {})
    return settle(cuba.Dense(params, 6, 4, **arguments), (6,))
