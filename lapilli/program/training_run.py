"""``lapilli train``: trains, keeps a checkpoint of each epoch, writes the report."""

import argparse
import contextlib
import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapilli import processes
from lapilli.errors import wrong_input

from .ending import DIFFERS, DONE, INTERRUPTED, say
from .preparing import Run, make_folder, make_network, open_data, prepare

MOST_SILENT = 0.2  # share of a layer's neurons that may spike in no test sample without a word


def train(args: argparse.Namespace, group: processes.Processes) -> int:
    """Run ``lapilli train``; returns the exit status."""
    run = group.agreed(lambda: prepare(args, group))
    data = group.one_ahead(lambda ahead: open_data(args, run, ahead))

    import torch
    from lapilli.kernels.executors.memory import keep_memory

    data = data.to(run.device)
    keep_memory()
    torch.manual_seed(run.seed)
    net = group.agreed(lambda: make_network(args, run, data)).to(run.device)
    folder, is_new = group.agreed(lambda: make_folder(args, run))
    if run.own is not None:
        say(str(run.own))
    if not group.first:  # the network is the same everywhere, but not what drops out
        torch.manual_seed(run.seed + group.rank)
    fitted = _fit(net, data, run, args, folder)
    try:
        return group.from_first(lambda: _report(net, data, run, fitted, args, folder, is_new))
    except KeyboardInterrupt:
        from .checkpoints import CHECKPOINT

        if not group.first or not (folder / CHECKPOINT).is_file():
            raise
        say(
            f"interrupted while the files were written; the checkpoint of epoch "
            f"{len(fitted.history)} is kept: write them with --resume {folder}"
        )
        return INTERRUPTED


@dataclass
class _Fitted:
    """What training gave: finished epochs, how it ended, and the epoch that is kept."""

    history: list[Any]
    interrupted: bool = False
    stopped_early: bool = False
    kept_epoch: int = 0


def _report(
    net: Any, data: Any, run: Run, fitted: _Fitted, args: argparse.Namespace, folder: Path,
    is_new: bool,
) -> int:  # fmt: skip
    """Write the files of a run and print its numbers; returns the exit status."""
    from . import checkpoints, report

    history, interrupted = fitted.history, fitted.interrupted

    if not history:
        if is_new:
            folder.rmdir()
        say("interrupted before an epoch was finished: nothing is written")
        return INTERRUPTED

    results = {
        "dataset": run.name,
        "seed": run.seed,
        "device": str(run.device),
        "executor": run.executor,
        "processes": run.group.size,
        "interrupted": interrupted,
        "stopped_early": fitted.stopped_early,
        "kept_epoch": fitted.kept_epoch,
        "classes": run.own.classes if run.own else [str(k) for k in range(data.classes)],
        **report.measure(net, data, history, run.batch_size, fitted.kept_epoch - 1),
    }
    results = report.write(folder, net, data, history, results, pictures=not args.no_plots)
    print(json.dumps(results, indent=2) if args.json else _summary(results))
    if results["different_spikes"]:
        say(
            f"error: the network read back from {str(folder)!r} differs from the trained one in "
            f"{results['different_spikes']} output spikes"
        )
        return DIFFERS
    if interrupted:
        what = "the last one finished" if args.patience is None else "the best one"
        say(
            f"interrupted: the files hold epoch {fitted.kept_epoch} of {run.epochs}, {what}; go on "
            f"with --resume {folder}"
        )
        return INTERRUPTED
    (folder / checkpoints.CHECKPOINT).unlink(missing_ok=True)  # it has served
    return DONE


