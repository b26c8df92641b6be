"""What a run of training needs, found before it starts: recipe, data, network, folder."""

import argparse
import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapilli import processes
from lapilli.errors import UsageError

from .devices import device_called, own_device
from .ending import say


def _new_folder(wanted: Path | None, dataset: str) -> tuple[Path, bool]:
    """Make the folder of a run and try it; also whether it is new."""
    folder = wanted
    if folder is None:
        first = folder = Path("runs") / f"{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
        number = 1
        while folder.exists():
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
    new = not folder.exists()
    try:
        present = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        if not os.access(present, os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission to write", str(present))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write into folder {str(folder)!r} ({error.strerror}); choose one with --out"
        ) from None
    return folder, new


@dataclass
class Run:
    """What a run of training needs, found before it starts."""

    group: processes.Processes
    recipe: Any
    name: str
    own: Any
    device: Any
    executor: str
    batch_size: int
    epochs: int
    seed: int
    settings: dict[str, Any]
    kept: dict[str, Any] | None


_OWN = ("time_unit", "steps", "bin", "shrink", "merge_polarities", "test_share", "camera")


def _recipe(args: argparse.Namespace) -> tuple[Any, str, Any]:
    """Return the recipe, the name of the data set, and recordings of one's own or None."""
    from .recipes import RECIPES, Recipe

    given = [name for name in _OWN if getattr(args, name) is not None]
    if args.dataset in RECIPES:
        if given:
            raise UsageError(
                f"--{given[0].replace('_', '-')} is for recordings of your own; {args.dataset} has "
                "its own"
            )
        return RECIPES[args.dataset], args.dataset, None
    path = Path(args.dataset)
    if not path.exists():
        raise UsageError(
            f"unknown data set {args.dataset!r}; there are: {', '.join(RECIPES)}, or a folder or "
            "table of your own recordings, and there is no such file"
        )
    if not path.is_dir() and path.suffix.lower() != ".csv":
        raise UsageError(
            f"{args.dataset!r} is no folder and no table; expected a folder with a folder for each "
            "class, or a FILE.csv"
        )
    if args.data is not None or args.download:
        raise UsageError("recordings of your own are read where they are: leave --data out")
    from lapilli.loss import SpikeRate
    from lapilli.recordings.own import Options, Own
    from lapilli.training import Rates

    names = {"merge_polarities": "merge", "test_share": "test"}
    own = Own(path, Options(**{names.get(n, n): getattr(args, n) for n in given}))
    recipe = Recipe(
        summary="recordings of one's own", data=own.open, network=own.network,
        loss=SpikeRate(true_rate=0.2, false_rate=0.02), epochs=30, batch_size=16,
        rates=Rates(weights=0.003, decays=0.005), on_disk=False,
    )  # fmt: skip
    name = path.resolve().name if path.is_dir() else path.stem
    return recipe, name, own


def prepare(args: argparse.Namespace, group: processes.Processes) -> Run:
    """Find what a run needs, or say what is wrong with what was asked for."""
    from lapilli.recordings import MissingDataError

    from . import checkpoints
    from .given_network import network_of_file

    kept = None
    if args.resume is not None:
        if args.out is not None:
            raise UsageError("a resumed run stays in its folder: leave --out out")
        kept = checkpoints.read(args.resume)
        for name in _OWN:  # what is not given is what the run had
            if getattr(args, name) is None:
                setattr(args, name, kept["settings"].get(name))
        args.net = args.net or kept["settings"]["net"]
    try:
        recipe, name, own = _recipe(args)
        if args.net is not None:
            network_of_file(args.net)
    except (MissingDataError, ValueError) as error:
        raise UsageError(str(error)) from None

    from lapilli.extras import require

    device, executor = device_called(own_device(args.device, group))
    if group.size > 1 and device.type != "cpu":
        import torch

        torch.accelerator.set_device_index(device.index)  # NCCL asks for it
    require("tqdm", "tqdm")
    if args.tensorboard:
        require("tensorboard", "tensorboard", extra="tensorboard")
    if not args.no_plots:
        require("matplotlib.figure", "matplotlib")
    batch_size = args.batch_size or recipe.batch_size
    if own is not None and args.batch_size is None:  # there may be few
        batch_size = max(min(batch_size, len(own.train)) // group.size, 1) * group.size
    if batch_size % group.size:
        raise UsageError(
            f"{group.size} processes cannot share batches of {batch_size} samples evenly; choose "
            f"another number of processes, or a --batch-size that is a multiple of {group.size}"
        )
    settings = {
        "dataset": name,
        "epochs": args.epochs or recipe.epochs,
        "batch_size": batch_size,
        "seed": args.seed or 0,
        "processes": group.size,
        "net": args.net,
        **{option: getattr(args, option) for option in _OWN},
    }
    if kept is not None:
        given = {n: getattr(args, n) for n in ("epochs", "batch_size", "seed", "net", *_OWN)}
        given |= {"dataset": name, "processes": group.size}
        checkpoints.same_settings(given, kept["settings"])
        settings = kept["settings"]
    return Run(
        group, recipe, name, own, device, executor, settings["batch_size"], settings["epochs"],
        settings["seed"], settings, kept,
    )  # fmt: skip


def make_folder(args: argparse.Namespace, run: Run) -> tuple[Any, bool]:
    """Make the folder of a run, in the first process; also whether it is new."""
    if not run.group.first:
        return None, False
    return _new_folder(args.resume or args.out, run.name)


def make_network(args: argparse.Namespace, run: Run, data: Any) -> Any:
    """Make the network of the recipe, or the user's."""
    if args.net is None:
        return run.recipe.network()
    import torch

    from lapilli.recordings import MissingDataError

    from .given_network import checked, network_of_file

    try:
        sample = data.train.take(torch.tensor([0])).spikes
        torch.manual_seed(run.seed)
        return checked(network_of_file(args.net), args.net, sample, data.classes)
    except MissingDataError as error:
        raise UsageError(str(error)) from None


def open_data(args: argparse.Namespace, run: Run, ahead: bool) -> Any:
    """Open the data set of a recipe; the process that is ahead downloads it."""
    from lapilli.recordings import MissingDataError

    recipe = run.recipe
    if recipe.on_disk and args.data is None:
        raise UsageError(f"{args.dataset} is read from a folder: give it with --data FOLDER")
    if not recipe.on_disk and (args.data is not None or args.download):
        raise UsageError(
            f"{args.dataset} is not read from a folder: leave --data and --download out"
        )
    try:
        where = (args.data, args.download and ahead) if recipe.on_disk else ()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("default")
            data = recipe.data(*where)
        for warning in told:
            say(f"warning: {warning.message}")
    except MissingDataError as error:
        raise UsageError(str(error)) from None
    sizes = [len(data.train), len(data.test)]
    if run.kept is not None and run.kept["samples"] != sizes:
        raise UsageError(
            f"the run to go on with had {run.kept['samples']} samples to train and to test; here "
            f"are {sizes}"
        )
    if len(data.train) < run.batch_size:
        raise UsageError(
            f"{args.dataset} has {len(data.train)} training samples here, too few for a batch of "
            f"{run.batch_size}; give a smaller --batch-size"
        )
    if len(data.test) < run.group.size:
        raise UsageError(
            f"{args.dataset} has {len(data.test)} test samples here, too few for "
            f"{run.group.size} processes; start fewer"
        )
    return data
