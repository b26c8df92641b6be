"""What a call does and how long it takes: counters that repeat exactly, and clocks."""

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from lapilli.blocks import convolution, crossover, linear
from lapilli.kernels.executors import dispatch, memory, operators
from lapilli.kernels.recurrences import recurrent_triton
from lapilli.kernels.synapses import codes
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock of the ratios: processor seconds, or on a GPU seconds until it is done."""
    if device.type == "cpu":
        return time.process_time

    def finished() -> float:
        torch.accelerator.synchronize()
        return time.perf_counter()

    return finished


_MAPS = linear, convolution


class OneThread:
    """Context in which torch runs on one thread, so that none spins for another."""

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.threads)


# Operators that are made of torch's own, which count in their place
_SEEN_THROUGH = (
    "turned", "linear_input_bwd", "convolution_input_bwd", "sum_of_samples", "feedback_bwd",
)  # fmt: skip


class _Operations(TorchDispatchMode):
    """Count the operators that write, and the bytes of what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.bytes = 0

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if op.namespace == "lapilli" and op._opname in _SEEN_THROUGH:
            with self:
                return operators.OPERATORS[op._opname].implementation(*args)
        outputs = op(*args, **(kwargs or {}))
        given = {_storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        made = [t for t in tree_leaves(outputs) if isinstance(t, torch.Tensor)]
        fresh = {_storage(t): t.untyped_storage().nbytes() for t in made}
        fresh = {s: n for s, n in fresh.items() if s not in given}
        self.operators += bool(fresh) or op._schema.is_mutable
        self.bytes += sum(fresh.values())
        return outputs


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def counters(call: Callable[[], Any]) -> dict[str, int]:
    """Return what a call does, whatever its speed; runs it twice.

    ``operators`` that write and ``allocated_bytes`` of what they return, ``loops`` over neurons on
    the CPU or launches of Triton kernels, large ``buffers`` taken from the pool, ``saved_bytes``
    kept for backward.
    """
    loops, buffers, kept = [], [], {}
    take = memory._Pool.take

    def counted(function: Callable[..., None]) -> Callable[..., None]:
        def run(*args: Any) -> None:
            loops.append(args)
            function(*args)

        return run

    def counted_take(pool: memory._Pool, size: int) -> Any:
        buffers.append(size)
        return take(pool, size)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[_storage(tensor)] = tensor.numel() * tensor.element_size()
        return tensor

    with (
        crossover.alike_everywhere(),
        mock.patch.object(codes, "usable", return_value=False),  # not on every processor
        mock.patch.object(dispatch, "run_tiles", counted(dispatch.run_tiles)),
        mock.patch.object(dispatch, "launch", counted(dispatch.launch)),
        mock.patch.object(recurrent_triton, "launch", counted(recurrent_triton.launch)),
        mock.patch.object(memory._Pool, "take", counted_take),
    ):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            call()
        loops_of_a_call, buffers_of_a_call = len(loops), len(buffers)
        # synapses do what they do where nobody listens
        unseen = [mock.patch.object(m, "is_observed", return_value=False) for m in _MAPS]
        with unseen[0], unseen[1], _Operations() as operations:
            call()
    return {
        "operators": operations.operators,
        "allocated_bytes": operations.bytes,
        "loops": loops_of_a_call,
        "buffers": buffers_of_a_call,
        "saved_bytes": sum(kept.values()),
    }
