"""Linear maps of every frame: one product or one convolution a weight, forward and gradients.

Where few inputs are not zero, the product runs over those alone (kernels/events.py).

A map takes several weights at once, as complex synapses have two: the input is read once more, but
each output is contiguous, and the gradient of the input is summed without another buffer. Gradients
that nobody asked for are not computed, and what only they need is not kept.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from lapilli.kernels import event_convolution
from lapilli.kernels.dispatch import runs_loops
from lapilli.kernels.event_convolution import Geometry
from lapilli.kernels.events import Events, events_of, gather, scatter
from lapilli.kernels.layout import from_rows, to_rows
from lapilli.kernels.memory import empty
from torch import Tensor

from . import tensor_cores
from .tensor_cores import gradient_products

Product = Literal["auto", "dense", "events"]
PRODUCTS = ("auto", "dense", "events")
SPARSE = 0.1  # highest density at which events are quicker than a product, forward and backward
SPARSE_FRAMES = 0.05  # the same of a convolution
# Outputs of a product, or terms of an output of a convolution: with fewer the dense form is bound
# by memory, as events are.
WORTHWHILE = 64
LEAST = 1 << 23  # multiplications: fewer take less time than finding events


@contextlib.contextmanager
def _true_float32(device: torch.device, unless: bool = False) -> Iterator[None]:
    """Keep autocast out, and GPUs from rounding inputs to TF32, which cuDNN does unless told.

    Neither has the bits of graded events and of gradients. ``unless`` asks for TF32 instead.
    """
    backends: Any = torch.backends
    if hasattr(backends.cudnn, "conv"):
        switches, name = (backends.cudnn.conv, backends.cuda.matmul), "fp32_precision"
        value: str | bool = "tf32" if unless else "ieee"
    else:
        switches, name, value = (backends.cudnn, backends.cuda.matmul), "allow_tf32", unless
    before = [getattr(switch, name) for switch in switches]
    for switch in switches:
        setattr(switch, name, value)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, old in zip(switches, before, strict=True):
            setattr(switch, name, old)


def _product(x: Tensor, w: Tensor, exact: bool) -> Tensor:
    """Multiply matrices; ``exact`` says that those of ``w`` are numbers with eight bits."""
    if exact and tensor_cores.usable(x.device):
        return tensor_cores.multiply(x, w)
    return torch.mm(x, w, out=empty((len(x), w.shape[1]), torch.float32, x))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, most, exact, x, *weights):
        learning = any(ctx.needs_input_grad[3:])
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.exact = x.shape, exact
        events = rows = None
        if most > 0 and runs_loops(x) and x.dtype == torch.float32:
            events = events_of(x, most)
        if events is None:
            rows = to_rows(x)
            rows = rows.view(-1, rows.shape[2])
            with _true_float32(x.device):
                outputs = tuple(_product(rows, w.t(), exact) for w in weights)
        else:
            outputs = tuple(gather(events, w) for w in weights)
            ctx.matrix = events.shape
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
            with _true_float32(g.device, unless=mode == "tf32"):
                if ctx.needs_input_grad[3 + k]:
                    if events is None:
                        g_weights[k] = torch.mm(g.t(), kept[0])
                    else:
                        g_weights[k] = scatter(events, g.contiguous())
                if not ctx.needs_input_grad[2]:
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
        return None, None, g_rows, *g_weights


def linear(
    x: Tensor, *weights: Tensor, product: Product = "auto", exact: bool = False
) -> tuple[Tensor, ...]:
    """Multiply every frame of ``x`` by the transpose of each weight.

    Parameters
    ----------
    x
        ``[N, neurons..., T]``, K neurons.
    weights
        Each ``[O, K]``, float32.
    product
        ``"events"`` adds the weights of the inputs that are not zero, which CPUs can; ``"dense"``
        is the matrix product; ``"auto"`` takes events where the product is large enough and at most
        the share ``SPARSE`` of the inputs is not zero.
    exact
        The weights are numbers with eight bits, as quantised ones are: tensor cores then multiply
        as exactly as float32.

    Returns
    -------
    tuple of Tensor
        Rows ``[N * T, O]`` of each weight.
    """
    most = {"dense": 0.0, "events": 1.0, "auto": SPARSE}[product]
    outputs = len(weights[0])
    if product == "auto" and (outputs < WORTHWHILE or x.numel() * outputs < LEAST):
        most = 0.0
    return _Linear.apply(most, exact, x, *weights)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, most, frames, *weights):
        learning = any(ctx.needs_input_grad[3:])
        ctx.set_materialize_grads(False)
        ctx.options, ctx.shape = options, frames.shape
        events = None
        if most > 0 and runs_loops(frames):
            events = events_of(frames.unsqueeze(-1), most)  # each frame a sample of one step
        if events is None:
            with _true_float32(frames.device):
                outputs = tuple(torch.convolution(frames, w, None, *options) for w in weights)
        else:
            ctx.matrix = events.shape
            ctx.geometry = geometry = Geometry(frames.shape[1:], weights[0].shape, *options[:3])
            outputs = tuple(event_convolution.gather(events, w, geometry) for w in weights)
        kept = (frames,) if events is None else (events.columns, events.starts, events.values)
        ctx.save_for_backward(*weights, *(kept if learning else ()))
        return outputs

    @staticmethod
    def backward(ctx, *gradients):
        count = len(gradients)
        weights, kept = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        events = Events(*kept, ctx.matrix) if len(kept) > 1 else None
        g_frames = None
        g_weights: list[Tensor | None] = [None] * count
        for k, (g, w) in enumerate(zip(gradients, weights, strict=True)):
            if g is None:
                continue
            if events is not None and ctx.needs_input_grad[3 + k]:
                g_weights[k] = event_convolution.scatter(events, g.contiguous(), ctx.geometry)
            dense = len(kept) == 1 and ctx.needs_input_grad[3 + k]
            wanted = [ctx.needs_input_grad[2], dense, False]
            if not any(wanted):
                continue
            # the gradient of the input needs the shape of the input only
            source = kept[0] if dense else g.new_empty(1).expand(ctx.shape)
            with _true_float32(g.device, unless=gradient_products() == "tf32"):
                g_input, g_weight, _ = torch.ops.aten.convolution_backward(
                    g, source, w, None, *ctx.options, wanted
                )
            if dense:
                g_weights[k] = g_weight
            if g_frames is None:
                g_frames = g_input
            elif g_input is not None:
                g_frames += g_input
        return None, None, g_frames, *g_weights


def convolve(
    frames: Tensor,
    *weights: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    transposed: bool = False,
    product: Product = "auto",
) -> tuple[Tensor, ...]:
    """Convolve frames ``[M, C, H, W]`` with each weight, or apply the transpose of that.

    Weights are ``[O, C / groups, kh, kw]``; transposed, ``[C, O / groups, kh, kw]``. ``product`` is
    that of ``linear``; only convolutions without groups can run over events.
    """
    options = (list(stride), list(padding), list(dilation), transposed, [0, 0], groups)
    most = {"dense": 0.0, "events": 1.0, "auto": SPARSE_FRAMES}[product]
    terms, each = weights[0][0].numel(), weights[0][:, 0].numel()
    if product == "auto" and (terms < WORTHWHILE or frames.numel() * each < LEAST):
        most = 0.0
    if transposed or groups > 1:
        most = 0.0
    return _Convolution.apply(options, most, frames, *weights)
