"""``lapilli warm``: compile the CPU loops of networks ahead of time, into a folder.

A loop is compiled for its arguments and its flags, so the networks are run: a step of training and
an inference, on inputs of several densities, which take different ways through a synapse.
"""

import importlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lapilli.blocks.maps import PRODUCTS
from lapilli.kernels.executors.cache import cache_folder

from lapilli import export
from lapilli.benchmark.neurons import ARGUMENTS
from lapilli.errors import UsageError
from lapilli.recordings.errors import MissingDataError

from .given_network import checked, network_of_file
from .recipes import RECIPES

EVERYTHING = "neurons"  # stands for small layers of every neuron
# of the gradient that a loss gives: as the output lies in memory, or time last
_ORDERS = (torch.preserve_format, torch.contiguous_format)
_DENSITIES = (0.004, 0.05, 0.3)  # share of the inputs that are spikes
_STEPS = 32
_SAMPLES = {  # neurons of a sample of the data set
    "digits": (64,),
    "nmnist": (2 * 34 * 34,),
    "shd": (700,),
    "dvsgesture": (2, 32, 32),
}


@dataclass(frozen=True)
class Work:
    """A network and what it is run on: ``batch`` samples of ``shape``."""

    name: str
    make: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    batch: int
    trains: bool = True


def warm(given: Sequence[str], shape: tuple[int, ...] | None, classes: int) -> Iterator[str]:
    """Compile what networks need; yields the name of each that is done.

    Parameters
    ----------
    given
        Names of recipes, ``neurons`` for all neurons, network files, which are run without
        training, and ``FILE.py:FUNCTION``.
    shape, classes
        What functions and network files are given: the shape of a sample, without time, and the
        number of classes.

    Raises
    ------
    UsageError
        If something given is none of these, or its shape is missing.
    OSError
        If the folder cannot be written to.
    """
    works = [work for name in given for work in _works(name, shape, classes)]
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache_folder()):
        pass  # else every loop would be compiled in vain
    for work in works:
        try:
            _run(work)
        except MissingDataError as error:
            raise UsageError(str(error).removeprefix("--net ")) from None
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"{work.name}, run on samples {work.shape}: {error}") from None
        yield work.name


def folder() -> Path:
    """Return the folder that loops are compiled into."""
    return cache_folder()


def _works(name: str, shape: tuple[int, ...] | None, classes: int) -> Iterator[Work]:
    if name in RECIPES:
        recipe = RECIPES[name]
        yield Work(name, recipe.network, _SAMPLES[name], recipe.batch_size)
    elif name == EVERYTHING:
        yield from _every_neuron()
    elif shape is None and (name.endswith(".net") or ":" in name):
        raise UsageError(
            f"{name!r} is run on samples, whose shape it does not tell; give it with --shape, as "
            "2,34,34, without time"
        )
    elif name.endswith(".net"):
        if not Path(name).is_file():
            raise UsageError(f"there is no file {name!r}")
        assert shape is not None
        yield Work(name, lambda: export.load(name), shape, 8, trains=False)
    elif ":" in name:
        try:
            make = network_of_file(name)
        except MissingDataError as error:
            raise UsageError(str(error)) from None
        sizes = shape or ()
        sample = torch.zeros(1, *sizes, _STEPS)
        yield Work(name, lambda: checked(make, name, sample, classes, True), sizes, 8)
    else:
        raise UsageError(
            f"{name!r} is nothing that can be compiled; expected {', '.join(RECIPES)}, "
            f"{EVERYTHING}, FILE.net or FILE.py:FUNCTION"
        )


def _every_neuron() -> Iterator[Work]:
    """Yield small networks of each neuron: dense and with convolutions, learned and not."""
    for family, arguments in ARGUMENTS.items():
        blocks = importlib.import_module(f"lapilli.blocks.{family}")

        def dense(blocks=blocks, arguments=arguments, **options) -> torch.nn.Sequential:
            return torch.nn.Sequential(
                blocks.Dense(arguments, 32, 24, weight_norm=True, delay=True, **options),
                blocks.Dense(arguments, 24, 16, **options),
            )

        def learned(dense=dense, arguments=arguments) -> torch.nn.Sequential:
            return dense(arguments=arguments | {"requires_grad": True})

        def convolution(blocks=blocks, arguments=arguments) -> torch.nn.Sequential:
            return torch.nn.Sequential(
                blocks.Conv(arguments, 2, 8, 3, padding=1), blocks.Pool(arguments, 2)
            )

        def recurrent(blocks=blocks, arguments=arguments) -> torch.nn.Sequential:
            return torch.nn.Sequential(blocks.Recurrent(arguments, 32, 24))

        yield Work(f"{family}, dense", dense, (32,), 4)
        yield Work(f"{family}, learned parameters", learned, (32,), 4)
        yield Work(f"{family}, convolutions", convolution, (2, 8, 8), 4)
        if hasattr(blocks, "Recurrent"):
            yield Work(f"{family}, recurrent", recurrent, (32,), 4)


def _run(work: Work) -> None:
    """Train a network for a step and run it, in each way and on each density; then run its file."""
    rng = torch.random.get_rng_state()
    try:
        torch.manual_seed(0)
        net = work.make()
        inputs = [
            (torch.rand(work.batch, *work.shape, _STEPS) < density).float()
            for density in _DENSITIES
        ]
        for product in PRODUCTS:  # whatever a synapse will choose at the densities of real data
            layer: Any
            for layer in net.modules():
                if hasattr(layer, "product"):
                    layer.product = product
            for spikes in inputs:
                for order in _ORDERS if work.trains else ():
                    output = net.train()(spikes)
                    output.backward(torch.ones_like(output, memory_format=order))
                with torch.no_grad():
                    net.eval()(spikes)
        if work.trains:
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / "network.net"
                export.save(net, path, target="lapilli")
                with torch.no_grad():
                    export.load(path)(inputs[-1])
    finally:
        torch.random.set_rng_state(rng)
