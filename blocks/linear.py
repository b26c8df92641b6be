"""Products of every frame with a weight, forward and gradients.

On a CPU a product runs over the inputs that are not zero alone where they are few
(kernels/synapses/event_products.py), else over codes with eight bits where weights and inputs are
such (kernels/synapses/codes.py). What maps share is in maps.py.
"""

import math
from typing import Any

import torch
from lapilli.kernels.executors.dispatch import has_no_memory, runs_loops
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.executors.operators import define_op, differentiable, is_learned, is_observed
from lapilli.kernels.executors.precision import true_float32
from lapilli.kernels.executors.workers import in_one_order
from lapilli.kernels.synapses import codes
from lapilli.kernels.synapses.event_products import gather, scatter
from lapilli.kernels.synapses.events import Events, events_of
from torch import Tensor

from . import tensor_cores
from .maps import (
    LEAST,
    NO_OUTPUT,
    WORTHWHILE,
    Product,
    Weights,
    counted,
    density_limit,
    found_events,
    from_frames,
    input_rows,
    input_to_derive_again,
    is_rows,
    keep,
    kept_events,
    kept_of,
    number_of_frames,
    present,
    room_for_events,
    two_weights,
)
from .tensor_cores import gradient_products
from .tuned import Dense


def _product(x: Tensor, w: Tensor, exact: bool) -> Tensor:
    """Multiply matrices; ``exact`` says that those of ``w`` are numbers with eight bits."""
    if exact and tensor_cores.usable(x.device):
        return tensor_cores.multiply(x, w)
    return torch.mm(x, w, out=empty((x.shape[0], w.shape[1]), torch.float32, x))


def _codes(x: Tensor, step: float, weights: Weights) -> list[Tensor] | None:
    """Return the codes of ``x`` as rows and of each weight; None where they have none."""
    found = []
    for w in weights:
        found.append(codes.codes_of(w.contiguous(), step))
        if found[-1] is None:
            return None
    rows = codes.rows_of_codes(x)
    return None if rows is None else [rows, *found]


def _linear(x: Tensor, weights: Weights, step: float, events: Events | None, has_codes: bool):
    """Return the outputs, and what to keep in place of the input: rows, or None for itself."""
    if events is not None:
        return [gather(events, w, step) for w in weights], None
    whole = _codes(x, step, weights) if has_codes else None
    if whole is not None:
        rows, *each = whole
        return [codes.multiply(rows, w.t(), step) for w in each], rows
    rows = input_rows(x)
    with true_float32(x.device, "matmul"):
        outputs = [_product(rows, w.t(), step > 0) for w in weights]
    return outputs, None if is_rows(x) else rows


def _has_codes(x: Tensor, weights: Weights, step: float) -> bool:
    outputs = len(weights[0])
    large = outputs >= WORTHWHILE and x.numel() * outputs >= LEAST
    return large and step > 0 and x.dtype == torch.float32 and runs_loops(x) and codes.usable()


def _most_of_rows(
    x: Tensor, weights: Weights, product: str, has_codes: bool, learning: bool
) -> float:
    dense: Dense = "codes" if has_codes else "float32"
    return density_limit(product, dense, len(weights[0]), x, weights, learning, weights[0].shape[1])


