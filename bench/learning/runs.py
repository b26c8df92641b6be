"""Which networks are trained, in which libraries, and where their scores are stored."""

import contextlib
import fcntl
import hashlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lapilli.kernels.numbers.surrogate import BUILT_IN, DEFAULT
from torch import nn

import lapilli
from bench import libraries, report
from lapilli.benchmark import results
from lapilli.extras import MissingExtraError

from . import data, networks, training

STORE = report.BENCH / "results" / "learning.json"
LIBRARIES = ("lapilli", "lava-dl", "torch")
TASKS: dict[str, Callable[[], data.Task]] = {
    "digits": lambda: data.digits(networks.CARRIER),
    "vowels": data.vowels,
    "motion": data.motion,
}
FIRST = 64  # samples on which networks are started, and those of two libraries compared
_LEAKY, _PHASE = ["cuba", "alif"], ["rf", "rf_iz", "adrf", "adrf_iz"]
_SPIKING = [*_LEAKY, *_PHASE]
_ALL = [*_SPIKING, "sigma_delta"]
CELLS: dict[str, dict[str, list[str]]] = {
    "digits": {
        "Input": _ALL, "Flatten": _ALL, "Average": _ALL, "TimeDecimation": _SPIKING, "Dense": _ALL,
        "Affine": ["cuba", "rf", "rf_iz"], "Output": ["sigma_delta"], "Recurrent": _SPIKING,
        "KWTA": _SPIKING, "Conv": _ALL, "ConvT": _ALL, "Pool": _ALL, "Unpool": _ALL,
    },
    "vowels": {
        "Dense": _ALL, "Affine": ["cuba", "rf", "rf_iz"], "Output": ["sigma_delta"],
        "Recurrent": _SPIKING, "KWTA": _SPIKING,
    },
    "motion": {"Input": ["sigma_delta"], "Dense": ["sigma_delta"], "Output": ["sigma_delta"]},
}  # fmt: skip
YARDSTICKS = ("GRU", "LSTM")


@dataclass(frozen=True)
class Cell:
    """A network to train: a block of a family, or a layer of torch as ``kind`` of family torch."""

    task: str
    family: str
    kind: str
    surrogate: str = DEFAULT

    def __str__(self) -> str:
        shape = "" if self.surrogate == DEFAULT else f" {self.surrogate}"
        return f"{self.task} {self.family} {self.kind}{shape}"


def cells(task: str, library: str) -> list[Cell]:
    """List what a library trains on a task."""
    if library == "torch":
        return [Cell(task, "torch", kind) for kind in YARDSTICKS]
    return [Cell(task, family, kind) for kind, of in CELLS[task].items() for family in of]


def shapes(task: str) -> list[Cell]:
    """List the networks that are also trained with the other surrogates of lapilli."""
    if task == "motion":  # events of sigma-delta have no surrogate
        return []
    return [Cell(task, family, "Dense", shape) for family in _SPIKING for shape in BUILT_IN[1:]]


class CannotRunError(Exception):
    """A library has not what a cell needs; the message is its own error."""


