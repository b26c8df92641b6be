"""Handwritten digits with Hugging Face Accelerate: one process, or several by its launcher.

    accelerate launch --cpu --num_processes 2 examples/accelerate_digits.py

Needs ``pip install '.[demo,accelerate]'``.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset

from lapilli import data, export, slayer

NEURON = {
    "threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03,
    "requires_grad": True,
}  # fmt: skip


def main(epochs: int = 10, samples: int = 1437, out: str = "runs/accelerate") -> list:
    """Train, and write ``network.net``; return the losses."""
    set_seed(0)
    accelerator = Accelerator()
    digits = data.digits()
    train = digits.train.take(torch.arange(samples))
    loaders = [
        DataLoader(TensorDataset(part.spikes, part.labels), batch_size=36, shuffle=part is train)
        for part in (train, digits.test)
    ]
    block = slayer.block.cuba
    net = torch.nn.Sequential(
        block.Dense(NEURON, 64, 128, weight_norm=True, delay=True),
        block.Dense(NEURON, 128, 10, weight_norm=True),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    rates = slayer.loss.SpikeRate(true_rate=0.3, false_rate=0.0)

    net, optimizer, *loaders = accelerator.prepare(net, optimizer, *loaders)
    losses = []
    for epoch in range(epochs):
        net.train()
        total = torch.zeros(())
        for spikes, labels in loaders[0]:
            loss = rates(net(spikes), labels) / len(labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach() / len(loaders[0])
        losses.append(float(accelerator.reduce(total, "mean")))
        net.eval()
        right = []
        with torch.inference_mode():
            for spikes, labels in loaders[1]:
                found = slayer.classifier.Rate.predict(net(spikes)) == labels
                right.append(accelerator.gather_for_metrics(found))
        accuracy = float(torch.cat(right).float().mean())
        accelerator.print(f"epoch {epoch}: loss {losses[-1]:.4f}, accuracy {accuracy:.1%}")
    if accelerator.is_main_process:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        export.save(accelerator.unwrap_model(net), folder / "network.net")
    accelerator.end_training()
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1437)
    parser.add_argument("--out", default="runs/accelerate")
    main(**vars(parser.parse_args()))
