"""The commands but for ``train``: each takes its arguments and returns its exit status."""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from lapilli.errors import UsageError, wrong_input

from .devices import device_called, devices_here
from .ending import DIFFERS, DONE


def _check(args: argparse.Namespace) -> int:
    from lapilli import export

    budget = None
    with wrong_input(ValueError):
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

    x = None
    with contextlib.suppress(EOFError, ValueError, zipfile.BadZipFile):
        # mapped: a header can claim any size, a map ends where the file ends
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(x, np.ndarray):
        raise UsageError(
            f"{str(path)!r} is not a file of one array of numbers; write it with numpy.save"
        )
    return x


def _run(args: argparse.Namespace) -> int:
    import numpy as np
    from lapilli.export.file.files import replacing

    from lapilli import export

    with wrong_input(ValueError):
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

    with wrong_input(ValueError):
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

    with wrong_input(show.ResultsError):
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
    device, executor = device_called(args.device)
    trace = args.trace
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
    from lapilli.blocks.crossover import source
    from lapilli.kernels.executors.dispatch import executor

    from .report import versions

    for package, version in versions().items():
        print(f"{package:<10}{version}")
    for name, description in devices_here().items():
        try:
            served = f"kernels run by {executor(torch.device(name))}"
        except RuntimeError:
            served = "no kernels"
        print(f"{name:<10}{description}; {served}")
    print(f"{'limits':<10}{source()}")
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

    with contextlib.ExitStack() as files:
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


def _warm(args: argparse.Namespace) -> int:
    if args.folder is not None:
        os.environ["LAPILLI_CACHE_DIR"] = str(args.folder.resolve())
    from . import warm

    start, before = time.perf_counter(), len([*warm.folder().rglob("*.nbc")])
    with wrong_input(ValueError, OSError):
        for name in warm.warm(args.networks, args.shape, args.classes):
            print(name, flush=True)
    files = [*warm.folder().rglob("*.nbc")]
    size = sum(file.stat().st_size for file in files) / 2**20
    print(
        f"\n{len(files)} loops, {size:.1f} MiB of machine code, in {warm.folder()}; of these "
        f"{len(files) - before} were compiled now, in {time.perf_counter() - start:.1f} s"
    )
    return DONE


def _tune(args: argparse.Namespace) -> int:
    from . import tune

    with wrong_input(OSError):
        if args.reset:
            tune.reset()
            print("the limits that come with lapilli are used again")
            return DONE
        start = time.perf_counter()

        def progress(done: int, of: int) -> None:
            if sys.stderr.isatty() or done == of:
                end = "\n" if done == of else "\r"
                print(f"measured {done} of {of} sizes", end=end, file=sys.stderr, flush=True)

        rows = tune.tune(progress)
    print("\n".join(rows))
    print(f"\nstored in {tune.path()}; {time.perf_counter() - start:.1f} s")
    return DONE


COMMANDS = {
    "warm": _warm,
    "tune": _tune,
    "check": _check,
    "run": _run,
    "inspect": _inspect,
    "bench_show": _bench_show,
    "profile": _profile,
    "info": _info,
    "kernels": _kernels,
    "completion": _completion,
}
