"""Linear maps of every frame: one product or one convolution a weight, forward and gradients.

On a CPU a product runs over the inputs that are not zero alone where they are few
(kernels/events.py), else over codes with eight bits where weights and inputs are such
(kernels/codes.py).

A map takes several weights at once, as complex synapses have two: the input is read once more, but
each output is contiguous, and the gradient of the input is summed without another buffer. Gradients
that nobody asked for are not computed, and what only they need is not kept.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from lapilli.kernels import codes, event_convolution
from lapilli.kernels.dispatch import runs_loops
from lapilli.kernels.event_convolution import Geometry
from lapilli.kernels.events import TYPES, Events, events_of, gather, scatter
from lapilli.kernels.layout import from_rows, to_rows
from lapilli.kernels.memory import empty
from torch import Tensor

from . import tensor_cores
from .crossover import Dense, limit
from .tensor_cores import gradient_products

Product = Literal["auto", "dense", "events"]
PRODUCTS = ("auto", "dense", "events")
WORTHWHILE = 64  # outputs: a product of fewer is bound by memory, whatever it multiplies
LEAST = 1 << 23  # multiplications: fewer take less time than finding events


def _precision(device: str, kind: str) -> tuple[Any, str, Any, Any]:
    """Return the switch of a product's precision, its name, and its values for float32 and less."""
    backends: Any = torch.backends
    if hasattr(backends.cudnn, "conv"):
        if device == "cpu":
            return getattr(backends.mkldnn, kind), "fp32_precision", "ieee", "ieee"
        switch = backends.cuda.matmul if kind == "matmul" else backends.cudnn.conv
        return switch, "fp32_precision", "ieee", "tf32"
    return backends.cuda.matmul if kind == "matmul" else backends.cudnn, "allow_tf32", False, True


_PRECISION = {(d, k): _precision(d, k) for d in ("cpu", "gpu") for k in ("matmul", "conv")}


@contextlib.contextmanager
def _true_float32(device: torch.device, kind: str, unless: bool = False) -> Iterator[None]:
    """Keep autocast out, and devices from rounding inputs to TF32, which cuDNN does unless told.

    Neither has the bits of graded events and of gradients. ``kind`` of the product is ``matmul`` or
    ``conv``; ``unless`` asks for TF32 on GPUs instead. torch's switches are those of the process:
    they are touched only where they are not as wanted.
    """
    if torch.is_autocast_enabled(device.type):
        with torch.autocast(device.type, enabled=False), _true_float32(device, kind, unless):
            yield
        return
    place = "cpu" if device.type == "cpu" else "gpu"
    switch, name, exact, less = _PRECISION[place, kind]
    before, wanted = getattr(switch, name), less if unless else exact
    if before == wanted or (before == "none" and wanted == "ieee"):  # nobody asked for less
        yield
        return
    setattr(switch, name, wanted)
    try:
        yield
    finally:
        setattr(switch, name, before)


def _product(x: Tensor, w: Tensor, exact: bool) -> Tensor:
    """Multiply matrices; ``exact`` says that those of ``w`` are numbers with eight bits."""
    if exact and tensor_cores.usable(x.device):
        return tensor_cores.multiply(x, w)
    return torch.mm(x, w, out=empty((len(x), w.shape[1]), torch.float32, x))


def _codes(x: Tensor, step: float, *weights: Tensor) -> list[Tensor] | None:
    """Return the codes of ``x`` as rows and of each weight; None where they have none."""
    found = []
    for w in weights:
        found.append(codes.codes_of(w.contiguous(), step))
        if found[-1] is None:
            return None
    rows = codes.rows_of_codes(x)
    return None if rows is None else [rows, *found]


def _most(
    product: Product,
    dense: Dense,
    terms: int,
    x: Tensor,
    weights: tuple[Tensor, ...],
    inputs: int | None = None,
) -> float:
    """Return the highest density at which a map is to run over events."""
    if product != "auto":
        return 1.0 if product == "events" else 0.0
    terms *= len(weights)
    if x.numel() * terms < LEAST or not runs_loops(x):
        return 0.0
    learning = torch.is_grad_enabled() and any(w.requires_grad for w in weights)
    return limit(dense, terms, learning, inputs)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, most, has_codes, step, x, *weights):
        learning = any(ctx.needs_input_grad[4:])
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.exact = x.shape, step > 0
        events = whole = rows = None
        if most > 0 and runs_loops(x) and x.dtype in TYPES:
            events = events_of(x, most)
        if events is not None:
            outputs = tuple(gather(events, w, step) for w in weights)
            ctx.matrix = events.shape
        elif has_codes:
            whole = _codes(x, step, *weights)
        if whole is not None:
            rows, *each = whole
            outputs = tuple(codes.multiply(rows, w.t(), step) for w in each)
        elif events is None:
            rows = to_rows(x)
            rows = rows.view(-1, rows.shape[2])
            with _true_float32(x.device, "matmul"):
                outputs = tuple(_product(rows, w.t(), ctx.exact) for w in weights)
        kept = (rows,) if events is None else (events.columns, events.starts, events.values)
        ctx.save_for_backward(*weights, *(kept if learning else ()))
        return outputs

    @staticmethod
    def backward(ctx, *gradients):
        count = len(gradients)
        weights, kept = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        events = Events(*kept, ctx.matrix) if len(kept) > 1 else None
        g_rows = None
        g_weights: list[Tensor | None] = [None] * count
        mode = gradient_products()
        for k, (g, w) in enumerate(zip(gradients, weights, strict=True)):
            if g is None:
                continue
            with _true_float32(g.device, "matmul", unless=mode == "tf32"):
                if ctx.needs_input_grad[4 + k]:
                    if events is None:
                        g_weights[k] = torch.mm(g.t(), kept[0].to(torch.float32))
                    else:
                        g_weights[k] = scatter(events, g.contiguous())
                if not ctx.needs_input_grad[3]:
                    continue
                exact = ctx.exact and mode == "split3"
                if g_rows is None:
                    g_rows = _product(g, w, exact)
                elif exact and tensor_cores.usable(g.device):
                    g_rows += _product(g, w, exact)
                else:
                    g_rows.addmm_(g, w)
        if g_rows is not None:
            N, T = ctx.shape[0], ctx.shape[-1]
            g_rows = from_rows(g_rows.view(N, T, g_rows.shape[1]), ctx.shape[1:-1])
        return None, None, None, g_rows, *g_weights


