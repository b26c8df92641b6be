"""Training of one network: the same budget of steps for every cell and library."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .data import Task


@dataclass(frozen=True)
class Budget:
    """How long a task is trained, and how: Adam, one cycle of the rate."""

    epochs: int
    rate: float
    batch: int


BUDGETS = {
    "digits": Budget(epochs=10, rate=0.01, batch=64),
    "vowels": Budget(epochs=40, rate=0.01, batch=45),
    "motion": Budget(epochs=60, rate=0.01, batch=10),
}


def take(x: Tensor, index: Tensor) -> Tensor:
    """Copy samples of ``[N, neurons..., T]``, with the steps outside of the neurons."""
    return x.movedim(-1, 1).index_select(0, index).movedim(1, -1)


def logits(output: Tensor, gain: float) -> Tensor:
    """Return the mean of the outputs over time, as logits ``[N, classes]``."""
    return gain * output.flatten(1, -2).mean(-1)


def train(
    net: nn.Module,
    task: Task,
    form: str,
    budget: Budget,
    gain: float,
    seed: int,
    rest: Callable[[nn.Module], None],
    as_images: bool,
) -> dict[str, Any]:
    """Train a network; return its score on the test samples and what it took.

    Parameters
    ----------
    form
        Which inputs of the task it takes.
    gain
        From outputs, mean over time, to logits.
    seed
        Of the order of the samples.
    rest
        Called before each call of the network.
    as_images
        Give channels as pictures.
    """
    order = torch.Generator().manual_seed(seed)
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=budget.rate)
    samples = len(task.train_targets)
    steps = samples // budget.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, budget.rate, total_steps=budget.epochs * steps
    )
    regression = task.train_targets.ndim > 1

    def run(x: Tensor) -> Tensor:
        rest(net)
        return net(x.unflatten(1, (1, 8, 8)) if as_images else x)

    start = time.process_time()
    net.train()
    for _ in range(budget.epochs):
        shuffled = torch.randperm(samples, generator=order)
        for index in shuffled[: steps * budget.batch].view(steps, budget.batch):
            output, target = run(take(task.train[form], index)), task.train_targets[index]
            if regression:
                loss = nn.functional.mse_loss(output, target)
            else:
                loss = nn.functional.cross_entropy(logits(output, gain), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    seconds = time.process_time() - start
    net.eval()
    with torch.no_grad():
        output = run(task.test[form])
    return {"score": score(output, task), "loss": float(loss.detach()), "seconds": seconds}


def score(output: Tensor, task: Task) -> float:
    """Return the accuracy on the test samples; of a regression the explained share of variance."""
    target = task.test_targets
    if target.ndim == 1:
        return float((logits(output, 1.0).argmax(1) == target).float().mean())
    mean = task.train_targets.mean((0, 2), keepdim=True)
    return float(1 - (output - target).square().sum() / (target - mean).square().sum())
