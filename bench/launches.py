"""Count what a step of training launches on a GPU, and time Python between the launches.

python -m bench.launches            prints the table of docs/gpu.md
python -m bench.launches --json     writes bench/results/launches.json, from which the table is made

Forward and backward, without an optimizer, whose operators are torch's own. No GPU is needed:
Triton compiles for sm_90, its driver is one that records, and CPU tensors stand for the device's
(lapilli/kernels/proof/standin.py). They are small, since sizes change neither the launches nor
what Python does: so times hold what torch's operators take for a few numbers on a CPU, about what
they take to launch on a GPU, and not what CUDA takes to launch a kernel of Triton.
"""

import argparse
import gc
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from lapilli.blocks import convolution, linear
from lapilli.kernels.executors import again, operators
from lapilli.kernels.proof.standin import stand_in
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lapilli import slayer
from lapilli.benchmark.results import processor, write

RESULTS = Path(__file__).parent / "results" / "launches.json"
NEURON = {
    "threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03,
    "scale_grad": 3,
}  # fmt: skip
_ROUNDS = 12
_NOTHING = ("empty", "empty_strided", "new_empty", "new_empty_strided", "empty_like", "resolve")


def dense(inputs: int, outputs: int) -> torch.nn.Module:
    """Return a Dense block."""
    return slayer.block.cuba.Dense(NEURON, inputs, outputs)


def step_of(*blocks: Any, learns_input: bool) -> Callable[[], None]:
    """Return a step of training: forward and backward."""
    net = torch.nn.Sequential(*blocks)
    inputs = blocks[0].synapse.in_channels
    x = torch.zeros(2, 3, inputs).movedim(1, -1).requires_grad_(learns_input)
    gradient = torch.zeros(2, 3, blocks[-1].synapse.out_channels).movedim(1, -1)
    learned = [x, *(p for p in net.parameters() if p.requires_grad)]

    def step() -> None:
        for tensor in learned:
            tensor.grad = None
        net(x).backward(gradient)

    return step


def cases() -> dict[str, Callable[[], Callable[[], None]]]:
    """Return what is measured, by name."""
    return {
        "Dense, the first layer": lambda: step_of(dense(32, 16), learns_input=False),
        "Dense, an inner layer": lambda: step_of(dense(32, 16), learns_input=True),
        "MLP of three Dense": lambda: step_of(
            dense(32, 16), dense(16, 16), dense(16, 10), learns_input=False
        ),
    }


class Operators(TorchDispatchMode):
    """Names of torch's operators that launch something: what they return is new, or they write."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        outputs = op(*args, **(kwargs or {}))
        name = op._schema.name.removeprefix("aten::")
        if name not in _NOTHING and name not in _VIEWS:
            given = {_storage(t) for t in tree_leaves((args, kwargs)) if _is_tensor(t)}
            made = [t for t in tree_leaves(outputs) if _is_tensor(t)]
            if op._schema.is_mutable or any(_storage(t) not in given for t in made):
                self.names.append(name)
        return outputs


_VIEWS = ("detach", "alias", "view", "_unsafe_view", "t", "transpose", "expand", "lift_fresh")


def _is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def _storage(x: torch.Tensor) -> int:
    return x.untyped_storage()._cdata


def counted(make: Callable[[], Callable[[], None]]) -> Counter[str]:
    """Return what a step launches, by name; kernels of lapilli by those of their functions."""
    names: list[str] = []
    with stand_in(compiles=False, on_launch=names.append):
        step = make()
        step()
        names.clear()
        unseen = [
            mock.patch.object(m, "is_observed", return_value=False)
            for m in (operators, linear, convolution)
        ]
        with unseen[0], unseen[1], unseen[2], Operators() as found:
            step()
        products = ["mm" if name == "fill_" else name for name in found.names]  # see standin.py
    return Counter(names + products)


def timed(make: Callable[[], Callable[[], None]], repeats: int = 100) -> float:
    """Return the microseconds that a step takes: the median of the quickest tenth."""
    with stand_in(launches=None):
        step = make()
        for _ in range(5):
            step()
        gc.collect()
        gc.disable()
        try:
            found = []
            for _ in range(repeats):
                begun = time.perf_counter()
                step()
                found.append(time.perf_counter() - begun)
        finally:
            gc.enable()
    return statistics.median(sorted(found)[: max(1, repeats // 10)]) * 1e6


def as_triton_does() -> Any:
    """Return a context in which every launch is Triton's own."""
    by_triton = lambda *args: False  # noqa: E731 (a mock would take longer than a launch)
    return mock.patch.object(again, "launched", by_triton)


def measured() -> dict[str, Any]:
    """Return the counts and times of all cases."""
    found = {}
    for name, make in cases().items():
        own, by_triton = [], []
        for _ in range(_ROUNDS):  # one after the other: the machine has other work
            own.append(timed(make))
            with as_triton_does():
                by_triton.append(timed(make))
        found[name] = {
            "launches": dict(sorted(counted(make).items())),
            "us": round(min(own)),
            "us_by_triton": round(min(by_triton)),
        }
    return found


def table(results: dict[str, Any]) -> str:
    """Return the table of docs/gpu.md."""
    rows = [
        "| a step of training | launches of lapilli | of torch | Python | with Triton's launches |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, case in results["cases"].items():
        own = sum(n for k, n in case["launches"].items() if k.endswith("_kernel"))
        torchs = sum(case["launches"].values()) - own
        rows.append(f"| {name} | {own} | {torchs} | {case['us']} us | {case['us_by_triton']} us |")
    return "\n".join(rows)


def main() -> None:
    """Print the table, of what is measured now."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name} too")
    asked = parser.parse_args()
    results = {"processor": processor(), "triton": triton.__version__, "cases": measured()}
    if asked.json:
        write(RESULTS, results)
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
