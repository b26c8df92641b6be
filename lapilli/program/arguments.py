"""Arguments of the command line; the commands themselves are in cli.py."""

import argparse
import math
from pathlib import Path
from typing import Any, NoReturn

from lapilli.errors import UsageError

DATASETS = ("digits", "nmnist", "shd", "dvsgesture")  # those with names
SHELLS = ("bash", "zsh")  # that completion knows
_MOST_NEURON_STEPS = 2**28  # of a profile: 1 GiB a series


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _whole_number(low: int) -> Any:
    """Return an argument type: whole numbers from ``low`` that fit in 63 bits."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not low <= value < 2**63:
            raise argparse.ArgumentTypeError(f"is {text!r}; expected a whole number from {low}")
        return value

    return parse


def _number(text: str) -> float:
    """Read a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected a number above 0")
    return value


def _shape(text: str) -> tuple[int, ...]:
    """Read a shape ``batch,neurons...,time``."""
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) < 3 or min(sizes) < 1 or math.prod(sizes) > _MOST_NEURON_STEPS:
        raise argparse.ArgumentTypeError(
            f"is {text!r}; expected batch,neurons,time, as 32,512,300: three or more whole numbers "
            f"from 1, of which the product is at most {_MOST_NEURON_STEPS}"
        )
    return sizes


def _sizes(text: str) -> tuple[int, ...]:
    """Read the shape of a sample ``neurons...``, without time."""
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"is {text!r}; expected the neurons of a sample, as 2,34,34: whole numbers from 1"
        )
    return sizes


def _version() -> str:
    from lapilli import __version__

    return __version__


