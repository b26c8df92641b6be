"""Loss and accuracy of a training run, epoch by epoch: printed, drawn, saved and read back.

Source: lava-dl utils/stats.py.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from lapilli.extras import require

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

__all__ = ["LearningStat", "LearningStats"]

_PARTS = {"Train": "training", "Valid": "validation", "Test": "testing"}  # in the files' order
_NAMES = {"training": "Training", "validation": "Validation", "testing": "Testing"}


class LearningStat:
    """Loss and accuracy of one part of the data: sums of the running epoch, logs of the others.

    Attributes
    ----------
    loss_sum : float
        Loss of the samples of this epoch, added up.
    correct_samples, num_samples : int
        How many samples of this epoch were classified rightly; how many there were.
    loss_log, accuracy_log : list of float or None
        One entry an epoch; None where there were no samples.
    min_loss, max_accuracy : float or None
        Best values of the logs; never NaN.
    best_loss, best_accuracy : bool
        Whether the last ``update`` brought a new best value.
    loss_str, loss_unit, accuracy_str, accuracy_unit : str
        Names and units, for printing and for the names of files.

    Examples
    --------
    >>> from lapilli.slayer.utils import LearningStat
    >>> stat = LearningStat()
    >>> stat.num_samples, stat.correct_samples, stat.loss_sum = 4, 3, 2.0
    >>> stat.loss, stat.accuracy
    (0.5, 0.75)
    """

    def __init__(self) -> None:
        self.reset()
        self.min_loss: float | None = None
        self.max_accuracy: float | None = None
        self.loss_log: list[float | None] = []
        self.accuracy_log: list[float | None] = []
        self.best_loss = False
        self.best_accuracy = False
        self.loss_str, self.loss_unit = "loss", ""
        self.accuracy_str, self.accuracy_unit = "accuracy", ""

    def reset(self) -> None:
        """Start an epoch: the sums become 0."""
        self.num_samples = 0
        self.loss_sum = 0
        self.correct_samples = 0

    def add(self, loss: Tensor, correct: Tensor | None, weight: int, samples: int) -> None:
        """Add a batch without waiting for the device; its numbers are fetched when they are read.

        Parameters
        ----------
        loss
            Scalar, counted ``weight`` times.
        correct
            Scalar: number of samples that were classified rightly; None for no classifier.
        weight, samples
            Factor of the loss; number of samples.
        """
        self._losses.append((loss.detach().reshape(()), weight))
        if correct is not None:
            self._corrects.append((correct.reshape(()), 1))
        self.num_samples += samples

    @property
    def loss_sum(self) -> float:
        """Loss of the samples of this epoch, added up."""
        self._loss_sum += _fetch(self._losses)
        return self._loss_sum

    @loss_sum.setter
    def loss_sum(self, value: float) -> None:
        self._loss_sum = value
        self._losses: list[tuple[Tensor, int]] = []

    @property
    def correct_samples(self) -> int:
        """Number of samples of this epoch that were classified rightly."""
        self._correct_samples += _fetch(self._corrects)
        return self._correct_samples

    @correct_samples.setter
    def correct_samples(self, value: int) -> None:
        self._correct_samples = value
        self._corrects: list[tuple[Tensor, int]] = []

    @property
    def loss(self) -> float | None:
        """Loss a sample in this epoch; None before the first one."""
        return None if self.num_samples == 0 else self.loss_sum / self.num_samples

    @property
    def accuracy(self) -> float | None:
        """Share of samples that were classified rightly in this epoch; None before the first."""
        return None if self.num_samples == 0 else self.correct_samples / self.num_samples

    @property
    def valid_loss_log(self) -> bool:
        """Whether a loss was logged."""
        return any(v is not None for v in self.loss_log)

    @property
    def valid_accuracy_log(self) -> bool:
        """Whether an accuracy was logged."""
        return any(v is not None for v in self.accuracy_log)

    def update(self) -> None:
        """Log the epoch, and note whether it was the best; the sums stay."""
        loss, accuracy = self.loss, self.accuracy
        self.loss_log.append(loss)
        self.accuracy_log.append(accuracy)
        self.best_loss = _is_best(loss, self.min_loss, lower=True)
        if self.best_loss:
            self.min_loss = loss
        self.best_accuracy = _is_best(accuracy, self.max_accuracy, lower=False)
        if self.best_accuracy:
            self.max_accuracy = accuracy

    def __str__(self) -> str:
        if self.num_samples == 0:
            return ""
        loss = f"{self.loss_str} = {self.loss:11.5f} "
        accuracy = f"{self.accuracy_str} = {self.accuracy:7.5f} "
        gap = 24
        if self.min_loss is not None and self.max_accuracy is not None:
            loss += f"(min = {self.min_loss:11.5f})"
            accuracy += f"(max = {self.max_accuracy:7.5f}) "
            gap = 4
        return f"{loss} {self.loss_unit}{' ' * gap}{accuracy}{self.accuracy_unit}"


def _fetch(pending: list[tuple[Tensor, int]]) -> Any:
    """Add up numbers that may still be on a device, in their order, and forget them."""
    if not pending:
        return 0
    tensors, weights = zip(*pending, strict=True)
    pending.clear()
    values = torch.stack([t.to(tensors[0].device) for t in tensors]).tolist()
    return sum(value * weight for value, weight in zip(values, weights, strict=True))


def _is_best(value: float | None, best: float | None, lower: bool) -> bool:
    if value is None or best is None:
        # an epoch without samples is the best only while there are no others, as in lava-dl
        return best is None and not (value is not None and math.isnan(value))
    return value < best if lower else value > best


class _Writer(Protocol):
    """What TensorBoard's ``SummaryWriter`` has."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> object: ...


