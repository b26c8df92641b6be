"""Run small networks of every family, and print a digest of all their numbers as JSON.

What ``test_processors.py`` starts once for each way in which torch can use a processor.
"""

import hashlib
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lapilli.neurons import norm

from lapilli import export

RANGES = {
    "cuba": {"threshold": 1.0, "current_decay": (0.1, 0.4), "voltage_decay": (0.0, 0.2)},
    "alif": {
        "threshold": 0.8, "threshold_step": 0.2, "current_decay": (0.1, 0.4),
        "voltage_decay": (0.0, 0.2), "threshold_decay": 0.2, "refractory_decay": 0.3,
    },
    "rf": {"threshold": 0.5, "period": (4.0, 30.0), "decay": (0.0, 0.2)},
    "rf_iz": {"threshold": 0.5, "period": (4.0, 30.0), "decay": (0.0, 0.2), "log_init": False},
    "adrf": {
        "threshold": 0.5, "threshold_step": 0.2, "period": (4.0, 30.0), "decay": (0.0, 0.2),
        "threshold_decay": 0.2, "refractory_decay": 0.3,
    },
    "adrf_iz": {
        "threshold": 0.5, "threshold_step": 0.2, "period": (4.0, 30.0), "decay": (0.0, 0.2),
        "threshold_decay": 0.2, "refractory_decay": 0.3,
    },
    "sigma_delta": {"threshold": 0.1, "activation": torch.relu},
}  # fmt: skip


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()


def network(family: str) -> Any:
    blocks = importlib.import_module(f"lapilli.blocks.{family}")
    params = RANGES[family] | {"shared_param": False, "requires_grad": True}
    normed = params | {"norm": norm.WgtScaleBatchNorm}
    options = {"weight_norm": True, "weight_scale": 4}
    layers = [
        blocks.Conv(normed, 2, 5, 3, padding=1, delay=True, **options),
        blocks.Pool(params, 2, weight_scale=1.2),
        blocks.Flatten(),
        blocks.Dense(params, 5 * 4 * 4, 67, delay=True, **options),
        blocks.Dense(params, 67, 20, **options),
    ]
    if hasattr(blocks, "Recurrent"):
        layers.append(blocks.Recurrent(params, 20, 20, **options))
    return torch.nn.Sequential(*layers)


def numbers(family: str) -> dict[str, object]:
    torch.manual_seed(7)
    net = network(family)
    x = (torch.rand(3, 2, 8, 8, 24) < 0.3).float()
    found: dict[str, object] = {}
    for mode in (True, False):  # a training call draws, sizes and norms
        net.train(mode)
        y = x
        for i, block in enumerate(net):
            y = block(y)
            found[f"{mode} {i}"] = digest(y)
            if not 0 < torch.count_nonzero(y) < y.numel():
                found[f"{mode} {i}"] = f"{torch.count_nonzero(y)} of {y.numel()} events"
    for name, value in net.state_dict().items():
        found[name] = digest(value)
    for i, block in enumerate(net):
        if hasattr(block, "neuron") and hasattr(block.neuron, "dynamics"):
            z = torch.rand(2, *block.neuron.shape, 9)
            states = block.neuron.dynamics((z, z) if block.neuron.complex else z)
            found[f"states {i}"] = [digest(state) for state in states]
    with tempfile.TemporaryDirectory() as folder:
        export.save(net, Path(folder) / "net.net", target="lapilli")
        found["file"] = hashlib.sha256((Path(folder) / "net.net").read_bytes()).hexdigest()
    return found


if __name__ == "__main__":
    json.dump({family: numbers(family) for family in RANGES}, sys.stdout)
