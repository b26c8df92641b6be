"""A small training loop for spiking classifiers.

for epoch in fit(net, data, loss, epochs=20, batch_size=72, rates=Rates()):
    print(epoch.number, epoch.loss, epoch.test_accuracy)
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import processes
from .activity import Activity, LayerActivity
from .classifier import Rate
from .data import Dataset, Recordings, Samples

__all__ = [
    "Epoch",
    "Rates",
    "accuracy",
    "evaluate",
    "fit",
    "in_order",
    "layer_outputs",
    "parameter_groups",
]


@dataclass(frozen=True)
class Rates:
    """Highest learning rates of the one-cycle schedule.

    ``weights`` is for everything but the decays; ``decays`` is for what is learned of decays, a
    share of each.

    Examples
    --------
    >>> from lapilli.training import Rates
    >>> Rates(weights=0.01)
    Rates(weights=0.01, decays=0.001)
    """

    weights: float = 1e-3
    decays: float = 1e-3


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean loss a sample, accuracies in 0..1, seconds of training.

    ``layers`` is what the layers did on the test samples, where ``fit`` was asked for it; in a
    process group, on this process's share of them.

    Examples
    --------
    >>> from lapilli.training import Epoch
    >>> epoch = Epoch(number=1, loss=0.5, train_accuracy=0.8, test_accuracy=0.75, seconds=0.1)
    >>> epoch.test_accuracy
    0.75
    """

    number: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float
    layers: tuple[LayerActivity, ...] = ()


def parameter_groups(net: torch.nn.Module, rates: Rates) -> list[dict]:
    """Split parameters for an optimizer: what is learned of decays, shares of them, and the rest.

    The decays themselves are left out: they follow.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> from lapilli.training import Rates, parameter_groups
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1, requires_grad=True)
    >>> block = slayer.block.cuba.Dense(neuron, 3, 2)
    >>> weights, decays = parameter_groups(block, Rates(weights=0.01, decays=0.001))
    >>> len(weights["params"]), len(decays["params"])
    (1, 2)
    """
    named = dict(net.named_parameters())
    decays, others = [], []
    for name, parameter in named.items():
        if parameter.requires_grad and name + "_update" not in named:
            (decays if name.endswith("_decay_update") else others).append(parameter)
    groups = [
        {"params": others, "lr": rates.weights},
        {"params": decays, "lr": rates.decays},
    ]
    return [group for group in groups if group["params"]]


def layer_outputs(blocks: Iterable[torch.nn.Module], spikes: Tensor) -> list[Tensor]:
    """Output of every block of a chain, in order; the last one is the network's.

    Examples
    --------
    >>> import torch
    >>> neuron = dict(threshold=1.25, current_decay=0.25, voltage_decay=0.03)
    >>> from lapilli import slayer
    >>> from lapilli.training import layer_outputs
    >>> dense = slayer.block.cuba.Dense
    >>> net = torch.nn.Sequential(dense(neuron, 3, 5), dense(neuron, 5, 2))
    >>> hidden, output = layer_outputs(net, torch.rand(4, 3, 10))
    >>> hidden.shape, output.shape
    (torch.Size([4, 5, 10]), torch.Size([4, 2, 10]))
    """
    outputs = []
    for block in blocks:
        spikes = block(spikes)
        outputs.append(spikes)
    return outputs


def accuracy(output: Tensor, labels: Tensor) -> float:
    """Share of samples whose class has the highest spike rate.

    Examples
    --------
    >>> import torch
    >>> from lapilli.training import accuracy
    >>> output = torch.tensor([[[1.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]])
    >>> accuracy(output, labels=torch.tensor([0, 0]))  # read as 0 and 1
    0.5
    """
    return float((Rate.predict(output) == labels).float().mean())


def in_order(
    samples: Samples | Recordings, batch_size: int, first: int = 0, every: int = 1
) -> Iterator[Samples]:
    """Yield all samples in batches, in their order; or each ``every``-th from ``first`` on.

    Examples
    --------
    >>> from lapilli import data
    >>> from lapilli.training import in_order
    >>> batches = list(in_order(data.digits(steps=4).test, batch_size=100))
    >>> [len(batch) for batch in batches]
    [100, 100, 100, 60]
    """
    for index in torch.arange(first, len(samples), every).split(batch_size):
        yield samples.take(index)


@torch.no_grad()
def evaluate(
    net: torch.nn.Module,
    samples: Samples | Recordings,
    batch_size: int,
    first: int = 0,
    every: int = 1,
) -> Tensor:
    """Output spikes of the network in evaluation mode, for the samples of ``in_order``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import data, loss, slayer
    >>> neuron = dict(threshold=1.25, current_decay=0.25, voltage_decay=0.03)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 64, 10))
    >>> from lapilli.training import evaluate
    >>> evaluate(net, data.digits(steps=4).test, batch_size=100).shape
    torch.Size([360, 10, 4])
    """
    training = net.training
    net.eval()
    try:
        batches = in_order(samples, batch_size, first, every)
        return torch.cat([net(batch.spikes) for batch in batches])
    finally:
        net.train(training)