def linear(
    x: Tensor, *weights: Tensor, product: Product = "auto", step: float = 0.0
) -> tuple[Tensor, ...]:
    """Multiply every frame of ``x`` by the transpose of each weight.

    Parameters
    ----------
    x
        ``[N, neurons..., T]``, K neurons; float32, or converted.
    weights
        Each ``[O, K]``, float32.
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
    outputs = len(weights[0])
    large = outputs >= WORTHWHILE and x.numel() * outputs >= LEAST
    has_codes = large and step > 0 and x.dtype == torch.float32 and runs_loops(x) and codes.usable()
    dense: Dense = "codes" if has_codes else "float32"
    most = _most(product, dense, outputs, x, weights, weights[0].shape[1])
    return _Linear.apply(most, has_codes, step, x, *weights)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, most, step, x, *weights):
        learning = any(ctx.needs_input_grad[4:])
        ctx.set_materialize_grads(False)
        ctx.options, ctx.shape = options, x.shape
        events = None
        if most > 0 and runs_loops(x) and x.dtype in TYPES:
            events = events_of(x, most)
        if events is None:
            frames = to_rows(x).view(-1, *x.shape[1:-1])
            with _true_float32(x.device, "conv"):
                outputs = tuple(torch.convolution(frames, w, None, *options) for w in weights)
        else:
            ctx.matrix = events.shape
            ctx.geometry = geometry = Geometry(x.shape[1:-1], weights[0].shape, *options[:3])
            outputs = tuple(event_convolution.gather(events, w, geometry, step) for w in weights)
        kept = (frames,) if events is None else (events.columns, events.starts, events.values)
        ctx.save_for_backward(*weights, *(kept if learning else ()))
        return outputs

    @staticmethod
    def backward(ctx, *gradients):
        count = len(gradients)
        weights, kept = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        events = Events(*kept, ctx.matrix) if len(kept) > 1 else None
        N, *frame, T = ctx.shape
        g_frames = None
        g_weights: list[Tensor | None] = [None] * count
        for k, (g, w) in enumerate(zip(gradients, weights, strict=True)):
            if g is None:
                continue
            if events is not None and ctx.needs_input_grad[4 + k]:
                g_weights[k] = event_convolution.scatter(events, g.contiguous(), ctx.geometry)
            dense = len(kept) == 1 and ctx.needs_input_grad[4 + k]
            wanted = [ctx.needs_input_grad[3], dense, False]
            if not any(wanted):
                continue
            # the gradient of the input needs the shape of the input only
            source = kept[0] if dense else g.new_empty(1).expand(N * T, *frame)
            with _true_float32(g.device, "conv", unless=gradient_products() == "tf32"):
                g_input, g_weight, _ = torch.ops.aten.convolution_backward(
                    g, source, w, None, *ctx.options, wanted
                )
            if dense:
                g_weights[k] = g_weight
            if g_frames is None:
                g_frames = g_input
            elif g_input is not None:
                g_frames += g_input
        if g_frames is not None:
            g_frames = from_rows(g_frames.view(N, T, math.prod(frame)), ctx.shape[1:-1])
        return None, None, None, g_frames, *g_weights


def convolve(
    x: Tensor,
    *weights: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    transposed: bool = False,
    product: Product = "auto",
    step: float = 0.0,
) -> tuple[Tensor, ...]:
    """Convolve every frame of ``x`` with each weight, or apply the transpose of that.

    ``x`` is ``[N, C, H, W, T]``, the results are frames ``[N * T, O, H', W']``. Weights are
    ``[O, C / groups, kh, kw]``; transposed, ``[C, O / groups, kh, kw]``. ``product`` and ``step``
    are those of ``linear``; only convolutions without groups can run over events.
    """
    options = (list(stride), list(padding), list(dilation), transposed, [0, 0], groups)
    most = 0.0
    if not transposed and groups == 1:
        terms = weights[0][:, 0].numel() // math.prod(stride)
        most = _most(product, "convolution", terms, x, weights)
        if product == "auto" and weights[0][0].numel() < WORTHWHILE:
            most = 0.0  # of so few terms an output is bound by memory
    return _Convolution.apply(options, most, step, x, *weights)