def parser() -> argparse.ArgumentParser:
    """Return the parser; ``command`` of what it returns is the name of the command."""
    root = _Parser(
        prog="lapilli",
        description="Train spiking networks for Loihi.",
        epilog="Exit status: 0 done; 1 the network cannot be deployed, or its file differs from "
        "it; 2 wrong input, with one line that says what; 130 interrupted; 141 nobody reads the "
        "output.",
    )
    root.add_argument("--version", action="version", version=f"lapilli {_version()}")
    commands = root.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser(
        "train",
        help="train a network on a data set, export it and check the export",
        description="Train a network on a data set, export it and check the export. With several "
        "processes: torchrun --nproc-per-node 2 -m lapilli train DATASET",
    )
    train.add_argument(
        "dataset", metavar="DATASET",
        help="digits: 8 x 8 handwritten digits; nmnist, shd, dvsgesture: events, read from --data; "
        "or recordings of your own: a folder with a folder for each class, or a table FILE.csv "
        "with the columns file and label",
    )  # fmt: skip
    train.add_argument("--data", type=Path, metavar="FOLDER", help="folder with the events")
    train.add_argument(
        "--download", action="store_true", help="download the events first (pip install tonic)"
    )
    train.add_argument("--epochs", type=_whole_number(1), help="default: what the data set needs")
    train.add_argument(
        "--batch-size", type=_whole_number(1),
        help="samples a step, of all processes together; default: what the data set needs",
    )  # fmt: skip
    train.add_argument("--seed", type=_whole_number(0), help="default: 0")
    train.add_argument(
        "--device", default="cpu",
        help="cpu (default), cuda, cuda:1, xpu; with torchrun without a number",
    )  # fmt: skip
    train.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: runs/DATASET-<date>-<time>"
    )
    train.add_argument("--json", action="store_true", help="print the report as JSON")
    train.add_argument("--no-plots", action="store_true", help="draw no pictures and no page")
    train.add_argument(
        "--net", metavar="FILE.py:FUNCTION",
        help="a network of your own: a function from the shape of a sample, without time, and the "
        "number of classes to a torch.nn.Sequential of blocks",
    )  # fmt: skip
    train.add_argument(
        "--resume", type=Path, metavar="FOLDER",
        help="continue the interrupted run in this folder, with its settings",
    )  # fmt: skip
    train.add_argument(
        "--patience", type=_whole_number(1), metavar="EPOCHS",
        help="stop when the test accuracy has not risen for so many epochs, and keep the best one",
    )  # fmt: skip
    train.add_argument(
        "--tensorboard", action="store_true",
        help="also write the history for TensorBoard, into the folder of the run",
    )  # fmt: skip
    own = train.add_argument_group("recordings of your own")
    own.add_argument(
        "--time-unit", help="unit of the times in .npy, .npz and .h5: us (default), ms, s"
    )
    own.add_argument("--steps", type=_whole_number(2), help="time steps a sample; default: 100")
    own.add_argument(
        "--bin", type=_number, metavar="MS",
        help="milliseconds a step; default: the longest recording fills the steps",
    )  # fmt: skip
    own.add_argument(
        "--shrink",
        type=_whole_number(1),
        help="pixels in each direction that become one; default: 1",
    )
    own.add_argument(
        "--merge-polarities",
        action="store_const",
        const=True,
        help="put both polarities into one channel",
    )
    own.add_argument(
        "--test-share", type=_number, metavar="SHARE",
        help="share of the recordings that is held out for the test, unless folders or table say "
        "which; default: 0.2",
    )  # fmt: skip
    own.add_argument(
        "--camera",
        help="camera of files of AEDAT 2.0 that do not name it: DVS128, DAVIS240, DAVIS346 or "
        "DAVIS640",
    )
    train.set_defaults(command="train")

    check = commands.add_parser(
        "check",
        help="tell whether a network file can be deployed",
        description="List what stands against deploying a network file, one line each. The exit "
        "status is 1 if it cannot be deployed.",
    )
    check.add_argument("file", type=Path, metavar="FILE.net")
    check.add_argument(
        "--target", default="loihi2-netx", help="loihi2-netx (default), or lapilli: the format only"
    )
    check.add_argument(
        "--budget", action="store_true",
        help="also estimate what the network takes of a Loihi 2 chip, and which layer binds",
    )  # fmt: skip
    check.add_argument(
        "--data", type=Path, metavar="INPUT.npy",
        help="run on these samples, [batch, neurons..., time]: count the states that leave 24 bits "
        "and, with --budget, spikes and synaptic operations",
    )  # fmt: skip
    check.add_argument(
        "--unit",
        type=_whole_number(1),
        default=1,
        help="integer in the data that stands for the number 1; default: 1, which is right for "
        "spikes",
    )
    check.add_argument("--json", action="store_true", help="print findings and budget as JSON")
    check.set_defaults(command="check")

    run = commands.add_parser(
        "run",
        help="run a network file in integers",
        description="Run a network file in integers, as the chip does, independently of training.",
    )
    run.add_argument("file", type=Path, metavar="FILE.net")
    run.add_argument("input", type=Path, metavar="INPUT.npy", help="[batch, neurons..., time]")
    run.add_argument("-o", "--output", type=Path, metavar="OUTPUT.npy", required=True)
    run.add_argument(
        "--unit",
        type=_whole_number(1),
        default=1,
        help="integer in the input that stands for the number 1; default: 1, which is right for "
        "spikes",
    )
    run.add_argument(
        "--overflow", default="slayer",
        help="states beyond 24 bits: slayer (default) lets them grow, as in training; loihi limits "
        "them, as the chip does",
    )  # fmt: skip
    run.set_defaults(command="run")

    inspect = commands.add_parser(
        "inspect", help="show a network file", description="Show the layers of a network file."
    )
    inspect.add_argument("file", type=Path, metavar="FILE.net")
    inspect.add_argument(
        "--plot", type=Path, metavar="PICTURE", help="also draw the weights of each layer"
    )
    inspect.set_defaults(command="inspect")

    bench = commands.add_parser(
        "bench", help="show benchmarks", description="Show what pytest --benchmark measured."
    )
    bench_commands = bench.add_subparsers(metavar="COMMAND", required=True)
    show = bench_commands.add_parser(
        "show",
        help="show results beside their baselines",
        description="Show the results of pytest --benchmark beside their baselines.",
    )
    show.add_argument(
        "results", type=Path, nargs="?", metavar="RESULTS.json",
        help="default: the newest in bench/results of the current folder",
    )  # fmt: skip
    show.add_argument(
        "--baseline", type=Path, metavar="FILE.json",
        help="default: the file of the same name in baselines, beside the folder of the results",
    )  # fmt: skip
    show.add_argument(
        "--html", type=Path, nargs="?", const=Path("bench.html"), metavar="FILE",
        help="also write a page; default: bench.html",
    )  # fmt: skip
    show.add_argument(
        "--png", type=Path, nargs="?", const=Path("bench.png"), metavar="FILE",
        help="also draw throughput and bandwidth ceiling; default: bench.png",
    )  # fmt: skip
    show.set_defaults(command="bench_show")

    profile = commands.add_parser(
        "profile",
        help="show where a neuron's time goes",
        description="Show where the time of a neuron's step goes, and save a Chrome trace.",
    )
    profile.add_argument(
        "--neuron", required=True, help="a module of lapilli.neurons, such as cuba or sigma_delta"
    )
    profile.add_argument(
        "--shape", type=_shape, required=True, metavar="N,C,T",
        help="batch, neurons (one or more numbers), time, as 32,512,300",
    )  # fmt: skip
    profile.add_argument("--mode", default="training", help="training (default), or forward")
    profile.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, xpu")
    profile.add_argument(
        "--trace", type=Path, metavar="FILE.json", help="default: runs/profile-NEURON-MODE.json"
    )
    profile.set_defaults(command="profile")

    info = commands.add_parser(
        "info",
        help="show versions and devices",
        description="Show versions, devices, and what runs the kernels on each device.",
    )
    info.set_defaults(command="info")

    kernels = commands.add_parser(
        "kernels",
        help="compile the GPU kernels and predict their speed; no GPU is needed",
        description="Compile every Triton kernel ahead of time and show what it uses: registers, "
        "spills, shared memory, accesses, instructions and bytes a neuron-step. From these, speeds "
        "on A100, H100, H200 and MI300X are predicted; they are not measured. The first run takes "
        "minutes.",
    )
    kernels.add_argument(
        "--target", nargs="+", metavar="ARCH",
        help="sm_80, sm_90, sm_120, gfx942; default: all, and the GPU that is here",
    )  # fmt: skip
    kernels.add_argument(
        "--kernel",
        nargs="+",
        metavar="NAME",
        help="some of them: a neuron, leaky, delta, sigma, quantize, terms, recurrent, ...",
    )
    kernels.add_argument(
        "--json",
        metavar="FILE",
        help="also write JSON; -: on the standard output, in place of the table",
    )
    kernels.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a page with the rooflines"
    )
    kernels.set_defaults(command="kernels")

    warm = commands.add_parser(
        "warm",
        help="compile the CPU loops of networks ahead of time, for an image or a wheel",
        description="Compile the CPU loops that networks need, by running one step of training and "
        "one inference. They are stored in the folder that LAPILLI_CACHE_DIR names, else in "
        "~/.cache/lapilli. Programs for which that variable names the folder, or a copy of it, "
        "compile nothing any more; it may be read-only. The code is for the processor of this "
        "machine: on another kind, loops are compiled again.",
    )
    warm.add_argument(
        "networks", nargs="*", default=["neurons"], metavar="NETWORK",
        help="neurons (default): small layers of every neuron, which takes minutes; digits, "
        "nmnist, shd, dvsgesture; FILE.py:FUNCTION, a function as for train --net; or FILE.net, "
        "which is run without training",
    )  # fmt: skip
    warm.add_argument(
        "--shape", type=_sizes, metavar="C,H,W",
        help="neurons of a sample, without time, for FILE.py:FUNCTION and FILE.net",
    )  # fmt: skip
    warm.add_argument(
        "--classes", type=_whole_number(1), default=10,
        help="number of classes, the second argument of FUNCTION; default: 10",
    )  # fmt: skip
    warm.add_argument(
        "--folder", type=Path, help="where to store them, in place of LAPILLI_CACHE_DIR"
    )
    warm.set_defaults(command="warm")

    tune = commands.add_parser(
        "tune",
        help="measure on this processor when layers with sparse input are faster",
        description="On a CPU, a layer either adds up the weights of the inputs that spike, or "
        "multiplies matrices, whichever is faster for the share of inputs that spike. The limit "
        "between the two depends on the processor. lapilli comes with the limits of two "
        "processors. This command measures those of yours, in half a minute on an idle machine, "
        "and stores them in the folder of the compiled loops. Outputs have the same bits either "
        "way. Gradients of weights are summed in another order, so that a run is only repeated "
        "exactly with the same limits.",
    )
    tune.add_argument("--reset", action="store_true", help="forget what was measured")
    tune.set_defaults(command="tune")

    completion = commands.add_parser(
        "completion",
        help="print a script that completes lapilli's arguments in the shell",
        description="Print a script that completes commands, options, files and folders. bash: add "
        'eval "$(lapilli completion bash)" to ~/.bashrc. zsh: lapilli completion zsh > FOLDER/'
        "_lapilli, a folder of $fpath. It needs the package shtab: pip install shtab",
    )
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(command="completion")
    return root
