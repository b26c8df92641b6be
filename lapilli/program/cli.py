"""Command line ``lapilli``: train, check, run, inspect, profile, kernels, info and others.

Exit status: 0 done; 1 the exported network differs from the trained one, or the network cannot be
deployed; 2 wrong input, with one line that says what; 130 interrupted; 141 nobody reads the output.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapilli import processes
from lapilli.extras import MissingExtraError

from .arguments import UsageError, parser

# torch takes seconds to import: the commands import what they need, so that --help and wrong
# arguments answer at once

MOST_SILENT = 0.2  # share of a layer's neurons that may spike in no test sample without a word
DONE, DIFFERS, WRONG_INPUT, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 130, 141


def _devices() -> dict[str, str]:
    """Devices that are present, and what each is."""
    import torch

    found = {"cpu": f"{torch.get_num_threads()} threads"}
    accelerator = torch.accelerator
    if accelerator.is_available():
        kind = accelerator.current_accelerator().type
        module = torch.get_device_module(kind)
        for i in range(accelerator.device_count()):
            name = module.get_device_name(i) if hasattr(module, "get_device_name") else kind
            found[f"{kind}:{i}"] = name
    return found


def _device(name: str) -> tuple[Any, str]:
    """Return the device called ``name`` and its executor."""
    import torch
    from lapilli.kernels.executors.dispatch import executor

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        return device, executor(device)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a missing backend
        reason = str(error).partition("\n")[0].rstrip(".")
        available = ", ".join(_devices())
        raise UsageError(
            f"device {name!r} cannot be used ({reason}); available: {available}"
        ) from None


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


def _own_device(name: str, group: processes.Processes) -> str:
    """Name of the device of this process, where several share those of a machine."""
    kind, _, number = name.partition(":")
    if group.size == 1 or kind == "cpu":
        return name
    if number:
        raise UsageError(
            f"device {name!r} is one for {group.size} processes; leave the number out, and each "
            f"process takes its own"
        )
    present = sum(found.startswith(f"{kind}:") for found in _devices())
    if 0 < present < group.local_size:
        raise UsageError(
            f"{group.local_size} processes on this machine, which has {present} x {kind}; start at "
            f"most {present} with --nproc-per-node"
        )
    return f"{kind}:{group.local_rank}"


@dataclass
class _Run:
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


_OWN = ("time_unit", "steps", "bin", "shrink", "merge_polarities", "test_share")


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


def _prepare(args: argparse.Namespace, group: processes.Processes) -> _Run:
    from lapilli.recordings import MissingDataError
    from lapilli.recordings.own import network_of_file

    from . import checkpoints

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

    device, executor = _device(_own_device(args.device, group))
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
    return _Run(
        group, recipe, name, own, device, executor, settings["batch_size"], settings["epochs"],
        settings["seed"], settings, kept,
    )  # fmt: skip


def _train(args: argparse.Namespace, group: processes.Processes) -> int:
    run = group.agreed(lambda: _prepare(args, group))
    data = group.one_ahead(lambda ahead: _data(args, run, ahead))

    import torch
    from lapilli.kernels.executors.memory import keep_memory

    data = data.to(run.device)
    keep_memory()
    torch.manual_seed(run.seed)
    net = group.agreed(lambda: _network(args, run, data)).to(run.device)
    folder, is_new = group.agreed(lambda: _folder(args, run))
    if run.own is not None:
        _say(str(run.own))
    if not group.first:  # the network is the same everywhere, but not what drops out
        torch.manual_seed(run.seed + group.rank)
    fitted = _fit(net, data, run, args, folder)
    return group.from_first(lambda: _report(net, data, run, fitted, args, folder, is_new))


def _folder(args: argparse.Namespace, run: _Run) -> tuple[Any, bool]:
    if not run.group.first:
        return None, False
    return _new_folder(args.resume or args.out, run.name)


def _network(args: argparse.Namespace, run: _Run, data: Any) -> Any:
    """Make the network of the recipe, or the user's."""
    if args.net is None:
        return run.recipe.network()
    import torch

    from lapilli.recordings import MissingDataError
    from lapilli.recordings.own import checked, network_of_file

    try:
        sample = data.train.take(torch.tensor([0])).spikes
        torch.manual_seed(run.seed)
        return checked(network_of_file(args.net), args.net, sample, data.classes)
    except MissingDataError as error:
        raise UsageError(str(error)) from None


@dataclass
class _Fitted:
    """What training gave: finished epochs, how it ended, and the epoch that is kept."""

    history: list[Any]
    interrupted: bool = False
    stopped_early: bool = False
    kept_epoch: int = 0


def _report(
    net: Any, data: Any, run: _Run, fitted: _Fitted, args: argparse.Namespace, folder: Path,
    is_new: bool,
) -> int:  # fmt: skip
    """Write the files of a run and print its numbers; returns the exit status."""
    from . import checkpoints, report

    history, interrupted = fitted.history, fitted.interrupted

    if not history:
        if is_new:
            folder.rmdir()
        _say("interrupted before an epoch was finished: nothing is written")
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
        _say(
            f"error: the network read back from {str(folder)!r} differs from the trained one in "
            f"{results['different_spikes']} output spikes"
        )
        return DIFFERS
    if interrupted:
        what = "the last one finished" if args.patience is None else "the best one"
        _say(
            f"interrupted: the files hold epoch {fitted.kept_epoch} of {run.epochs}, {what}; go on "
            f"with --resume {folder}"
        )
        return INTERRUPTED
    (folder / checkpoints.CHECKPOINT).unlink(missing_ok=True)  # it has served
    return DONE


