"""Steer along a road: an angle from frames, with sigma-delta neurons and few events.

The task of lava-dl's PilotNet tutorial, on roads that are drawn here.
"""

import argparse
from pathlib import Path

import h5py
import matplotlib
import torch
from matplotlib.figure import Figure

from lapilli import slayer  # for lava-dl: import lava.lib.dl.slayer as slayer

matplotlib.use("Agg")
HEIGHT, WIDTH = 16, 24


def drives(samples: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw roads ``[samples, 3, HEIGHT, WIDTH, steps]`` and the angle to steer, -1..1."""
    time = torch.arange(steps) / 16
    phase, speed = 6.28 * torch.rand(samples, 1), 0.5 + torch.rand(samples, 1)
    angle = torch.sin(speed * time + phase)  # [samples, steps]
    depth = torch.linspace(1, 0, HEIGHT).view(1, HEIGHT, 1, 1)  # 1 at the horizon
    x = torch.linspace(-1, 1, WIDTH).view(1, 1, WIDTH, 1)
    middle = 0.8 * angle.view(samples, 1, 1, steps) * depth**2
    away = (x - middle).abs() / (0.6 - 0.45 * depth)  # 1 at the edge of the road
    road = (away < 1).float()
    edge = ((away - 1).abs() < 0.15).float()
    grass = 1 - road
    frames = torch.stack([0.4 * road + edge, 0.4 * road + 0.7 * grass, 0.4 * road], 1)
    return frames.clamp(0, 1), angle


class Network(torch.nn.Module):
    """Convolutions and fully connected layers of sigma-delta neurons, and a readout."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        neuron = {
            "threshold": threshold,
            "tau_grad": 0.1,
            "scale_grad": 1,
            "requires_grad": True,
            "shared_param": True,
            "activation": torch.nn.functional.relu,
        }
        conv = {**neuron, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
        block = slayer.block.sigma_delta
        options = {"weight_scale": 2, "weight_norm": True}
        self.blocks = torch.nn.ModuleList(
            [
                block.Input(neuron),
                block.Conv(conv, 3, 8, 3, stride=2, **options),
                block.Conv(conv, 8, 12, 3, stride=2, **options),
                block.Flatten(),
                block.Dense(neuron, 12 * 3 * 5, 32, **options),
                block.Output(neuron, 32, 1, **options),
            ]
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the angle ``[N, 1, T]``, the sparsity penalty, and the events of each layer."""
        penalty, counts = slayer.loss.SparsityEnforcer(max_rate=0.01), []
        for block in self.blocks:
            x = block(x)
            if hasattr(block, "neuron") and block is not self.blocks[-1]:
                penalty.append(x)
                counts.append(float(torch.sum(x[..., 1:] != 0)))
        return x, penalty.loss, torch.tensor(counts).reshape(1, -1)

    def export_hdf5(self, filename: Path) -> None:
        """Write the network for Loihi."""
        with h5py.File(filename, "w") as file:
            layers = file.create_group("layer")
            for i, block in enumerate(self.blocks):
                block.export_hdf5(layers.create_group(str(i)))


def main(
    epochs: int = 60, samples: int = 64, steps: int = 16, lam: float = 0.01,
    out: str = "runs/steering",
) -> list:  # fmt: skip
    """Train, and write ``loss.png``, ``angle.png`` and ``network.net``; return the losses."""
    torch.manual_seed(0)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    frames, angle = drives(samples, steps)
    test_frames, test_angle = drives(samples // 2, 2 * steps)

    net = Network(threshold=0.1)
    optimizer = torch.optim.RAdam(net.parameters(), lr=0.005)
    stats = slayer.utils.LearningStats(loss_str="MSE")
    assistant = slayer.utils.Assistant(
        net,
        lambda output, target: torch.nn.functional.mse_loss(output.flatten(), target.flatten()),
        optimizer,
        stats,
        count_log=True,
        lam=lam,
    )
    for epoch in range(epochs):
        for batch in torch.randperm(samples).split(16):
            assistant.train(frames[batch], angle[batch])
        output, counts = assistant.test(test_frames, test_angle)
        if epoch % 5 == 0:
            a_step = counts[0] / (len(test_frames) * (2 * steps - 1))
            events = ", ".join(f"{n:.0f}" for n in a_step.tolist())
            print(f"epoch {epoch:3d}: {stats} | events a step {events}")
        stats.update()
    stats.plot(path=f"{folder}/")

    figure = Figure(figsize=(10, 4), layout="constrained")
    road, curve = figure.subplots(1, 2)
    road.imshow(test_frames[0, ..., -1].permute(1, 2, 0).numpy())
    road.set_title("the last frame")
    curve.plot(test_angle[0], label="angle of the road")
    curve.plot(output[0, 0], label="steered")
    curve.set(xlabel="time step", ylim=(-1.5, 1.5))
    curve.legend()
    figure.savefig(folder / "angle.png")
    net.export_hdf5(folder / "network.net")
    return stats.training.loss_log


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--lam", type=float, default=0.01, help="weight of the sparsity penalty")
    parser.add_argument("--out", default="runs/steering")
    main(**vars(parser.parse_args()))
