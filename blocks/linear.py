"""Linear maps over rows: one GEMM or one convolution a weight, forward and gradients.

A map takes several weights at once, as complex synapses have two: the input is read once more, but
each output is contiguous, and the gradient of the input is summed without another buffer. Gradients
that nobody asked for are not computed, and what only they need is not kept.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from lapilli.kernels.memory import empty
from torch import Tensor


@contextlib.contextmanager
def _true_float32(device: torch.device) -> Iterator[None]:
    """Keep autocast out, and cuDNN from rounding inputs to TF32, which it does unless told.

    Neither has the bits of graded events and of gradients.
    """
    cudnn: Any = torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        switch, name, exact = cudnn.conv, "fp32_precision", "ieee"
    else:
        switch, name, exact = cudnn, "allow_tf32", False
    before = getattr(switch, name)
    setattr(switch, name, exact)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        setattr(switch, name, before)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, *weights):
        learning = any(ctx.needs_input_grad[1:])
        ctx.save_for_backward(rows if learning else None, *weights)
        ctx.set_materialize_grads(False)
        with _true_float32(rows.device):
            return tuple(
                torch.mm(rows, w.t(), out=empty((len(rows), len(w)), rows.dtype, rows))
                for w in weights
            )

    @staticmethod
    def backward(ctx, *gradients):
        rows, *weights = ctx.saved_tensors
        g_rows = None
        g_weights: list[Tensor | None] = [None] * len(weights)
        for k, (g, w) in enumerate(zip(gradients, weights, strict=True)):
            if g is None:
                continue
            with _true_float32(g.device):
                if ctx.needs_input_grad[1 + k]:
                    g_weights[k] = torch.mm(g.t(), rows)
                if not ctx.needs_input_grad[0]:
                    continue
                if g_rows is None:
                    g_rows = torch.mm(g, w, out=empty((len(g), w.shape[1]), g.dtype, g))
                else:
                    g_rows.addmm_(g, w)
        return g_rows, *g_weights


def linear(rows: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Multiply rows ``[M, K]`` by the transpose of each weight ``[O, K]``; each ``[M, O]``."""
    return _Linear.apply(rows, *weights)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, frames, *weights):
        learning = any(ctx.needs_input_grad[2:])
        ctx.save_for_backward(frames if learning else None, *weights)
        ctx.set_materialize_grads(False)
        ctx.options, ctx.shape = options, frames.shape
        with _true_float32(frames.device):
            return tuple(torch.convolution(frames, w, None, *options) for w in weights)

    @staticmethod
    def backward(ctx, *gradients):
        frames, *weights = ctx.saved_tensors
        g_frames = None
        g_weights: list[Tensor | None] = [None] * len(weights)
        for k, (g, w) in enumerate(zip(gradients, weights, strict=True)):
            wanted = [ctx.needs_input_grad[1], ctx.needs_input_grad[2 + k], False]
            if g is None or not any(wanted):
                continue
            # the gradient of the input needs the shape of the input only
            source = g.new_empty(1).expand(ctx.shape) if frames is None else frames
            with _true_float32(g.device):
                g_input, g_weights[k], _ = torch.ops.aten.convolution_backward(
                    g, source, w, None, *ctx.options, wanted
                )
            if g_frames is None:
                g_frames = g_input
            elif g_input is not None:
                g_frames += g_input
        return None, g_frames, *g_weights


def convolve(
    frames: Tensor,
    *weights: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    transposed: bool = False,
) -> tuple[Tensor, ...]:
    """Convolve frames ``[M, C, H, W]`` with each weight, or apply the transpose of that.

    Weights are ``[O, C / groups, kh, kw]``; transposed, ``[C, O / groups, kh, kw]``.
    """
    options = (list(stride), list(padding), list(dilation), transposed, [0, 0], groups)
    return _Convolution.apply(options, frames, *weights)
