"""Networks that the export tests write, and the files that they read."""

from collections.abc import Callable

import torch
from lapilli.blocks import cuba
from torch import Tensor, nn

from lapilli import neurons

CUBA = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
MEAN = {"norm": neurons.norm.MeanOnlyBatchNorm}
SCALE = {"norm": neurons.norm.WgtScaleBatchNorm}
OWN_DECAYS = {
    "threshold": 1.0,
    "current_decay": (0.1, 0.5),
    "voltage_decay": (0.01, 0.2),
    "shared_param": False,
}


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.3).float()


def settle(net: nn.Module, shape: tuple[int, ...], steps: int = 40) -> nn.Module:
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


def _dense(params: dict, *, outputs: int = 9, **arguments: object) -> Callable[[], nn.Module]:
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
    "norm, delay, weight norm": (_dense(CUBA | MEAN, delay=True, weight_norm=True), (12,)),
}


def network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A settled network in eval mode, and the shape of its input."""
    make, shape = NETWORKS[name]
    return settle(make(), shape), shape


def settled_dense(**arguments: object) -> nn.Module:
    """One settled dense block, 6 to 4."""
    params = CUBA | arguments.pop("params", {})
    return settle(cuba.Dense(params, 6, 4, **arguments), (6,))