def _accuracy_of_all(net: torch.nn.Module, samples: Samples | Recordings, batch_size: int) -> float:
    """Accuracy, for which each process of a group evaluates its share of the samples."""
    rank, size = processes.joined()
    if size == 1:
        return accuracy(evaluate(net, samples, batch_size), samples.labels)
    for buffer in net.buffers():  # as the first process has them: the statistics of norms
        torch.distributed.broadcast(buffer, 0)
    output = evaluate(net, samples, batch_size // size, rank, size)
    correct = (Rate.predict(output) == samples.labels[rank::size]).sum()
    torch.distributed.all_reduce(correct)
    return int(correct) / len(samples)


def _nothing() -> None:
    """Check nothing."""


def _random_states(device: torch.device) -> list[Tensor]:
    """States of the generators that dropout draws from: torch's, and the device's."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device.type).get_rng_state(device))
    return states


def _set_random_states(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu" and len(states) > 1:
        torch.get_device_module(device.type).set_rng_state(states[1], device)


def _of_all_processes(value: list[Tensor], size: int) -> list[list[Tensor]]:
    if size == 1:
        return [value]
    found: list = [None] * size
    torch.distributed.all_gather_object(found, value)
    return found


def fit(
    net: torch.nn.Module,
    data: Dataset,
    loss: torch.nn.Module,
    *,
    epochs: int,
    batch_size: int,
    rates: Rates,
    seed: int = 0,
    check: Callable[[], None] = _nothing,
    watch: bool = False,
    keep: Callable[[dict[str, Any], Epoch], None] | None = None,
    resume: dict[str, Any] | None = None,
) -> Iterator[Epoch]:
    """Train with Adam and a one-cycle schedule; yields after every epoch.

    In a process group of ``torch.distributed`` the processes train together: each takes its share
    of every batch, and torch's ``DistributedDataParallel`` adds the gradients up. All of them yield
    the same epochs.

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
        Samples a step, of all processes together; what does not fill a batch is left out, other
        samples in each epoch.
    rates
        Learning rates.
    seed
        Seed of the order of the samples. The state of torch's own generator is not used.
    check
        Called before each step; what it raises ends training.
    watch
        Count what the layers do on the test samples, for ``Epoch.layers``.
    keep
        Called after each epoch, before it is yielded, with all that is needed to go on from there,
        and the epoch. The tensors are those of the network: save or copy them at once.
    resume
        What ``keep`` was given, to go on after that epoch, with the same other arguments. On the
        same device, number of processes and threads the rest of the run is the same bit for bit.

    Yields
    ------
    Epoch
        The network then holds the parameters of this epoch. Stop iterating to stop training.

    Raises
    ------
    ValueError
        If there are fewer samples than a batch, or fewer than one epoch; if the processes cannot
        share a batch evenly, or there are fewer test samples than processes.

    Examples
    --------
    >>> import torch
    >>> from lapilli import data, loss, slayer
    >>> neuron = dict(threshold=1.25, current_decay=0.25, voltage_decay=0.03)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 64, 10))
    >>> from lapilli.training import Rates, fit
    >>> error = loss.SpikeRate(true_rate=0.5, false_rate=0)
    >>> for epoch in fit(
    ...     net, data.digits(steps=8), error, epochs=2, batch_size=100, rates=Rates(weights=0.01)
    ... ):
    ...     print(epoch.number)
    1
    2
    """
    rank, size = processes.joined()
    if batch_size % size or len(data.test) < size:
        raise ValueError(
            f"{size} processes cannot share batches of {batch_size} samples and {len(data.test)} "
            f"test samples; expected a batch size that is a multiple of {size}, and at least one "
            f"test sample a process"
        )
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
    model = net if size == 1 else torch.nn.parallel.DistributedDataParallel(net)
    share = batch_size // size
    done = 0
    if resume is not None:
        if len(resume["random"]) != size:
            raise ValueError(
                f"cannot go on with {size} processes: the run had {len(resume['random'])}"
            )
        done = resume["epoch"]
        net.load_state_dict(resume["net"])
        optimizer.load_state_dict(resume["optimizer"])
        schedule.load_state_dict(resume["schedule"])
        order.set_state(resume["order"])
        _set_random_states(device, resume["random"][rank])
    for number in range(done + 1, epochs + 1):
        start = time.perf_counter()
        # sums stay on the device until the epoch ends: reading them would stall it at every step
        total = torch.zeros((), device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        shuffled = torch.randperm(len(data.train), generator=order)
        for index in shuffled[: steps * batch_size].view(steps, batch_size):
            check()
            batch = data.train.take(index[rank::size])
            output = model(batch.spikes)
            value = loss(output, batch.labels)
            optimizer.zero_grad()
            (value / share).backward()  # of which DDP takes the mean over the processes
            optimizer.step()
            schedule.step()
            total += value.detach()
            correct += (Rate.predict(output.detach()) == batch.labels).sum()
        if size > 1:
            for of_all in (total, correct):
                torch.distributed.all_reduce(of_all)
        seen = steps * batch_size
        mean_loss, train_accuracy = float(total) / seen, int(correct) / seen
        seconds = time.perf_counter() - start
        layers: tuple[LayerActivity, ...] = ()
        if watch:
            with Activity(net) as activity:
                test_accuracy = _accuracy_of_all(net, data.test, batch_size)
            layers = tuple(activity.layers())
        else:
            test_accuracy = _accuracy_of_all(net, data.test, batch_size)
        epoch = Epoch(number, mean_loss, train_accuracy, test_accuracy, seconds, layers)
        if keep is not None:
            state = {
                "epoch": number,
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "order": order.get_state(),
                "random": _of_all_processes(_random_states(device), size),
            }
            keep(state, epoch)
        yield epoch
