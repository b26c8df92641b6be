"""Tell the direction of a moving bar with a convolutional network: only time gives it away.

Convolutions with mean-only batch normalisation, as in lava-dl's DVS gesture scripts.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from lapilli import slayer  # for lava-dl: import lava.lib.dl.slayer as slayer

matplotlib.use("Agg")
SIZE, STEPS = 16, 32
DIRECTIONS = ("right", "left", "down", "up")


def films(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make films ``[samples, 2, SIZE, SIZE, STEPS]`` of edges, and the direction of each."""
    label = torch.arange(samples) % len(DIRECTIONS)
    start = torch.randint(0, SIZE, (samples, 1))
    place = start + torch.arange(STEPS) // 2  # the bar moves every other step, around the edge
    place = torch.where(label.view(-1, 1) % 2 == 0, place, -place) % SIZE
    bar = torch.nn.functional.one_hot(place, SIZE).movedim(1, -1).float()  # [samples, SIZE, STEPS]
    gone = bar.roll(1, -1)
    edges = torch.stack([(gone - bar).relu(), (bar - gone).relu()], 1)
    edges[..., 0] = 0
    across, down = edges.unsqueeze(2), edges.unsqueeze(3)
    spikes = torch.where(label.view(-1, 1, 1, 1, 1) < 2, across, down)
    noise = torch.rand(samples, 2, SIZE, SIZE, STEPS)
    return torch.where(noise < 0.02, 1 - spikes, spikes * (noise < 0.9)), label


class Network(torch.nn.Module):
    """Two convolutions, then a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        neuron = {
            "threshold": 1.0,
            "current_decay": 0.3,
            "voltage_decay": 0.1,
            "tau_grad": 0.03,
            "scale_grad": 3,
            "requires_grad": True,
        }
        normed = {**neuron, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
        block = slayer.block.cuba
        options = {"weight_scale": 2, "weight_norm": True}
        self.blocks = torch.nn.ModuleList(
            [
                block.Conv(normed, 2, 8, 3, padding=1, stride=2, delay=True, **options),
                block.Conv(normed, 8, 16, 3, padding=1, stride=2, delay=True, **options),
                block.Flatten(),
                block.Dense(neuron, 16 * (SIZE // 4) ** 2, len(DIRECTIONS), **options),
            ]
        )

    def forward(self, spike: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return output spikes, and the event rate of each layer ``[1, layers]``."""
        rates = []
        for block in self.blocks:
            spike = block(spike)
            rates.append(slayer.utils.event_rate(spike))
        return spike, torch.tensor(rates).reshape(1, -1)


def main(epochs: int = 12, samples: int = 512, out: str = "runs/gestures") -> list:
    """Train, and write ``loss.png``, ``accuracy.png`` and ``events.png``; return the losses."""
    torch.manual_seed(0)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    spikes, label = films(samples)
    test_spikes, test_label = films(samples // 2)

    net = Network()
    error = slayer.loss.SpikeRate(true_rate=0.5, false_rate=0.05)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    stats = slayer.utils.LearningStats()
    assistant = slayer.utils.Assistant(
        net, error, optimizer, stats, classifier=slayer.classifier.Rate.predict, count_log=True
    )
    for epoch in range(epochs):
        for batch in torch.randperm(samples).split(32):
            assistant.train(spikes[batch], label[batch])
        for batch in torch.arange(samples // 2).split(32):
            _, rates = assistant.test(test_spikes[batch], test_label[batch])
        shares = ", ".join(f"{rate:.1%}" for rate in rates[0].tolist())
        print(f"epoch {epoch:3d}: {stats} | events {shares}")
        stats.update()
    stats.plot(path=f"{folder}/")

    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(2, len(DIRECTIONS))
    output, _ = net(test_spikes[: len(DIRECTIONS)])
    for i, name in enumerate(DIRECTIONS):
        axes[0, i].imshow(test_spikes[i, 1, ..., 4:8].sum(-1).numpy(), cmap="gray_r")
        axes[0, i].set_title(name)
        axes[1, i].imshow(output[i].detach().numpy(), aspect="auto", cmap="gray_r", vmin=0)
        axes[1, i].set_yticks(range(len(DIRECTIONS)), DIRECTIONS)
        axes[1, i].set_xlabel("time step")
    figure.savefig(folder / "events.png")
    return stats.training.loss_log


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--out", default="runs/gestures")
    main(**vars(parser.parse_args()))