def _fit(net: Any, data: Any, run: Run, args: argparse.Namespace, folder: Path) -> _Fitted:
    """Train with a progress bar, and keep a checkpoint of each epoch.

    The network then holds the last finished epoch; with --patience, the best.
    """
    from tqdm import tqdm

    from lapilli.training import fit

    from . import checkpoints

    kept = run.kept or {"history": [], "fit": None, "best": None}
    fitted, state = _Fitted(list(kept["history"])), None
    best = None if args.patience is None else kept["best"]
    if kept["fit"] is not None:
        state = kept["fit"]["net"]
    samples = len(data.train) // run.batch_size * run.batch_size

    def keep(after: dict[str, Any], epoch: Any) -> None:
        nonlocal best, state
        copy, better = _copy(after["net"]), best
        if args.patience is not None and (best is None or epoch.test_accuracy > best["accuracy"]):
            better = {"accuracy": epoch.test_accuracy, "epoch": epoch.number, "net": copy}
        # together: an interrupt can part lines
        fitted.history, state, best = [*fitted.history, epoch], copy, better
        if run.group.first:
            content = {
                "settings": run.settings,
                "samples": [len(data.train), len(data.test)],
                "fit": after,
                "best": best,
            }
            checkpoints.write(folder, content, fitted.history)
            board(epoch)

    gc.freeze()  # what is imported and made by now stays: not to be looked at again and again
    with (
        _evaluated_beside(net, data, run),
        _tensorboard(args, run, folder, len(fitted.history)) as board,
        tqdm(
            total=run.epochs,
            initial=len(fitted.history),
            desc=run.name,
            unit="epoch",
            dynamic_ncols=True,
            disable=not run.group.first,
        ) as bar,
    ):
        bar.set_postfix_str("compiling kernels")
        try:
            with processes.Interrupts(run.group) as interrupts, wrong_input():
                for epoch in fit(
                    net, data, run.recipe.loss, epochs=run.epochs, batch_size=run.batch_size,
                    rates=run.recipe.rates, seed=run.seed, check=interrupts.check, watch=True,
                    keep=keep, resume=kept["fit"],
                ):  # fmt: skip
                    bar.set_postfix_str(
                        f"loss {epoch.loss:.4f}, accuracy {epoch.train_accuracy:.1%}, "
                        f"test {epoch.test_accuracy:.1%}, {samples / epoch.seconds:.0f} samples/s",
                        refresh=False,
                    )
                    bar.update()
                    if best is not None and epoch.number - best["epoch"] >= args.patience:
                        fitted.stopped_early = epoch.number < run.epochs
                        break
        except KeyboardInterrupt:
            fitted.interrupted = True
    if fitted.history:
        warn_of_silence(fitted.history)
        # the epoch that was not finished has changed the network
        net.load_state_dict(state if best is None else best["net"])
        fitted.kept_epoch = len(fitted.history) if best is None else best["epoch"]
    return fitted


def _evaluated_beside(net: Any, data: Any, run: Run) -> contextlib.AbstractContextManager[None]:
    """Evaluate one batch in another process meanwhile, which compiles what that needs."""
    from .beside import beside

    if run.executor != "numba" or run.group.size > 1:
        return contextlib.nullcontext()

    def evaluate_one_batch() -> None:
        import torch

        from lapilli.activity import Activity
        from lapilli.training import evaluate

        first = torch.arange(min(run.batch_size, len(data.test)))
        with Activity(net):  # as each epoch does
            evaluate(net, data.test.take(first), run.batch_size)

    return beside(evaluate_one_batch)


@contextlib.contextmanager
def _tensorboard(args: argparse.Namespace, run: Run, folder: Path, done: int) -> Iterator[Any]:
    """Give a function that writes an epoch for TensorBoard, or one that does nothing."""
    if not (args.tensorboard and run.group.first):
        yield lambda epoch: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=done + 1) as writer:

        def write(epoch: Any) -> None:
            values = {
                "loss": epoch.loss,
                "accuracy/train": epoch.train_accuracy,
                "accuracy/test": epoch.test_accuracy,
                "seconds": epoch.seconds,
                **{f"rate/{layer.name} {layer.kind}": layer.rate for layer in epoch.layers},
            }
            for name, value in values.items():
                writer.add_scalar(name, value, epoch.number)
            writer.flush()

        yield write


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.clone() for name, value in state.items()}


def warn_of_silence(history: list[Any]) -> None:
    """Say which layers have many neurons that spike in no test sample."""
    from lapilli.activity import silence

    for layer in history[-1].layers:
        if layer.silent_share > MOST_SILENT:
            say(f"warning: on the test samples, {silence(layer)}")


def _summary(results: dict[str, Any]) -> str:
    """Show the results of a run to a person."""
    layers = results["spikes_an_inference_by_layer"]
    where = f"{results['device']} ({results['executor']})"
    if results["processes"] > 1:
        where = f"{results['processes']} x {where.replace(':0', '', 1)}"
    rows = {
        "network": f"{'-'.join(map(str, results['neurons']))}, {results['time_steps']} time steps, "
        f"on {where}",
        "accuracy": f"{results['test_accuracy']:.2%} of {results['samples']['test']} test samples",
        "training": f"{results['seconds']:.1f} s for {results['epochs']} epochs, "
        f"{results['seconds_an_epoch']:.3f} s an epoch after the first "
        f"({results['seconds_first_epoch']:.1f} s with compilation)\nwithout the test and the "
        "checkpoint after each epoch, which the time beside the bar contains",
        "speed": f"{results['neuron_steps_a_second'] / 1e6:.0f} million neuron-steps a second",
        "activity": f"{results['spikes_an_inference']:.1f} spikes an inference "
        f"({' + '.join(f'{n:.1f}' for n in layers)})",
        "files": "\n".join(results["files"]),
        "check": "read the network file back: all output spikes are equal",
    }
    if results["different_spikes"]:
        del rows["check"]
    indent = "\n" + " " * 10
    return "\n".join(f"{name:<10}{text.replace(chr(10), indent)}" for name, text in rows.items())
