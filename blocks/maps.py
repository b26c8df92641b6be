"""What the linear maps of every frame share: where they run over events, and what they keep.

A map takes one weight, or two as complex synapses have: the input is read once more, but each
output is contiguous, and the gradient of the input is summed without another buffer. Gradients that
nobody asked for are not computed, and what only they need is not kept.

Each map is an operator (``linear_fwd``, ``convolution_fwd``), which compilers, transforms and modes
of torch see: what it keeps has the same shape whatever the input holds, bits that tell where it is
not zero. Where nobody but autograd listens, a function of autograd does the same and keeps less:
events, or numbers with eight bits. Maps are linear, so their second derivatives are right.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from lapilli.kernels.executors.dispatch import has_no_memory, runs_loops
from lapilli.kernels.executors.layout import from_rows, to_rows
from lapilli.kernels.synapses.events import TYPES, Events, Found, filled, find, listed
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .crossover import limit
from .tuned import Dense

Weights = tuple[Tensor, ...]
Product = Literal["auto", "dense", "events"]
PRODUCTS = ("auto", "dense", "events")
WORTHWHILE = 64  # outputs: a product of fewer is bound by memory, whatever it multiplies
LEAST = 1 << 23  # multiplications: fewer take less time than finding events


def density_limit(
    product: str,
    dense: Dense,
    terms: int,
    x: Tensor,
    weights: Weights,
    learning: bool,
    inputs: int | None = None,
) -> float:
    """Return the highest density at which a map is to run over events, 0 where it cannot."""
    if not runs_loops(x) or x.dtype not in TYPES:
        return 0.0
    if product != "auto":
        return 1.0 if product == "events" else 0.0
    terms *= len(weights)
    if x.numel() * terms < LEAST:
        return 0.0
    return limit(dense, terms, learning, inputs)


def two_weights(weights: Weights) -> tuple[Tensor, Tensor | None]:
    """Return one weight and None, or two."""
    if len(weights) not in (1, 2):
        raise ValueError(f"a map takes one weight or two; got {len(weights)}")
    return weights[0], weights[1] if len(weights) == 2 else None


def present(*tensors: Tensor | None) -> Weights:
    """Return those that are not None."""
    return tuple([t for t in tensors if t is not None])


NO_OUTPUT: Any = None  # of an operator, whose schema has no word for an output that may be missing

# What a map keeps of its input for the gradients of its weights: the input, or what it found in it


def number_of_frames(x: Tensor) -> int:
    """Return N * T of ``[N, neurons..., T]``."""
    return x.shape[0] * x.shape[-1]


def number_of_neurons(x: Tensor) -> int:
    """Return the neurons of ``[N, neurons..., T]``."""
    return math.prod(x.shape[1:-1])


def input_rows(x: Tensor) -> Tensor:
    """Return ``[N, neurons..., T]`` as rows ``[N * T, neurons]``, float32."""
    return to_rows(x).view(-1, number_of_neurons(x))


def is_rows(x: Tensor) -> bool:
    """Whether ``x`` is a view of such rows."""
    return x.dtype == torch.float32 and x.movedim(-1, 1).is_contiguous()


def room_for_events(x: Tensor, product: str, learning: bool) -> tuple[Tensor, Tensor]:
    """Return where a traced graph keeps what ``find`` finds; empty where nothing ever is."""
    if not learning or product == "dense" or x.device.type != "cpu" or x.dtype not in TYPES:
        return x.new_empty(0, dtype=torch.int32), x.new_empty(0, dtype=torch.int32)
    M, words = number_of_frames(x), -(-number_of_neurons(x) // 32)
    return x.new_empty(M, words, dtype=torch.int32), x.new_empty(M, dtype=torch.int32)


_NOTHING, _GRADED = -1, -2  # in place of a frame's number of events; graded ones count down


def found_events(
    x: Tensor, most: float, room: tuple[Tensor, Tensor]
) -> tuple[Events | None, tuple[Tensor, Tensor]]:
    """List the events of ``x``; return them and what to keep: bits and counts, as large as room."""
    found = find(x, most) if most > 0 else None
    bits, counts = room
    if found is None:
        return None, (bits, counts.fill_(_NOTHING))
    if counts.numel():
        room = found.bits, _GRADED - found.counts if found.graded else found.counts
    return listed(x, found), room


def kept_events(x: Tensor, bits: Tensor, counts: Tensor) -> Events | None:
    """List what ``found_events`` kept; None where it kept nothing."""
    if counts.numel() == 0 or has_no_memory(x) or int(counts[0]) == _NOTHING:
        return None
    graded = bool((counts <= _GRADED).any())
    return listed(x, Found(bits, _GRADED - counts if graded else counts, graded))


class _Edge(torch.autograd.Function):
    """Stand for the input in the graph of a second derivative, without keeping its memory."""

    @staticmethod
    def forward(ctx, x):
        return x.new_empty((), dtype=torch.float32).expand(x.shape)

    @staticmethod
    def backward(ctx, g):
        return g


class _Filled(torch.autograd.Function):
    """Give what stands for an input its values again."""

    @staticmethod
    def forward(ctx, edge, values):
        return values.view_as(values)

    @staticmethod
    def backward(ctx, g):
        return g, None


def keep(ctx, x: Tensor, weights: Weights, kept: Events | Tensor | None, learning: bool) -> None:
    """Keep for backward what a map found in its input: events, rows, or None for the input."""
    ctx.set_materialize_grads(False)
    ctx.shape, ctx.edge = x.shape, None
    if isinstance(kept, Events):
        ctx.matrix = kept.shape
        parts: tuple[Any, ...] = (kept.columns, kept.starts, kept.values)
    else:
        parts = (x if kept is None else kept,)
    if learning and kept is not None and x.requires_grad:
        with torch.enable_grad():
            ctx.edge = _Edge.apply(x)
    ctx.save_for_backward(*weights, *(parts if learning else ()))


def kept_of(ctx, count: int) -> tuple[Weights, Any]:
    """Return the weights, and what ``keep`` kept: events, rows, an input, or None."""
    saved = ctx.saved_tensors  # read once: activation checkpointing allows no more
    weights, parts = saved[:count], saved[count:]
    if len(parts) > 1:
        columns, starts, values = parts
        return weights, Events(columns, starts, values, ctx.matrix)
    only: Any = parts[0] if parts else None
    return weights, only


def input_to_derive_again(ctx, kept: Any) -> Tensor | None:
    """Return the input where gradients of gradients are wanted and it was kept, else None."""
    return input_again(ctx, kept) if torch.is_grad_enabled() and kept is not None else None


def input_again(ctx, kept: Events | Tensor) -> Tensor:
    """Return the input of a map for second derivatives, from what was kept of it."""
    if isinstance(kept, Tensor) and kept.shape == ctx.shape:
        return kept
    rows = filled(kept) if isinstance(kept, Events) else kept.to(torch.float32)
    rows = rows.view(ctx.shape[0], ctx.shape[-1], -1)
    values = from_rows(rows, ctx.shape[1:-1])
    return values if ctx.edge is None else _Filled.apply(ctx.edge, values)


def from_frames(frames: Tensor, shape: torch.Size) -> Tensor:
    """Show frames ``[N * T, ...]`` as ``[N, neurons..., T]``."""
    return from_rows(frames.view(shape[0], shape[-1], math.prod(shape[1:-1])), shape[1:-1])


# What torch.utils.flop_counter counts: every term of a dense map, as of torch's own


def counted(operator: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Count the floating-point operations of an operator by a formula of shapes."""
    return register_flop_formula(operator.op.overloadpacket)
