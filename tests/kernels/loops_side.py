"""Call what runs CPU loops, and write the loops down as LLVM reads them.

What ``test_other_processors.py`` starts, in a process of its own: Numba compiles there for no
processor in particular and optimises nothing, so that LLVM would get the same on any machine.

    python loops_side.py FOLDER NAME...    the loops that some of ``GROUPS`` call
"""

import importlib
import inspect
import json
import math
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from lapilli.blocks import cuba
from lapilli.kernels import executors, recurrences, synapses
from lapilli.kernels.executors import dispatch
from lapilli.kernels.executors.dispatch import LoopCalls
from lapilli.kernels.executors.loops import CpuLoop, loop_of
from lapilli.kernels.executors.sums import sum_of_samples
from lapilli.kernels.executors.transpose import transpose
from lapilli.kernels.numbers.language import is_jit
from lapilli.kernels.numbers.surrogate import DEFAULT, SURROGATES
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.synapses import codes, event_convolution, event_products, events
from lapilli.kernels.synapses.event_convolution import Geometry
from lapilli.kernels.synapses.normalize import normalized_8bit
from lapilli.kernels.synapses.quantize import quantize_8bit
from problems import fixed_problem
from recurrences import FULL, TABLE, Recurrence
from recurrent_layers import Layer
from torch import Tensor

Calls = Iterator[Callable[[], object]]


def of_recurrences() -> Calls:
    """With all that their kernels can be given, and some with as little as training needs."""
    for parameter in FULL:
        recurrence, options = cast("tuple[Recurrence, dict[str, Any]]", parameter.values)
        yield fixed_problem(recurrence, **options).fast
    named = {recurrence.name: recurrence for recurrence in TABLE}
    for name in ("cuba", "rf", "sigma_delta"):
        yield fixed_problem(named[name], train=True).fast
    for surrogate in SURROGATES:
        if surrogate != DEFAULT:
            yield fixed_problem(named["cuba"], train=True, surrogate=surrogate).fast


def of_recurrent_layers() -> Calls:
    for name in ("cuba", "adrf", "adrf_iz"):
        yield lambda name=name: Layer(name).run(recurrent)
    yield lambda: Layer("alif", graded=True, learn=True, scale=6400, gradient="full").run(recurrent)
    yield lambda: Layer("rf", learn=True, gradient="bounded").run(recurrent)


def few() -> Calls:
    """Call loops of each kind: made from a kernel, of events, of weights."""
    yield fixed_problem(TABLE[0], train=True, learn=True).fast
    weight = torch.rand(40, 70, requires_grad=True)
    yield lambda: quantize_8bit(weight).sum().backward()
    yield lambda: _products(_as_rows(_series(70, 20, 0.05, torch.float32)))


def _series(features: int, steps: int, density: float, kind: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(2, features, steps, generator=generator) < density).to(kind)


def _as_rows(x: Tensor) -> Tensor:
    return x.movedim(-1, 1).contiguous().movedim(1, -1)


def _products(x: Tensor) -> None:
    found = events.events_of(x)
    assert found is not None
    weight = torch.rand(32, found.shape[1])
    event_products.gather(found, weight)
    event_products.gather(found, weight.round(), 1.0)
    event_products.scatter(found, torch.rand(found.shape[0], 32))


def of_events() -> Calls:
    for kind in (torch.float32, torch.bool):
        for x in (_series(70, 20, 0.05, kind), _as_rows(_series(70, 20, 0.05, kind))):
            yield lambda x=x: events.events_of(x)
    some = _series(70, 20, 0.05, torch.float32)
    many = _series(1024, 20, 0.3, torch.float32)  # enough to be sorted
    wide = _series((1 << 16) + 10, 1, 0.001, torch.float32)  # columns of more than 16 bits
    for x in (some, some * 0.5, many * 0.5, wide):
        yield lambda x=x: _products(x)


def _convolve(x: Tensor, outputs: int, stride: int, step: float) -> None:
    shape = 2, 8, math.prod(x.shape[1:-1]) // 16
    found = events.events_of(x)
    assert found is not None
    weight = torch.rand(outputs, 2, 3, 3).round()
    geometry = Geometry(shape, weight.shape, (stride, stride), (1, 1), (1, 1))
    y = event_convolution.gather(found, weight, geometry, step)
    event_convolution.scatter(found, y, geometry)


