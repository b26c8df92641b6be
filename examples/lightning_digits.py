"""Handwritten digits in Lightning's Trainer: blocks are modules, so nothing of lapilli's is needed.

Needs ``pip install '.[demo,lightning]'``.
"""

import argparse
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from lapilli import data, export, slayer

NEURON = {
    "threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03,
    "requires_grad": True,
}  # fmt: skip


class Digits(lightning.LightningModule):
    """Two layers of CUBA neurons, trained for spike rates."""

    def __init__(self) -> None:
        super().__init__()
        block = slayer.block.cuba
        self.net = torch.nn.Sequential(
            block.Dense(NEURON, 64, 128, weight_norm=True, delay=True),
            block.Dense(NEURON, 128, 10, weight_norm=True),
        )
        self.rates = slayer.loss.SpikeRate(true_rate=0.3, false_rate=0.0)
        self.losses: list[float] = []  # of each epoch

    def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
        """Return the mean loss of a batch."""
        spikes, labels = batch
        loss = self.rates(self.net(spikes), labels) / len(labels)
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def on_train_epoch_end(self) -> None:
        """Note the loss of the epoch."""
        self.losses.append(float(self.trainer.callback_metrics["loss"]))

    def validation_step(self, batch: list[torch.Tensor], number: int) -> None:
        """Note the accuracy; Lightning sums it up over batches and processes."""
        spikes, labels = batch
        right = slayer.classifier.Rate.predict(self.net(spikes)) == labels
        self.log("accuracy", right.float().mean(), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Learn weights, delays and decays at one rate."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def main(
    epochs: int = 10, samples: int = 1437, out: str = "runs/lightning", accelerator: str = "cpu",
    devices: int = 1,
) -> list:  # fmt: skip
    """Validate, train, validate again, and write ``network.net``; return the losses."""
    lightning.seed_everything(0, verbose=False)
    digits = data.digits()
    train = digits.train.take(torch.arange(samples))
    loaders = [
        DataLoader(TensorDataset(part.spikes, part.labels), batch_size=72, shuffle=part is train)
        for part in (train, digits.test)
    ]
    model = Digits()
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator=accelerator, devices=devices, default_root_dir=out,
        logger=False, enable_checkpointing=False, log_every_n_steps=10,
    )  # fmt: skip
    trainer.validate(model, loaders[1])
    trainer.fit(model, *loaders)
    if trainer.is_global_zero:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        export.save(model.net, folder / "network.net")
    return model.losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1437)
    parser.add_argument("--out", default="runs/lightning")
    parser.add_argument("--accelerator", default="cpu", help="cpu (default), gpu")
    parser.add_argument("--devices", type=int, default=1, help="processes, by DDP; default: 1")
    main(**vars(parser.parse_args()))
