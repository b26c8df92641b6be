"""Spike trains to spike trains: random input is mapped to a raster in the shape of a word.

The task of lava-dl's Oxford tutorial, with a target that is drawn here.
"""

import argparse
from pathlib import Path

import h5py
import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lapilli import slayer  # for lava-dl: import lava.lib.dl.slayer as slayer

matplotlib.use("Agg")
NEURON = {
    "threshold": 0.5,
    "current_decay": 1,
    "voltage_decay": 0.1,
    "tau_grad": 0.1,
    "requires_grad": True,
}


def word(text: str, neurons: int, steps: int) -> torch.Tensor:
    """Write ``text`` as spikes ``[neurons, steps]``: neurons whose row has ink spike regularly."""
    figure = Figure(figsize=(steps / 100, neurons / 100), dpi=100)
    size = 60 * neurons / 100
    figure.text(0.5, 0.5, text, size=size, weight="bold", ha="center", va="center")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ink = np.asarray(canvas.buffer_rgba())[::-1, :, 0] < 128
    neuron, step = np.indices(ink.shape)
    return torch.from_numpy(ink & ((step + 3 * neuron) % 7 == 0)).float()


class Network(torch.nn.Module):
    """Two fully connected layers."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        dense = slayer.block.cuba.Dense
        self.blocks = torch.nn.ModuleList(
            [dense(NEURON, inputs, hidden), dense(NEURON, hidden, outputs)]
        )

    def forward(self, spike: torch.Tensor) -> torch.Tensor:
        """Map spikes ``[N, inputs, T]`` to spikes ``[N, outputs, T]``."""
        for block in self.blocks:
            spike = block(spike)
        return spike

    def export_hdf5(self, filename: Path) -> None:
        """Write the network for Loihi."""
        with h5py.File(filename, "w") as file:
            layers = file.create_group("layer")
            for i, block in enumerate(self.blocks):
                block.export_hdf5(layers.create_group(str(i)))


def main(epochs: int = 500, neurons: int = 100, steps: int = 500, out: str = "runs/raster") -> list:
    """Train, and write ``loss.png``, ``raster.png`` and ``network.net``; return the losses."""
    torch.manual_seed(4205)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    spikes = (torch.rand(1, neurons, steps) < 0.05).float()
    target = word("lapilli", neurons, steps).unsqueeze(0)

    net = Network(neurons, 256, neurons)
    error = slayer.loss.SpikeTime(time_constant=2, length=100, filter_order=2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    stats = slayer.utils.LearningStats()
    assistant = slayer.utils.Assistant(net, error, optimizer, stats)
    for epoch in range(epochs):
        output = assistant.train(spikes, target)
        schedule.step()
        if epoch % 20 == 0:
            print(f"epoch {epoch:4d}: {stats}")
        stats.update()
    stats.plot(path=f"{folder}/")

    figure = Figure(figsize=(10, 8), layout="constrained")
    panels = {"input": spikes, "target": target, "output": output.detach()}
    axes = figure.subplots(3, 1, sharex=True)
    for panel, (name, raster) in zip(axes, panels.items(), strict=True):
        event = slayer.io.tensor_to_event(raster[0].unsqueeze(0).numpy())
        panel.plot(event.t, event.x, ".", markersize=2)
        panel.set(ylabel=name, ylim=(-1, neurons))
    axes[-1].set_xlabel("time step")
    figure.savefig(folder / "raster.png")
    net.export_hdf5(folder / "network.net")
    return stats.training.loss_log


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--neurons", type=int, default=100)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", default="runs/raster")
    main(**vars(parser.parse_args()))