def train(cell: Cell, library: str, task: data.Task, seed: int) -> dict[str, Any]:
    """Train the network of a cell; return score, loss and seconds of processor time.

    Raises
    ------
    CannotRunError
        If lava-dl raises, or is not lapilli's network.
    """
    targets = task.train_targets
    outputs = targets.shape[1] if targets.ndim > 1 else int(targets.max()) + 1
    budget = training.BUDGETS[cell.task]
    as_images = cell.kind in networks.OF_IMAGES
    torch.manual_seed(seed)
    if cell.family == "torch":
        form = "values" if cell.task == "motion" else "spikes"
        net: nn.Module = networks.Yardstick(cell.kind, task.train[form].shape[1], 96, outputs)
        gain = networks.gain(cell.family, cell.kind)
        return training.train(net, task, form, budget, gain, seed, _nothing, False)
    form = networks.form(cell.family, cell.kind)
    inputs = task.train[form]
    shape = {} if cell.surrogate == DEFAULT else {"surrogate": cell.surrogate}
    net = networks.build(lapilli.slayer, cell.family, cell.kind, inputs.shape[1], outputs, **shape)
    first = training.take(inputs, torch.arange(min(FIRST, len(inputs))))
    first = first.unflatten(1, (1, 8, 8)) if as_images else first
    gain = networks.gain(cell.family, cell.kind)
    if library == "lapilli":
        return training.train(net, task, form, budget, gain, seed, _nothing, as_images)
    namespace = importlib.import_module("lava.lib.dl.slayer")
    rest = libraries.LavaDl(namespace).rest
    try:
        theirs = networks.build(namespace, cell.family, cell.kind, inputs.shape[1], outputs)
        theirs(first)  # it learns its sizes
        same_weights(net, theirs)
        rest(theirs)
        equal = bool(torch.equal(theirs(first), net(first)))
        found = training.train(theirs, task, form, budget, gain, seed, rest, as_images)
    except Exception as error:  # of whatever kind: lava-dl raises bare ones too
        raise CannotRunError(f"{type(error).__name__}: {error}".splitlines()[0][:100]) from error
    return found | {"equal": equal}


def same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy the weights of a network of lapilli to one of lava-dl."""
    weights = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        parameter.data.copy_(weights[name].detach().reshape(parameter.shape))
        parameter.requires_grad_(weights[name].requires_grad)


def _nothing(net: nn.Module) -> None:
    """Lapilli and torch start each call at rest."""


def stored() -> dict[str, Any]:
    """Return the results that are stored."""
    return results.read(STORE)


def _sources() -> str:
    """Digest of what decides the scores, but for lapilli itself."""
    files = [Path(module.__file__ or "") for module in (data, networks, training)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Keep other processes from the results, which two libraries may write at once."""
    with (STORE.parent / ".learning.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _put(key: str, row: dict[str, Any], head: dict[str, Any]) -> None:
    with _locked():
        document = stored()
        rows = document.get("cases", {})
        results.write(STORE, head | {"cases": dict(sorted((rows | {key: row}).items()))})


def measure(
    tasks: list[str],
    libraries: list[str],
    kinds: list[str],
    seeds: int,
    shape_seeds: int,
    fresh: bool,
    command: str,
) -> None:
    """Train what is not stored yet, seed by seed, and store each score as soon as it is there.

    Raises
    ------
    SystemExit
        If what is stored is of other data, networks or budgets.
    """
    head = {
        "machine": results.machine(torch.device("cpu")),
        "versions": results.versions(),
        "command": command,
        "sources": _sources(),
    }
    if fresh:
        STORE.unlink(missing_ok=True)
    before = stored()
    if before and before["sources"] != head["sources"]:
        raise SystemExit(
            f"{STORE} is of other data, networks or budgets; --fresh forgets it and starts anew"
        )
    opened = {}
    for task in tasks:
        try:
            opened[task] = TASKS[task]()
        except MissingExtraError as error:
            print(f"{task} is left out: {error}", flush=True)  # noqa: T201
    if "lava-dl" in libraries:
        try:
            importlib.import_module("lava.lib.dl.slayer")
        except ImportError as error:
            print(f"lava-dl is left out: {error}; make peers brings it", flush=True)  # noqa: T201
            libraries = [library for library in libraries if library != "lava-dl"]
    for seed in range(seeds):
        for task, opened_task in opened.items():
            for library in libraries:
                others = library == "lapilli" and seed < shape_seeds
                for cell in cells(task, library) + (shapes(task) if others else []):
                    key = f"{cell} {library} {seed}"
                    if cell.kind not in kinds or key in stored().get("cases", {}):
                        continue
                    try:
                        row = train(cell, library, opened_task, seed)
                    except CannotRunError as error:
                        row = {"cannot": str(error)}
                    _put(key, row, head)
                    print(key, row, flush=True)  # noqa: T201