class LearningStats:
    """Statistics of training, validation and test.

    Parameters
    ----------
    loss_str, loss_unit, accuracy_str, accuracy_unit
        Names and units, for printing; the names are those of the files, too.
    writer
        Where ``update`` also sends the values: a ``torch.utils.tensorboard.SummaryWriter``, or
        anything with its ``add_scalar(tag, value, step)``. None for nowhere.

    Attributes
    ----------
    training, testing, validation : LearningStat
    lines_printed : int
        Lines that the next ``print`` writes over.

    Notes
    -----
    ``best_loss`` and ``best_accuracy`` of the parts describe the last ``update``. Call ``update``
    first, then look at them: scripts that look before are one epoch late.

    Examples
    --------
    >>> from lapilli.slayer.utils import LearningStats
    >>> stats = LearningStats()
    >>> stats.training.num_samples, stats.training.loss_sum = 4, 2.0
    >>> stats.update()  # at the end of an epoch
    >>> stats.training.loss_log
    [0.5]
    """

    def __init__(
        self,
        loss_str: str = "loss",
        loss_unit: str = "",
        accuracy_str: str = "accuracy",
        accuracy_unit: str = "",
        *,
        writer: _Writer | None = None,
    ) -> None:
        self.lines_printed, self.writer = 0, writer
        self.training, self.testing, self.validation = (LearningStat() for _ in range(3))
        for stat in self._parts().values():
            stat.loss_str, stat.loss_unit = loss_str, loss_unit
            stat.accuracy_str, stat.accuracy_unit = accuracy_str, accuracy_unit

    def _parts(self) -> dict[str, LearningStat]:
        return {column: getattr(self, name) for column, name in _PARTS.items()}

    def update(self) -> None:
        """Log the epoch and start the next one."""
        for column, stat in self._parts().items():
            stat.update()
            stat.reset()
            loss, accuracy = stat.loss_log[-1], stat.accuracy_log[-1]
            if self.writer is not None and loss is not None and accuracy is not None:
                step, tag = len(stat.loss_log), column.lower()
                self.writer.add_scalar(f"{stat.loss_str}/{tag}", loss, step)
                self.writer.add_scalar(f"{stat.accuracy_str}/{tag}", accuracy, step)

    def new_line(self) -> None:
        """Let the next ``print`` start on a new line."""
        self.lines_printed = 0

    def __str__(self) -> str:
        text = f"Train {self.training}"
        for column, stat in (("Valid", self.validation), ("Test ", self.testing)):
            if part := str(stat):
                text += f" | {column} {part}"
        return text

    def print(
        self,
        epoch: int,
        iter: int | None = None,
        time_elapsed: float | None = None,
        header: Sequence[object] | None = None,
        dataloader: "DataLoader[Any] | None" = None,
    ) -> None:
        """Print the statistics over those printed before.

        Parameters
        ----------
        epoch
            Number of the epoch.
        iter
            Number of the batch.
        time_elapsed
            Seconds, printed in milliseconds.
        header
            What to print above, one line an entry.
        dataloader
            ``torch.utils.data.DataLoader`` that gives the batches, to show how far the epoch is.
        """
        progress = ""
        if iter is not None and dataloader is None:
            progress = f": i = {iter:5d} "
        elif iter is not None:
            loader: Any = dataloader  # torch does not say that a dataset has a length
            samples = len(loader.dataset)
            done, width = iter * loader.batch_size, math.ceil(math.log10(samples))
            progress = f": {done:{width}}/{samples} ({100 * iter / len(loader):.0f}%)"
        if time_elapsed is not None:
            progress += f", {1000 * time_elapsed:12.4f} ms elapsed"
        lines = [f"\033[{self.lines_printed}A"]
        lines += [f"\033[2K{entry}" for entry in header or ()]
        lines += [f"Epoch {epoch:4d}{progress}{' ' * 8}", *str(self).split("| ")]
        print(*lines, sep="\n")  # noqa: T201 (it is what the method is for)
        self.lines_printed = len(lines)

    def _columns(self, log: str) -> dict[str, list[float | None]]:
        """Return the logs called ``log`` that hold something, by column."""
        return {
            column: getattr(stat, log)
            for column, stat in self._parts().items()
            if getattr(stat, f"valid_{log}")
        }

    def save(self, path: str = "") -> None:
        """Write the logs as text, one row an epoch.

        Parameters
        ----------
        path
            Prefix of the files ``<loss_str>.txt`` and, where an accuracy was logged,
            ``<accuracy_str>.txt``: a folder must end in ``/``.
        """
        files = {f"{path}{self.training.loss_str}.txt": self._columns("loss_log")}
        if accuracies := self._columns("accuracy_log"):
            files[f"{path}{self.testing.accuracy_str}.txt"] = accuracies
        for file, columns in files.items():
            lines = ["#" + "".join(f" {column:<12}" for column in columns)]
            for row in zip(*columns.values(), strict=True):
                lines.append("".join(f"{math.nan if v is None else v:12.6f} " for v in row))
            Path(file).write_text("".join(f"{line}\r\n" for line in lines), newline="")

    def load(self, path: str = "") -> None:
        """Read the logs of ``save`` back, and with them the best values.

        Parameters
        ----------
        path
            Prefix that ``save`` was given.

        Raises
        ------
        FileNotFoundError
            If there is no file of losses.
        ValueError
            If a file does not look like one of ``save``.
        """
        losses = _read_columns(f"{path}{self.training.loss_str}.txt")
        file = Path(f"{path}{self.testing.accuracy_str}.txt")
        accuracies = _read_columns(str(file)) if file.exists() else {}
        epochs = max(map(len, losses.values()), default=0)
        for column, stat in self._parts().items():
            stat.loss_log = losses.get(column, [None] * epochs)
            stat.accuracy_log = accuracies.get(column, [None] * epochs)
            stat.min_loss = min(_numbers(stat.loss_log), default=None)
            stat.max_accuracy = max(_numbers(stat.accuracy_log), default=None)

    def plot(
        self,
        figures: Sequence[int | str] = (1, 2),
        figsize: tuple[float, float] | None = None,
        path: str | None = None,
    ) -> None:
        """Draw losses (logarithmic) and accuracies over the epochs, with matplotlib's pyplot.

        Parameters
        ----------
        figures
            Numbers of the two figures; they are cleared. Nothing is drawn where nothing is logged.
        figsize
            Width and height in inches.
        path
            Prefix of the files ``loss.png`` and ``accuracy.png``; None for no files.
        """
        stat = self.training
        names = {"loss": stat.loss_str, "accuracy": stat.accuracy_str}
        units = {"loss": stat.loss_unit, "accuracy": stat.accuracy_unit}
        for (kind, name), number in zip(names.items(), figures, strict=True):
            columns = self._columns(f"{kind}_log")
            if not columns:
                continue
            pyplot = require("matplotlib.pyplot", "matplotlib")
            figure = pyplot.figure(number, figsize=figsize)
            figure.clear()
            axes = figure.add_subplot()
            for column, log in columns.items():
                values = [math.nan if v is None else v for v in log]
                axes.plot(values, marker="." if len(log) == 1 else "", label=_NAMES[_PARTS[column]])
            axes.set(
                xlabel="Epoch",
                ylabel=f"{name[:1].upper()}{name[1:]} {units[kind]}".rstrip(),
                yscale="log" if kind == "loss" else "linear",
            )
            axes.legend()
            if path is not None:
                figure.savefig(f"{path}{kind}.png")


def _numbers(log: list[float | None]) -> list[float]:
    return [v for v in log if v is not None and not math.isnan(v)]


def _read_columns(file: str) -> dict[str, list[float | None]]:
    """Read a file of ``save``: the name of each column to its values, None where nan."""
    header, *rows = Path(file).read_text().splitlines() or [""]
    columns = header.removeprefix("#").split()
    values = [[float(v) for v in row.split()] for row in rows]
    if (
        not header.startswith("#")
        or not set(columns) <= set(_PARTS)
        or any(len(row) != len(columns) for row in values)
    ):
        raise ValueError(
            f"{file} does not hold statistics: expected a header of {', '.join(_PARTS)} and as "
            f"many numbers in each row; got {header!r}"
        )
    return {
        column: [None if math.isnan(row[i]) else row[i] for row in values]
        for i, column in enumerate(columns)
    }
