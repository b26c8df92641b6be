"""Classify files of events: N-MNIST where it is at hand, or digits of scikit-learn in motion.

The task of lava-dl's N-MNIST tutorial: three fully connected layers with learned axonal delays.
"""

import argparse
from pathlib import Path

import h5py
import matplotlib
import torch
from torch.utils.data import DataLoader, Dataset

from lapilli import slayer  # for lava-dl: import lava.lib.dl.slayer as slayer

matplotlib.use("Agg")
SIZE, STEPS = 16, 60  # of the films made here; those of N-MNIST are 34 x 34 and 300 ms long


def record(image: torch.Tensor) -> "slayer.io.Event":
    """Move an image ``[8, 8]`` along a triangle, and record where it gets brighter or darker."""
    corners = torch.tensor([[0, 0], [4, 8], [8, 0], [0, 0]])
    part = STEPS // 3
    seen, film = torch.zeros(SIZE, SIZE), torch.zeros(2, SIZE, SIZE, STEPS)
    for t in range(STEPS):
        start, end = corners[t // part], corners[t // part + 1]
        y, x = (start + (end - start) * (t % part) / part).round().int().tolist()
        now = torch.zeros(SIZE, SIZE)
        now[y : y + 8, x : x + 8] = image
        film[0, ..., t] = now < seen - 0.4
        film[1, ..., t] = now > seen + 0.4
        seen = torch.where(film[..., t].any(0), now, seen)
    return slayer.io.tensor_to_event(film)


def make_files(folder: Path, samples: int) -> None:
    """Write the films of ``samples`` digits into ``Train/<digit>`` and ``Test/<digit>``."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(images / 16).float().view(-1, 8, 8)
    for i in range(samples):
        target = folder / ("Test" if i % 5 == 0 else "Train") / str(labels[i])
        target.mkdir(parents=True, exist_ok=True)
        slayer.io.encode_2d_spikes(target / f"{i:05d}.bin", record(images[i]))


class Files(Dataset):
    """Files ``<folder>/<digit>/*.bin`` as spikes ``[2 * size * size, steps]`` and labels."""

    def __init__(self, folder: Path, size: int, steps: int) -> None:
        self.files = sorted(folder.glob("*/*.bin"))
        self.shape = (2, size, size, steps)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        event = slayer.io.read_2d_spikes(self.files[i])
        spikes = event.fill_tensor(torch.zeros(self.shape), sampling_time=1)
        return spikes.reshape(-1, self.shape[-1]), int(self.files[i].parent.name)


class Network(torch.nn.Module):
    """Three fully connected layers, the first two with delays."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        neuron = {
            "threshold": 1.25,
            "current_decay": 0.25,
            "voltage_decay": 0.03,
            "tau_grad": 0.03,
            "scale_grad": 3,
            "requires_grad": True,
        }
        busy = {**neuron, "dropout": slayer.neuron.Dropout(p=0.05)}
        dense = slayer.block.cuba.Dense
        self.blocks = torch.nn.ModuleList(
            [
                dense(busy, inputs, hidden, weight_norm=True, delay=True),
                dense(busy, hidden, hidden, weight_norm=True, delay=True),
                dense(neuron, hidden, 10, weight_norm=True),
            ]
        )

    def forward(self, spike: torch.Tensor) -> torch.Tensor:
        """Map spikes ``[N, inputs, T]`` to spikes ``[N, 10, T]``."""
        for block in self.blocks:
            spike = block(spike)
        return spike

    def export_hdf5(self, filename: Path) -> None:
        """Write the network for Loihi."""
        with h5py.File(filename, "w") as file:
            layers = file.create_group("layer")
            for i, block in enumerate(self.blocks):
                block.export_hdf5(layers.create_group(str(i)))


def main(
    epochs: int = 20,
    samples: int = 600,
    hidden: int = 128,
    data: str | None = None,
    out: str = "runs/events",
) -> list:
    """Train, and write pictures, a film of one output and ``network.net``; return the losses."""
    torch.manual_seed(0)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    size, steps = (34, 300) if data else (SIZE, STEPS)
    if data is None:
        data = folder / "films"
        make_files(data, samples)
    training, testing = (
        DataLoader(Files(Path(data) / part, size, steps), batch_size=32, shuffle=part == "Train")
        for part in ("Train", "Test")
    )

    net = Network(2 * size * size, hidden)
    error = slayer.loss.SpikeRate(true_rate=0.2, false_rate=0.03)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    stats = slayer.utils.LearningStats()
    assistant = slayer.utils.Assistant(
        net, error, optimizer, stats, classifier=slayer.classifier.Rate.predict
    )
    for epoch in range(epochs):
        for spikes, label in training:
            assistant.train(spikes, label)
        for spikes, label in testing:
            output = assistant.test(spikes, label)
        print(f"epoch {epoch:3d}: {stats}")
        stats.update()
        stats.save(f"{folder}/")
        if stats.testing.best_accuracy:
            torch.save(net.state_dict(), folder / "network.pt")
    stats.plot(path=f"{folder}/")

    net.load_state_dict(torch.load(folder / "network.pt"))
    net.export_hdf5(folder / "network.net")
    for name, film in {"input": spikes[0].view(2, size, size, -1), "output": output[:1]}.items():
        event = slayer.io.tensor_to_event(film.numpy())
        event.anim(frame_rate=240).save(folder / f"{name}.gif", writer="pillow", fps=24)
    return stats.training.loss_log


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=600, help="digits, where films are made")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--data", help="folder of N-MNIST, with Train and Test in it")
    parser.add_argument("--out", default="runs/events")
    main(**vars(parser.parse_args()))
