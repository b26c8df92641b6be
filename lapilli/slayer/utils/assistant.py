"""One training or test step in one line.

Source: lava-dl utils/assistant.py.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .stats import LearningStat, LearningStats

__all__ = ["Assistant", "Step"]

Step = Literal["train", "test", "valid"]


class Assistant:
    """Runs a network on a batch: loss, statistics, and in training the step of the optimizer.

    Parameters
    ----------
    net
        Module from an input to its output; with ``count_log`` and ``lam`` to (output, count),
        (output, net loss) or (output, net loss, count).
    error
        Called with (output, target); returns a scalar.
    optimizer
        Optimizer of the network.
    stats
        Where losses and accuracies go; None for nowhere.
    classifier
        Function from output to classes, like ``lapilli.classifier.Rate.predict``; or None.
    count_log
        The network returns counts, usually of events; they are passed on.
    lam
        Factor of the loss that the network itself returns, usually for sparsity; None: it returns
        none. The statistics are of the other loss alone.

    Attributes
    ----------
    device : torch.device or None
        Where batches go: the device of the network's first parameter, found at the first step.

    Examples
    --------
    >>> import torch
    >>> from lapilli import loss, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2))
    >>> stats = slayer.utils.LearningStats()
    >>> assistant = slayer.utils.Assistant(
    ...     net, loss.SpikeRate(0.5, 0.1), torch.optim.Adam(net.parameters()), stats,
    ...     classifier=slayer.classifier.Rate.predict,
    ... )
    >>> output = assistant.train(torch.rand(4, 3, 10), torch.tensor([0, 1, 1, 0]))
    >>> output.shape, stats.training.num_samples
    (torch.Size([4, 2, 10]), 4)
    """

    def __init__(
        self,
        net: torch.nn.Module,
        error: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        stats: LearningStats | None = None,
        classifier: Callable[[Tensor], Tensor] | None = None,
        count_log: bool = False,
        lam: float | None = None,
    ) -> None:
        self.net = net
        self.error = error
        self.optimizer = optimizer
        self.stats = stats
        self.classifier = classifier
        self.count_log = count_log
        self.lam = lam
        self.device: torch.device | None = None

    def reduce_lr(self, factor: float = 10 / 3) -> None:
        """Divide the learning rates by ``factor``, and print the old ones."""
        for group in self.optimizer.param_groups:
            print(f"learning rate reduced from {group['lr']}")  # noqa: T201 (as in lava-dl)
            group["lr"] /= factor

    def _run(
        self, input: Tensor, target: Tensor, stat: LearningStat | None
    ) -> tuple[Tensor, tuple[Tensor, Any] | Tensor]:
        """Return the loss, with the network's own, and what the step returns."""
        if self.device is None:
            first = next(self.net.parameters(), input)
            self.device = first.device
        input, target = input.to(self.device), target.to(self.device)
        given = self.net(input)
        expected = 1 + self.count_log + (self.lam is not None)
        parts: tuple[Any, ...] = (given,) if expected == 1 else tuple(given)
        if len(parts) != expected:
            raise ValueError(
                f"the network returned {len(parts)} values; expected {expected} for "
                f"count_log={self.count_log}, lam={self.lam}"
            )
        output = parts[0]
        loss = total = self.error(output, target)
        if self.lam is not None:
            total = loss + self.lam * parts[1]
        if stat is not None:
            correct = None
            if self.classifier is not None:
                correct = (self.classifier(output.detach()) == target).sum()
            stat.add(loss, correct, weight=output.shape[0], samples=input.shape[0])
        return total, (output, parts[-1]) if self.count_log else output

    def train(self, input: Tensor, target: Tensor) -> Any:
        """Run the network on a batch and improve it.

        Parameters
        ----------
        input
            First argument of the network; moved to its device.
        target
            Second argument of ``error``; moved as well.

        Returns
        -------
        Tensor
            Output of the network; with ``count_log`` a pair of it and the counts.
        """
        self.net.train()
        total, result = self._run(input, target, self.stats and self.stats.training)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return result

    def test(self, input: Tensor, target: Tensor) -> Any:
        """Run the network on a batch of the test samples; else like ``train``."""
        return self._evaluate(input, target, self.stats and self.stats.testing)

    def valid(self, input: Tensor, target: Tensor) -> Any:
        """Run the network on a batch of the validation samples; else like ``train``."""
        return self._evaluate(input, target, self.stats and self.stats.validation)

    @torch.no_grad()
    def _evaluate(self, input: Tensor, target: Tensor, stat: LearningStat | None) -> Any:
        self.net.eval()
        return self._run(input, target, stat)[1]

    def epoch(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        step: Step = "train",
        *,
        progress: bool = True,
    ) -> None:
        """Run ``train``, ``test`` or ``valid`` on every batch.

        Parameters
        ----------
        batches
            Pairs (input, target), usually a ``torch.utils.data.DataLoader``.
        step
            ``train``, ``test`` or ``valid``.
        progress
            Show a bar, where tqdm is installed and the output is a terminal.

        Raises
        ------
        ValueError
            If the step is unknown.
        """
        if step not in get_args(Step):
            raise ValueError(f"step is {step!r}; expected one of {', '.join(get_args(Step))}")
        if progress and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                pass
            else:
                batches = tqdm(batches, desc=step, unit="batch", dynamic_ncols=True)
        run = getattr(self, step)
        for input, target in batches:
            run(input, target)
