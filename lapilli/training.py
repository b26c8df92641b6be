"""A small training loop for spiking classifiers.

for epoch in fit(net, data, loss, epochs=20, batch_size=72, rates=Rates()):
    print(epoch.number, epoch.loss, epoch.test_accuracy)
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

from .classifier import Rate
from .data import Dataset, Samples

if TYPE_CHECKING:
    from .recordings import Recordings

DECAY_UNITS = 4096  # decay parameters are stored in units of 1 / 4096


@dataclass(frozen=True)
class Rates:
    """Highest learning rates of the one-cycle schedule.

    ``weights`` is for everything but the decays; ``decays`` is per unit of a decay in 0..1.
    """

    weights: float = 1e-3
    decays: float = 1e-3


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean loss a sample, accuracies in 0..1, seconds of training."""

    number: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float


def parameter_groups(net: torch.nn.Module, rates: Rates) -> list[dict]:
    """Split parameters for an optimizer: decays, which live in units of 1/4096, and the rest."""
    decays, others = [], []
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            (decays if name.endswith("_decay") else others).append(parameter)
    groups = [
        {"params": others, "lr": rates.weights},
        {"params": decays, "lr": rates.decays * DECAY_UNITS},
    ]
    return [group for group in groups if group["params"]]


def layer_outputs(blocks: Iterable[torch.nn.Module], spikes: Tensor) -> list[Tensor]:
    """Output of every block of a chain, in order; the last one is the network's."""
    outputs = []
    for block in blocks:
        spikes = block(spikes)
        outputs.append(spikes)
    return outputs


def accuracy(output: Tensor, labels: Tensor) -> float:
    """Share of samples whose class has the highest spike rate."""
    return float((Rate.predict(output) == labels).float().mean())


def in_order(samples: Union[Samples, "Recordings"], batch_size: int) -> Iterator[Samples]:
    """Yield all samples in batches, in their order."""
    for index in torch.arange(len(samples)).split(batch_size):
        yield samples.take(index)


@torch.no_grad()
def evaluate(
    net: torch.nn.Module, samples: Union[Samples, "Recordings"], batch_size: int
) -> Tensor:
    """Output spikes of the network in evaluation mode, for all samples in their order."""
    training = net.training
    net.eval()
    try:
        return torch.cat([net(batch.spikes) for batch in in_order(samples, batch_size)])
    finally:
        net.train(training)


def fit(
    net: torch.nn.Module,
    data: Dataset,
    loss: torch.nn.Module,
    *,
    epochs: int,
    batch_size: int,
    rates: Rates,
    seed: int = 0,
) -> Iterator[Epoch]:
    """Train with Adam and a one-cycle schedule; yields after every epoch.

    Parameters
    ----------
    net
        Module from spikes ``[N, channels..., T]`` to spikes ``[N, classes, T]``.
    data
        Samples on the device of the network.
    loss
        Called with (output spikes, labels); a sum over the samples.
    epochs
        Number of epochs, at least 1.
    batch_size
        Samples a step; what does not fill a batch is left out, other samples in each epoch.
    rates
        Learning rates.
    seed
        Seed of the order of the samples. The state of torch's own generator is not used.

    Yields
    ------
    Epoch
        The network then holds the parameters of this epoch. Stop iterating to stop training.

    Raises
    ------
    ValueError
        If there are fewer samples than a batch, or fewer than one epoch.
    """
    steps = len(data.train) // batch_size
    if steps < 1 or epochs < 1:
        raise ValueError(
            f"{epochs} epochs of {steps} batches ({len(data.train)} samples, {batch_size} each); "
            "expected at least 1 epoch of 1 batch"
        )
    groups = parameter_groups(net, rates)
    optimizer = torch.optim.Adam(groups, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=epochs * steps
    )
    device = data.train.labels.device
    order = torch.Generator().manual_seed(seed)
    net.train()
    for number in range(1, epochs + 1):
        start = time.perf_counter()
        # sums stay on the device until the epoch ends: reading them would stall it at every step
        total = torch.zeros((), device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        shuffled = torch.randperm(len(data.train), generator=order)
        for index in shuffled[: steps * batch_size].view(steps, batch_size):
            batch = data.train.take(index)
            output = net(batch.spikes)
            value = loss(output, batch.labels)
            optimizer.zero_grad()
            (value / batch_size).backward()
            optimizer.step()
            schedule.step()
            total += value.detach()
            correct += (Rate.predict(output.detach()) == batch.labels).sum()
        seen = steps * batch_size
        mean_loss, train_accuracy = float(total) / seen, int(correct) / seen
        seconds = time.perf_counter() - start
        test_accuracy = accuracy(evaluate(net, data.test, batch_size), data.test.labels)
        yield Epoch(number, mean_loss, train_accuracy, test_accuracy, seconds)