def _data(args: argparse.Namespace, run: _Run, ahead: bool) -> Any:
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
        data = recipe.data(*where)
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


def _fit(net: Any, data: Any, run: _Run, args: argparse.Namespace, folder: Path) -> _Fitted:
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

    with (
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
            with processes.Interrupts(run.group) as interrupts, _wrong_input():
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
        _warn_of_silence(fitted.history)
        # the epoch that was not finished has changed the network
        net.load_state_dict(state if best is None else best["net"])
        fitted.kept_epoch = len(fitted.history) if best is None else best["epoch"]
    return fitted


@contextlib.contextmanager
def _tensorboard(args: argparse.Namespace, run: _Run, folder: Path, done: int) -> Iterator[Any]:
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


def _warn_of_silence(history: list[Any]) -> None:
    """Say which layers have many neurons that spike in no test sample."""
    from lapilli.activity import silence

    for layer in history[-1].layers:
        if layer.silent_share > MOST_SILENT:
            _say(f"warning: on the test samples, {silence(layer)}")


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
        f"({results['seconds_first_epoch']:.1f} s with compilation)",
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


@contextlib.contextmanager
def _wrong_input(*errors: type[Exception]) -> Iterator[None]:
    """Report errors of reading and writing files, and ``errors``, in one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, *errors) as error:
        raise UsageError(" ".join(str(error).split())) from None


def _check(args: argparse.Namespace) -> int:
    from lapilli import export

    budget = None
    with _wrong_input(ValueError):
        data = _array(args.data) if args.data else None
        findings = export.check(args.file, args.target, data=data, unit=args.unit)
        if args.budget:
            budget = export.budget(args.file, data, unit=args.unit)
    errors = sum(finding.blocks for finding in findings)
    if args.json:
        found: dict[str, Any] = {"findings": [dataclasses.asdict(f) for f in findings]}
        if budget is not None:
            found["budget"] = dataclasses.asdict(budget)
        print(json.dumps(found, indent=2))
        return DIFFERS if errors else DONE
    for finding in findings:
        print(finding)
    verdict = f"cannot be deployed: {errors} errors" if errors else "can be deployed"
    print(f"{args.file}: {verdict} ({args.target})")
    if budget is not None:
        print(budget)
    return DIFFERS if errors else DONE


def _array(path: Path) -> Any:
    """Read a file of one array."""
    import numpy as np

    # mapped: a header can claim any size, a map ends where the file ends
    x = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(x, np.ndarray):
        raise UsageError(f"{path} is not a file of one array; write it with numpy.save")
    return x


def _run(args: argparse.Namespace) -> int:
    import numpy as np
    from lapilli.export.file.files import replacing

    from lapilli import export

    with _wrong_input(ValueError):
        x = _array(args.input)
        result = export.run(args.file, x, unit=args.unit, overflow=args.overflow)
        kind = np.min_scalar_type(-int(abs(result.output).max()) - 1)
        with replacing(args.output) as temporary, temporary.open("wb") as file:
            np.save(file, result.output.astype(kind), allow_pickle=False)
    shape = " x ".join(map(str, result.output.shape))
    unit = f", in units of 1/{result.unit}" if result.unit > 1 else ""
    print(f"output    {args.output}: {kind} {shape}{unit}")
    print(f"overflow  {result.overflows} states beyond 24 bits")
    return DONE


def _inspect(args: argparse.Namespace) -> int:
    from lapilli import export

    with _wrong_input(ValueError):
        table = export.format_table(export.inspect(args.file))
        if args.plot:
            from lapilli.export.file.files import replacing

            from lapilli.plot import histograms

            figure = histograms(
                export.weights(args.file), title=args.file.name, xlabel="weight in the file"
            )
            with replacing(args.plot) as temporary:
                kind = args.plot.suffix.lstrip(".") or "png"
                figure.savefig(temporary, format=kind)
    print(table)
    return DONE


def _bench_show(args: argparse.Namespace) -> int:
    from lapilli.export.file.files import replacing

    from lapilli.benchmark import show

    with _wrong_input(show.ResultsError):
        path = args.results or show.newest(Path("bench") / "results")
        document = show.load(path)
        baseline, name = show.load_baseline(path, args.baseline)
        rows = show.cells(document, baseline)
        facts = [f"results: {path}", *show.facts(document, baseline, name)]
        if args.png or args.html:
            figure = show.picture(document)
        if args.png:
            with replacing(args.png) as temporary:
                figure.savefig(temporary, format="png")
        if args.html:
            with replacing(args.html) as temporary:
                temporary.write_text(show.page(rows, facts, figure), encoding="utf-8")
    print("\n".join([*facts, "", *show.table(rows)]))
    return DONE


def _profile(args: argparse.Namespace) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch: the profiler's own log
    from lapilli.benchmark.neurons import ARGUMENTS

    from . import profiling

    for what, given, allowed in (
        ("neuron", args.neuron, ARGUMENTS),
        ("mode", args.mode, profiling.MODES),
    ):
        if given not in allowed:
            raise UsageError(f"unknown {what} {given!r}; there are: {', '.join(allowed)}")
    device, executor = _device(args.device)
    trace = args.trace
    with _wrong_input():
        if trace is None:
            trace = Path("runs") / f"profile-{args.neuron}-{args.mode}.json"
            trace.parent.mkdir(exist_ok=True)
        found = profiling.profile(args.neuron, args.shape, args.mode, device, trace)
    shape = " x ".join(map(str, args.shape))
    print(f"{args.neuron}, {shape}, {args.mode}, on {device} ({executor})")
    share = f"while profiled, {found.kernel_share:.0%} in kernels"
    print(f"{found.seconds * 1e3:.3f} ms a step; {share}\n")
    print("\n".join(profiling.table(found)))
    print(f"\ntrace: {trace} (chrome://tracing or ui.perfetto.dev)")
    return DONE


def _info(args: argparse.Namespace) -> int:
    import torch
    from lapilli.kernels.executors.dispatch import executor

    from .report import versions

    for package, version in versions().items():
        print(f"{package:<10}{version}")
    for name, description in _devices().items():
        try:
            served = f"kernels run by {executor(torch.device(name))}"
        except RuntimeError:
            served = "no kernels"
        print(f"{name:<10}{description}; {served}")
    return DONE


def _kernels(args: argparse.Namespace) -> int:
    from lapilli.kernels.numbers.language import BACKEND, HAS_TRITON

    if not HAS_TRITON:
        raise UsageError("Triton is not installed, so there are no GPU kernels on this system")
    if BACKEND != "auto":
        raise UsageError(f"LAPILLI_BACKEND is {BACKEND!r}; unset it to compile the GPU kernels")

    from lapilli.export.file.files import replacing
    from lapilli.kernels.proof.catalogue import names

    from lapilli.extras import require

    from . import kernel_page, kernel_report

    known = kernel_report.targets()
    targets = list(dict.fromkeys(args.target or known))
    for target in targets:
        if target not in known:
            raise UsageError(f"unknown target {target!r}; there are: {', '.join(known)}")
    for name in args.kernel or ():
        if name not in names():
            raise UsageError(f"unknown kernel {name!r}; there are: {', '.join(names())}")
    if args.html is not None:
        require("matplotlib.figure", "matplotlib")

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            end = "\n" if done == total else "\r"
            print(f"compiled {done} of {total}", end=end, file=sys.stderr, flush=True)

    with contextlib.ExitStack() as files, _wrong_input():
        # opened first, so that a wrong name is found before minutes of compilation
        wanted = {args.json: "json", args.html: "html"}
        paths = {
            kind: files.enter_context(replacing(path))
            for path, kind in wanted.items()
            if path not in (None, "-")
        }
        report = kernel_report.build(targets, args.kernel, progress)
        document = json.dumps(report, indent=2) + "\n"
        if "json" in paths:
            paths["json"].write_text(document, encoding="utf-8")
        if "html" in paths:
            paths["html"].write_text(kernel_page.page(report), encoding="utf-8")
    print(document.rstrip() if args.json == "-" else kernel_report.text(report))
    return DONE


def _completion(args: argparse.Namespace) -> int:
    from .completion import script

    print(script(args.shell))
    return DONE


_COMMANDS = {
    "check": _check,
    "run": _run,
    "inspect": _inspect,
    "bench_show": _bench_show,
    "profile": _profile,
    "info": _info,
    "kernels": _kernels,
    "completion": _completion,
}


def _say(message: str) -> None:
    if processes.is_first():
        print(f"lapilli: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments after the program's name; None: those of the process.

    Returns
    -------
    int
        Exit status, see the module.
    """
    try:
        try:
            return _execute(argv)
        finally:
            sys.stdout.flush()  # here, where a closed pipe can be caught
    except BrokenPipeError:
        # Python flushes once more at exit, to where nothing can fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE


def _execute(argv: Sequence[str] | None) -> int:
    try:
        with processes.together() as group:
            code = _execute_together(argv, group)
            if code == WRONG_INPUT:
                group.wait()  # torchrun ends all as soon as one leaves: the first has to say why
            return code
    except UsageError as error:  # of what torchrun has said
        _say(f"error: {error}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED


def _execute_together(argv: Sequence[str] | None, group: processes.Processes) -> int:
    try:
        args = group.agreed(lambda: parser().parse_args(argv))
        if args.command == "train":
            return _train(args, group)
        if group.size > 1:
            raise UsageError(
                f"only train runs in several processes; start lapilli {args.command} without "
                f"torchrun"
            )
        return _COMMANDS[args.command](args)
    except (UsageError, MissingExtraError) as error:
        _say(f"error: {error}")
        return WRONG_INPUT