def of_convolutions() -> Calls:
    some, many = (_series(2 * 8 * 8, 20, d, torch.float32) for d in (0.1, 0.9))
    yield lambda: _convolve(some, 8, 1, 0.0)
    yield lambda: _convolve(some * 0.5, 8, 2, 0.0)
    yield lambda: _convolve(many, 32, 1, 1.0)  # as codes


def of_weights() -> Calls:
    weight = torch.rand(40, 70, requires_grad=True)
    yield lambda: quantize_8bit(weight).sum().backward()
    length = torch.rand(40, 1, 1, 1, 1, requires_grad=True)
    direction = weight.view(40, 70, 1, 1, 1)
    yield lambda: normalized_8bit(direction, length, 64).sum().backward()
    whole = torch.ones(2, 40, 70)
    yield lambda: codes.codes_of(whole, 1.0)
    yield lambda: codes.codes_of(whole, 1.0, turn=True)
    yield lambda: codes.codes_of(whole, 1.0, turn=True, biased=True)
    bytes_ = torch.ones(32, 32, dtype=torch.int8)
    yield lambda: codes.multiply(bytes_, bytes_, 1.0)
    yield lambda: transpose(torch.rand(2, 80, 96))
    for parameters in (1, 70):
        yield lambda parameters=parameters: sum_of_samples(torch.rand(40, 70), parameters)


@torch.no_grad()
def _steps(block: Any) -> None:
    """Give a block single steps, which it takes in loops of their own from the second on."""
    block(torch.zeros(2, 20, 1))
    if block.delay is not None:
        block.delay.delay.fill_(3)
    block.reset_state()
    for t in range(4):
        block(_series(20, 4, 0.5, torch.float32)[..., t : t + 1].contiguous())


def of_single_steps() -> Calls:
    decays = {"current_decay": 0.25, "voltage_decay": 0.03, "persistent_state": True}
    kinds: Any = ((cuba.Dense, {"delay": True}), (cuba.Recurrent, {}))
    for kind, options in kinds:
        block = kind({"threshold": 0.5, **decays}, 20, 24, weight_scale=3, **options)
        yield lambda block=block: _steps(block)


def of_lists() -> Calls:
    """List events, without running it: for processors whose instructions are not here."""

    def write() -> None:
        M, K = 40, 1024
        bits = torch.zeros(M, K // 32, dtype=torch.int32)
        found = events.Found(bits, torch.zeros(M, dtype=torch.int32), graded=False)
        with mock.patch.object(dispatch, "run_tiles"):
            events.listed(torch.zeros(2, K, M // 2), found)

    yield write


GROUPS = {
    "few": few,
    "recurrences": of_recurrences,
    "recurrent layers": of_recurrent_layers,
    "events": of_events,
    "convolutions": of_convolutions,
    "weights": of_weights,
    "single steps": of_single_steps,
    "lists": of_lists,
}
WATCHED = ("few", "recurrences", "recurrent layers")  # run with care as well


def every_loop() -> dict[str, CpuLoop]:
    """Return the CPU loops of the library: those written by hand, and those of kernels that walk.

    A kernel that walks over time ends with the arguments that rows.py asks for.
    """
    found: dict[str, CpuLoop] = {}
    for package in (executors, recurrences, synapses):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            for value in vars(importlib.import_module(module.name)).values():
                if is_jit(value) and _walks(value):
                    value = loop_of(value)
                if isinstance(value, CpuLoop):
                    found[value.__name__] = value
    return found


def _walks(kernel) -> bool:
    names = [*inspect.signature(kernel.fn).parameters]
    return names[0].endswith("_ptr") and names[-3:] == ["U", "STAGES", "BLOCK"]


def write(folder: Path) -> None:
    """Write each loop in each form that was compiled, and the list of all loops."""
    forms = []
    for name, loop in every_loop().items():
        for compiled in loop._compiled.values():
            for signature in compiled.overloads:
                path = folder / f"{len(forms)}.ll"
                path.write_text(compiled.inspect_llvm(signature))
                forms.append({"loop": name, "file": path.name})
    (folder / "forms.json").write_text(json.dumps({"loops": [*every_loop()], "forms": forms}))


def main() -> None:
    folder, *names = sys.argv[1:]
    # of code that is not optimised
    warnings.filterwarnings("ignore", message="Cannot cache compiled function")
    for name in names:
        for call in GROUPS[name]():
            with LoopCalls() if name in WATCHED else nullcontext():
                call()
    write(Path(folder))


if __name__ == "__main__":
    main()