@define_op(samples="x", any_layout="x w w_im")
def linear_fwd(
    x: Tensor, w: Tensor, w_im: Tensor | None, product: str, step: float, learning: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the rows of each weight, and the events as bits and their number a frame."""
    weights = present(w, w_im)
    room = room_for_events(x, product, learning)
    if has_no_memory(x):
        outputs = [
            x.new_empty(number_of_frames(x), o.shape[0], dtype=torch.float32) for o in weights
        ]
    else:
        has_codes = _has_codes(x, weights, step)
        most = _most_of_rows(x, weights, product, has_codes, learning)
        events, room = found_events(x, most, room)
        outputs, _ = _linear(x, weights, step, events, has_codes)
    return outputs[0], outputs[1] if w_im is not None else NO_OUTPUT, *room


@define_op(samples="g g_im", any_layout="w w_im")
def linear_input_bwd(
    g: Tensor, g_im: Tensor | None, w: Tensor, w_im: Tensor | None, exact: bool
) -> Tensor:
    """Return the gradient of the input as rows."""
    mode = gradient_products()
    exact = exact and mode == "split3"
    with true_float32(g.device, "matmul", unless=mode == "tf32"):
        total = _product(g, w, exact)
        if g_im is None or w_im is None:
            return total
        if exact and tensor_cores.usable(g.device):
            return total.add_(_product(g_im, w_im, exact))
        return total.addmm_(g_im, w_im)


@define_op(any_layout="x")
def linear_weight_bwd(g: Tensor, x: Tensor, bits: Tensor, counts: Tensor) -> Tensor:
    """Return the gradient of a weight, over the events of ``x`` that were kept if any."""
    return _weight_gradient(g, kept_events(x, bits, counts) or input_rows(x))


def _weight_gradient(g: Tensor, kept: Events | Tensor) -> Tensor:
    if isinstance(kept, Events):
        return scatter(kept, g)
    rows, tf32 = kept.to(torch.float32), gradient_products() == "tf32"
    with true_float32(g.device, "matmul", unless=tf32), in_one_order(g.device):
        return torch.mm(g.t(), rows)


def _mm(a: Tensor, b: Tensor) -> Tensor:
    """Multiply in float32, for derivatives of derivatives."""
    with true_float32(a.device, "matmul"):
        return torch.mm(a, b)


def _save_input_bwd(ctx, inputs, output):
    g, g_im, w, w_im, _ = inputs
    ctx.save_for_backward(g, g_im, w, w_im)


def _input_bwd_backward(ctx, gg):
    g, g_im, w, w_im = ctx.saved_tensors
    for_g = [None if v is None else _mm(gg, v.t()) for v in (w, w_im)]
    for_w = [None if v is None else _mm(v.t(), gg) for v in (g, g_im)]
    return *for_g, *for_w, None


def _save_weight_bwd(ctx, inputs, output):
    g, x, _, _ = inputs
    ctx.save_for_backward(g, x)


def _weight_bwd_backward(ctx, gg):
    g, x = ctx.saved_tensors
    g_x = from_frames(_mm(g, gg), x.shape)
    return _mm(input_rows(x), gg.t()), g_x, None, None


differentiable(linear_input_bwd, _input_bwd_backward, _save_input_bwd)
differentiable(linear_weight_bwd, _weight_bwd_backward, _save_weight_bwd)


def _save_linear(ctx, inputs, output):
    x, w, w_im, _, step, learning = inputs
    ctx.set_materialize_grads(False)
    ctx.exact, ctx.shape = step > 0, x.shape
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(x if learning else None, w, w_im, *output[2:])


def _linear_backward(ctx, g, g_im, *_others):
    x, w, w_im, bits, counts = ctx.saved_tensors
    g_x, for_weights = _gradients_of_linear(
        ctx.needs_input_grad, (g, g_im), (w, w_im), ctx.exact, ctx.shape,
        lambda gradient: linear_weight_bwd(gradient.contiguous(), x, bits, counts),
    )  # fmt: skip
    return g_x, *for_weights, None, None, None


def _gradients_of_linear(needs, gradients, weights, exact, shape, of_weight):
    """Return the gradients of the input and of two weights, None where nobody asks."""
    g_x = None
    both = zip(gradients, weights, strict=True)
    pairs = [(g, w) for g, w in both if g is not None and w is not None]
    if needs[0] and pairs:
        (g, w), (g_im, w_im) = (*pairs, (None, None))[:2]
        g_x = from_frames(linear_input_bwd(g, g_im, w, w_im, exact), shape)
    asked = zip(gradients, needs[1:3], strict=True)
    return g_x, [None if g is None or not wanted else of_weight(g) for g, wanted in asked]


differentiable(linear_fwd, _linear_backward, _save_linear)


class _Linear(torch.autograd.Function):
    """What ``linear_fwd`` is where nobody but autograd listens: keeps events, or eight bits."""

    @staticmethod
    def forward(ctx, product, step, learning, x, *weights):
        has_codes = _has_codes(x, weights, step)
        most = _most_of_rows(x, weights, product, has_codes, learning)
        events = events_of(x, most) if most > 0 else None
        outputs, rows = _linear(x, weights, step, events, has_codes)
        ctx.exact = step > 0
        keep(ctx, x, weights, rows if events is None else events, learning)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *gradients):
        count = len(gradients)
        weights, kept = kept_of(ctx, count)
        x = input_to_derive_again(ctx, kept)
        if isinstance(kept, Tensor) and kept.shape == ctx.shape:
            kept = input_rows(kept)

        def of_weight(g):
            if x is None:
                return _weight_gradient(g.contiguous() if isinstance(kept, Events) else g, kept)
            nothing = g.new_empty(0, dtype=torch.int32)
            return linear_weight_bwd(g, x, nothing, nothing)

        missing = (None,) * (2 - count)
        g_x, for_weights = _gradients_of_linear(
            (*ctx.needs_input_grad[3:], *(False,) * (2 - count)), (*gradients, *missing),
            (*weights, *missing), ctx.exact, ctx.shape, of_weight,
        )  # fmt: skip
        return None, None, None, g_x, *for_weights[:count]


def linear(
    x: Tensor, *weights: Tensor, product: Product = "auto", step: float = 0.0
) -> tuple[Tensor, ...]:
    """Multiply every frame of ``x`` by the transpose of each weight.

    Parameters
    ----------
    x
        ``[N, neurons..., T]``, K neurons; float32, or converted.
    weights
        One or two, each ``[O, K]``, float32.
    product
        ``"events"`` adds the weights of the inputs that are not zero, which CPUs can; ``"dense"``
        is the matrix product; ``"auto"`` takes events where the product is large enough and few
        enough of the inputs are not zero (crossover.py).
    step
        A power of two of which the weights hold -128 to 127, as quantised ones do; 0 if they need
        not. Tensor cores and instructions for eight bits then multiply as exactly as float32.

    Returns
    -------
    tuple of Tensor
        Rows ``[N * T, O]`` of each weight.
    """
    learning = is_learned(*weights)
    if not is_observed((x, *weights)):
        return _Linear.apply(product, step, learning, x, *weights)
    return linear_fwd(x, *two_weights(weights), product, step, learning)[: len(weights)]


@counted(linear_fwd)
def _linear_flops(x: Any, w: Any, w_im: Any, *args: Any, out_shape: Any = None, **_: Any) -> int:
    return 2 * math.prod(x) * w[0] * (1 if w_im is None else 2)


@counted(linear_input_bwd)
def _linear_input_flops(
    g: Any, g_im: Any, w: Any, *args: Any, out_shape: Any = None, **_: Any
) -> int:
    return 2 * math.prod(g) * w[1] * (1 if g_im is None else 2)


@counted(linear_weight_bwd)
def _linear_weight_flops(g: Any, x: Any, *args: Any, out_shape: Any = None, **_: Any) -> int:
    return 2 * math.prod(x) * g[1]
