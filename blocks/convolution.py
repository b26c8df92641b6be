"""Convolutions of every frame with a weight, and their transposes, forward and gradients.

On a CPU a convolution runs over the inputs that are not zero alone where they are few
(kernels/synapses/event_convolution.py). What maps share is in maps.py.
"""

import math
from typing import Any

import torch
from lapilli.kernels.executors.dispatch import has_no_memory
from lapilli.kernels.executors.operators import define_op, differentiable, is_learned, is_observed
from lapilli.kernels.executors.precision import true_float32
from lapilli.kernels.executors.workers import in_one_order
from lapilli.kernels.synapses import event_convolution, tiled_convolution
from lapilli.kernels.synapses.event_convolution import Geometry
from lapilli.kernels.synapses.events import Events, events_of
from torch import Tensor

from . import tensor_cores
from .maps import (
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

Options = tuple[list[int], list[int], list[int], bool, list[int], int]


def _options(stride, padding, dilation, transposed: bool, groups: int) -> Options:
    """Return the arguments of torch's convolution after the bias."""
    return list(stride), list(padding), list(dilation), transposed, [0, 0], groups


def _most_of_frames(x, weights: Weights, product: str, options: Options, learning: bool) -> float:
    stride, _, _, transposed, _, groups = options
    if transposed or groups != 1:
        return 0.0
    if product == "auto" and weights[0][0].numel() < WORTHWHILE:
        return 0.0  # of so few terms an output is bound by memory
    terms = weights[0][:, 0].numel() // math.prod(stride)
    return density_limit(product, "convolution", terms, x, weights, learning)


def _geometry(shape: torch.Size, w: Tensor, options: Options) -> Geometry:
    return Geometry(shape[1:-1], w.shape, *options[:3])


def _convolution(x: Tensor, weights: Weights, step: float, events: Events | None, options: Options):
    """Return the outputs, and what to keep in place of the input: frames, or None for itself."""
    if events is not None:
        geometry = _geometry(x.shape, weights[0], options)
        return [event_convolution.gather(events, w, geometry, step) for w in weights], None
    frames = input_rows(x).view(-1, *x.shape[1:-1])
    outputs = [_product(frames, w, step > 0, options) for w in weights]
    return outputs, None if is_rows(x) else frames


def _product(frames: Tensor, w: Tensor, exact: bool, options: Options) -> Tensor:
    """Convolve frames; ``exact`` says that the weight has numbers with eight bits."""
    stride, padding, dilation, transposed, _, groups = options
    if exact:
        each = zip(frames.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
        place = [_length(*numbers, transposed) for numbers in each]
        if tensor_cores.convolves(frames, w, place, transposed, groups):
            return tiled_convolution.convolve(
                frames, w, place, stride, padding, dilation, groups, transposed, True
            )
    return _convolved(frames, w, options)


def _length(n: int, k: int, stride: int, padding: int, dilation: int, transposed: bool) -> int:
    """Return the height or width of a result."""
    span = dilation * (k - 1)
    if transposed:
        return (n - 1) * stride - 2 * padding + span + 1
    return (n + 2 * padding - span - 1) // stride + 1


def _input_gradient(g: Tensor, w: Tensor, frame: list[int], exact: bool, options: Options):
    """Return the gradient of frames of shape ``frame``."""
    stride, padding, dilation, transposed, _, groups = options
    exact = exact and gradient_products() == "split3"
    if exact and tensor_cores.convolves(g, w, frame[1:], not transposed, groups):
        return tiled_convolution.convolve(
            g.contiguous(), w, frame[1:], stride, padding, dilation, groups, not transposed, False
        )
    # the gradient of the input needs the shape of the input only
    source = g.new_empty(1).expand(g.shape[0], *frame)
    return _convolve_back(g, source, w, options, (True, False))[0]


def _weight_gradient(g: Tensor, frames: Tensor, w: Tensor, options: Options) -> Tensor:
    stride, padding, dilation, transposed, _, groups = options
    small, large = (frames, g) if transposed else (g, frames)
    if gradient_products() == "split3" and tensor_cores.adds_up(small, large, groups):
        return tiled_convolution.gradient_of_weight(
            g.contiguous(), frames, w.shape[2:], stride, padding, dilation, groups, transposed
        )
    return _convolve_back(g, frames, w, options, (False, True))[1]


def _convolve_back(g, frames, w, options: Options, wanted: tuple[bool, bool]):
    """Return the gradients of the frames and of the weight, None where not wanted."""
    tf32 = gradient_products() == "tf32"
    with true_float32(g.device, "conv", unless=tf32), in_one_order(g.device):
        return torch.ops.aten.convolution_backward(g, frames, w, None, *options, [*wanted, False])[
            :2
        ]


@define_op(samples="x", any_layout="x w w_im")
def convolution_fwd(
    x: Tensor, w: Tensor, w_im: Tensor | None, stride: list[int], padding: list[int],
    dilation: list[int], transposed: bool, groups: int, product: str, step: float, learning: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the frames of each weight, and the events as bits and their number a frame."""
    weights, options = present(w, w_im), _options(stride, padding, dilation, transposed, groups)
    room = room_for_events(x, "dense" if transposed or groups != 1 else product, learning)
    if has_no_memory(x):
        frames = x.new_empty(number_of_frames(x), *x.shape[1:-1], dtype=torch.float32)
        outputs = [torch.convolution(frames, w, None, *options).contiguous() for w in weights]
    else:
        most = _most_of_frames(x, weights, product, options, learning)
        events, room = found_events(x, most, room)
        outputs, _ = _convolution(x, weights, step, events, options)
        outputs = [y.contiguous() for y in outputs]
    return outputs[0], outputs[1] if w_im is not None else NO_OUTPUT, *room


@define_op(samples="g g_im", any_layout="w w_im")
def convolution_input_bwd(
    g: Tensor, g_im: Tensor | None, w: Tensor, w_im: Tensor | None, frame: list[int],
    stride: list[int], padding: list[int], dilation: list[int], transposed: bool, groups: int,
    exact: bool,
) -> Tensor:  # fmt: skip
    """Return the gradient of the input as frames; ``exact`` is that of ``_product``."""
    options = _options(stride, padding, dilation, transposed, groups)
    total = _input_gradient(g, w, frame, exact, options)
    if g_im is not None and w_im is not None:
        total += _input_gradient(g_im, w_im, frame, exact, options)
    return total.contiguous()


@define_op(any_layout="x w")
def convolution_weight_bwd(
    g: Tensor, x: Tensor, bits: Tensor, counts: Tensor, w: Tensor,
    stride: list[int], padding: list[int], dilation: list[int], transposed: bool, groups: int,
) -> Tensor:  # fmt: skip
    """Return the gradient of ``w``, over the events of ``x`` that were kept if any."""
    options = _options(stride, padding, dilation, transposed, groups)
    return _kernel_gradient(g, kept_events(x, bits, counts) or x, w, x.shape, options)


def _kernel_gradient(g, kept: Events | Tensor, w: Tensor, shape: torch.Size, options: Options):
    """Return the gradient of a weight from what was kept: events, frames, or the input."""
    if isinstance(kept, Events):
        return event_convolution.scatter(kept, g.contiguous(), _geometry(shape, w, options))
    frames = (input_rows(kept) if kept.shape == shape else kept).view(-1, *shape[1:-1])
    return _weight_gradient(g, frames, w, options).contiguous()


def _save_convolution(ctx, inputs, output):
    x, w, w_im, *options, _, step, learning = inputs
    ctx.set_materialize_grads(False)
    ctx.options, ctx.shape, ctx.exact = options, x.shape, step > 0
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(x if learning else None, w, w_im, *output[2:])


def _convolution_backward(ctx, g, g_im, *_others):
    x, w, w_im, bits, counts = ctx.saved_tensors
    g_x, for_weights = _gradients_of_convolution(
        ctx.needs_input_grad, (g, g_im), (w, w_im), ctx.exact, ctx.shape, ctx.options,
        lambda gradient, weight: convolution_weight_bwd(
            gradient.contiguous(), x, bits, counts, weight, *ctx.options
        ),
    )  # fmt: skip
    return g_x, *for_weights, *(None,) * 8


def _gradients_of_convolution(needs, gradients, weights, exact, shape, options, of_weight):
    """Return the gradients of the input and of two weights, None where nobody asks."""
    g_x = None
    both = zip(gradients, weights, strict=True)
    pairs = [(g, w) for g, w in both if g is not None and w is not None]
    if needs[0] and pairs:
        (g, w), (g_im, w_im) = (*pairs, (None, None))[:2]
        frames = convolution_input_bwd(g, g_im, w, w_im, list(shape[1:-1]), *options, exact)
        g_x = from_frames(frames, shape)
    asked = zip(gradients, weights, needs[1:3], strict=True)
    return g_x, [None if g is None or not wanted else of_weight(g, w) for g, w, wanted in asked]


def _save_convolution_input_bwd(ctx, inputs, output):
    g, g_im, w, w_im, _, *options, _ = inputs
    ctx.options = _options(*options)
    ctx.save_for_backward(g, g_im, w, w_im)


def _convolution_input_bwd_backward(ctx, gg):
    g, g_im, w, w_im = ctx.saved_tensors
    for_g, for_w = [], []
    for gradient, weight in ((g, w), (g_im, w_im)):
        absent = gradient is None
        for_g.append(None if absent else _convolved(gg, weight, ctx.options))
        for_w.append(
            None if absent else _convolve_back(gradient, gg, weight, ctx.options, (False, True))[1]
        )
    return *for_g, *for_w, *(None,) * 7


def _convolved(frames: Tensor, w: Tensor, options: Options) -> Tensor:
    with true_float32(frames.device, "conv"):
        return torch.convolution(frames, w, None, *options)


def _save_convolution_weight_bwd(ctx, inputs, output):
    g, x, _, _, _, *options = inputs
    ctx.options = _options(*options)
    ctx.save_for_backward(g, x)


def _convolution_weight_bwd_backward(ctx, gg):
    g, x = ctx.saved_tensors
    frames = input_rows(x).view(-1, *x.shape[1:-1])
    g_x, _ = _convolve_back(g, frames, gg, ctx.options, (True, False))
    return _convolved(frames, gg, ctx.options), from_frames(g_x, x.shape), *(None,) * 8


differentiable(convolution_fwd, _convolution_backward, _save_convolution)
differentiable(convolution_input_bwd, _convolution_input_bwd_backward, _save_convolution_input_bwd)
differentiable(
    convolution_weight_bwd, _convolution_weight_bwd_backward, _save_convolution_weight_bwd
)


class _Convolution(torch.autograd.Function):
    """What ``convolution_fwd`` is where nobody but autograd listens: keeps events."""

    @staticmethod
    def forward(ctx, options, product, step, learning, x, *weights):
        most = _most_of_frames(x, weights, product, options, learning)
        events = events_of(x, most) if most > 0 else None
        outputs, frames = _convolution(x, weights, step, events, options)
        ctx.options, ctx.exact = options, step > 0
        keep(ctx, x, weights, frames if events is None else events, learning)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *gradients):
        count = len(gradients)
        weights, kept = kept_of(ctx, count)
        x = input_to_derive_again(ctx, kept)
        stride, padding, dilation, transposed, _, groups = ctx.options
        options = stride, padding, dilation, transposed, groups

        def of_weight(g, w):
            if x is None:
                return _kernel_gradient(g, kept, w, ctx.shape, ctx.options)
            nothing = g.new_empty(0, dtype=torch.int32)
            return convolution_weight_bwd(g, x, nothing, nothing, w, *options)

        missing = (None,) * (2 - count)
        g_x, for_weights = _gradients_of_convolution(
            (*ctx.needs_input_grad[4:], *(False,) * (2 - count)), (*gradients, *missing),
            (*weights, *missing), ctx.exact, ctx.shape, options, of_weight,
        )  # fmt: skip
        return None, None, None, None, g_x, *for_weights[:count]


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

    ``x`` is ``[N, C, H, W, T]``, the results are frames ``[N * T, O, H', W']``. Weights, one or
    two, are ``[O, C / groups, kh, kw]``; transposed, ``[C, O / groups, kh, kw]``. ``product`` and
    ``step`` are those of ``linear``; only convolutions without groups can run over events.
    """
    options = _options(stride, padding, dilation, transposed, groups)
    learning = is_learned(*weights)
    if not is_observed((x, *weights)):
        return _Convolution.apply(options, product, step, learning, x, *weights)
    return convolution_fwd(x, *two_weights(weights), *options[:4], groups, product, step, learning)[
        : len(weights)
    ]


def _places(frames: int, output: Any, input: Any, w: Any, transposed: bool) -> int:
    """Terms of a convolution: the entries of the kernel at each place of the smaller map."""
    return 2 * frames * math.prod(input if transposed else output) * math.prod(w)


@counted(convolution_fwd)
def _convolution_flops(
    x: Any, w: Any, w_im: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    *args: Any, out_shape: Any = None, **_: Any,
) -> int:  # fmt: skip
    output, weights = out_shape[0], 1 if w_im is None else 2
    return weights * _places(output[0], output[2:], x[2:-1], w, transposed)


@counted(convolution_input_bwd)
def _convolution_input_flops(
    g: Any, g_im: Any, w: Any, w_im: Any, frame: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, *args: Any, out_shape: Any = None, **_: Any,
) -> int:  # fmt: skip
    return (1 if g_im is None else 2) * _places(g[0], g[2:], frame[1:], w, transposed)


@counted(convolution_weight_bwd)
def _convolution_weight_flops(
    g: Any, x: Any, bits: Any, counts: Any, w: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, *args: Any, out_shape: Any = None, **_: Any,
) -> int:  # fmt: skip
    return _places(g[0], g[2:], x[2:-1], w, transposed)
