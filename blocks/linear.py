"""Linear maps of every frame: one product or one convolution a weight, forward and gradients.

On a CPU a product runs over the inputs that are not zero alone where they are few
(kernels/events.py), else over codes with eight bits where weights and inputs are such
(kernels/codes.py).

A map takes several weights at once, as complex synapses have two: the input is read once more, but
each output is contiguous, and the gradient of the input is summed without another buffer. Gradients
that nobody asked for are not computed, and what only they need is not kept.

Each map stands here twice. The operators ``linear_fwd`` and ``convolution_fwd`` are what compilers,
transforms and modes of torch see: what they keep has the same shape whatever the input holds. The
functions ``_Linear`` and ``_Convolution`` do the same where nobody listens, and keep less. Maps are
linear, so their second derivatives are right.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from lapilli.kernels import codes, event_convolution
from lapilli.kernels.dispatch import (
    define_op,
    differentiable,
    has_no_memory,
    is_learned,
    is_observed,
    runs_loops,
)
from lapilli.kernels.event_convolution import Geometry
from lapilli.kernels.events import (
    TYPES,
    Events,
    Found,
    events_of,
    filled,
    find,
    gather,
    listed,
    scatter,
)
from lapilli.kernels.layout import from_rows, to_rows
from lapilli.kernels.memory import empty
from lapilli.kernels.workers import in_one_order
from torch import Tensor

from . import tensor_cores
from .crossover import Dense, limit
from .tensor_cores import gradient_products

Weights = tuple[Tensor, ...]
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
    if device.type == "meta":
        yield
        return
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


def _codes(x: Tensor, step: float, weights: Weights) -> list[Tensor] | None:
    """Return the codes of ``x`` as rows and of each weight; None where they have none."""
    found = []
    for w in weights:
        found.append(codes.codes_of(w.contiguous(), step))
        if found[-1] is None:
            return None
    rows = codes.rows_of_codes(x)
    return None if rows is None else [rows, *found]


def _most(
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


def _learns(weights: Weights) -> bool:
    return torch.is_grad_enabled() and any(w.requires_grad for w in weights)


def _pair(weights: Weights) -> tuple[Tensor, Tensor | None]:
    if len(weights) > 2:
        raise ValueError(f"a map takes one weight or two; got {len(weights)}")
    return weights[0], weights[1] if len(weights) > 1 else None


def _present(*tensors: Tensor | None) -> Weights:
    return tuple([t for t in tensors if t is not None])


# What a map keeps of its input for the gradients of its weights: the input, or what it found in it


def _frames(x: Tensor) -> int:
    return x.shape[0] * x.shape[-1]


def _neurons(x: Tensor) -> int:
    return math.prod(x.shape[1:-1])


def _rows(x: Tensor) -> Tensor:
    """Return ``[N, neurons..., T]`` as rows ``[N * T, neurons]``, float32."""
    return to_rows(x).view(-1, _neurons(x))


def _is_rows(x: Tensor) -> bool:
    """Whether ``x`` is a view of such rows."""
    return x.dtype == torch.float32 and x.movedim(-1, 1).is_contiguous()


def _room_for_events(x: Tensor, product: str, learning: bool) -> tuple[Tensor, Tensor]:
    """Return where a traced graph keeps what ``find`` finds; empty where nothing ever is."""
    if not learning or product == "dense" or x.device.type != "cpu" or x.dtype not in TYPES:
        return x.new_empty(0, dtype=torch.int32), x.new_empty(0, dtype=torch.int32)
    M, words = _frames(x), -(-_neurons(x) // 32)
    return x.new_empty(M, words, dtype=torch.int32), x.new_empty(M, dtype=torch.int32)


_NOTHING, _GRADED = -1, -2  # in place of a frame's number of events; graded ones count down


def _found(x: Tensor, most: float, room: tuple[Tensor, Tensor]) -> Events | None:
    """List the events of ``x`` and keep them as bits, which are as many whatever ``x`` holds."""
    found = find(x, most) if most > 0 else None
    bits, counts = room
    if found is None:
        counts.fill_(_NOTHING)
        return None
    if counts.numel():
        bits.copy_(found.bits)
        counts.copy_(_GRADED - found.counts if found.graded else found.counts)
    return listed(x, found)


def _again(x: Tensor, bits: Tensor, counts: Tensor) -> Events | None:
    """List what ``_found`` kept; None where it kept nothing."""
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


def _keep(ctx, x: Tensor, weights: Weights, kept: Events | Tensor | None, learning: bool) -> None:
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


def _kept(ctx, count: int) -> tuple[Weights, Events | Tensor | None]:
    """Return the weights, and what ``_keep`` kept: events, rows, an input, or None."""
    saved = ctx.saved_tensors  # read once: activation checkpointing allows no more
    weights, parts = saved[:count], saved[count:]
    if len(parts) > 1:
        return weights, Events(*parts, ctx.matrix)
    return weights, parts[0] if parts else None


def _input(ctx, kept: Events | Tensor) -> Tensor:
    """Return the input of a map for second derivatives, from what was kept of it."""
    if isinstance(kept, Tensor) and kept.shape == ctx.shape:
        return kept
    rows = filled(kept) if isinstance(kept, Events) else kept.to(torch.float32)
    rows = rows.view(ctx.shape[0], ctx.shape[-1], -1)
    values = from_rows(rows, ctx.shape[1:-1])
    return values if ctx.edge is None else _Filled.apply(ctx.edge, values)


# Products of rows


def _linear(x: Tensor, weights: Weights, step: float, events: Events | None, has_codes: bool):
    """Return the outputs, and what to keep in place of the input: rows, or None for itself."""
    if events is not None:
        return [gather(events, w, step) for w in weights], None
    whole = _codes(x, step, weights) if has_codes else None
    if whole is not None:
        rows, *each = whole
        return [codes.multiply(rows, w.t(), step) for w in each], rows
    rows = _rows(x)
    with _true_float32(x.device, "matmul"):
        outputs = [_product(rows, w.t(), step > 0) for w in weights]
    return outputs, None if _is_rows(x) else rows


def _has_codes(x: Tensor, weights: Weights, step: float) -> bool:
    outputs = len(weights[0])
    large = outputs >= WORTHWHILE and x.numel() * outputs >= LEAST
    return large and step > 0 and x.dtype == torch.float32 and runs_loops(x) and codes.usable()


def _most_of_rows(x, weights: Weights, product: str, has_codes: bool, learning: bool) -> float:
    dense: Dense = "codes" if has_codes else "float32"
    return _most(product, dense, len(weights[0]), x, weights, learning, weights[0].shape[1])


@define_op(samples="x", any_layout="x w w_im")
def linear_fwd(
    x: Tensor, w: Tensor, w_im: Tensor | None, product: str, step: float, learning: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the rows of each weight, and the events as bits and their number a frame."""
    weights = _present(w, w_im)
    room = _room_for_events(x, product, learning)
    if has_no_memory(x):
        outputs = [x.new_empty(_frames(x), o.shape[0], dtype=torch.float32) for o in weights]
    else:
        has_codes = _has_codes(x, weights, step)
        events = _found(x, _most_of_rows(x, weights, product, has_codes, learning), room)
        outputs, _ = _linear(x, weights, step, events, has_codes)
    return outputs[0], outputs[1] if w_im is not None else None, *room


@define_op(samples="g g_im", any_layout="w w_im")
def linear_input_bwd(
    g: Tensor, g_im: Tensor | None, w: Tensor, w_im: Tensor | None, exact: bool
) -> Tensor:
    """Return the gradient of the input as rows."""
    mode = gradient_products()
    exact = exact and mode == "split3"
    with _true_float32(g.device, "matmul", unless=mode == "tf32"):
        total = _product(g, w, exact)
        if g_im is None:
            return total
        if exact and tensor_cores.usable(g.device):
            return total.add_(_product(g_im, w_im, exact))
        return total.addmm_(g_im, w_im)


@define_op(any_layout="x")
def linear_weight_bwd(g: Tensor, x: Tensor, bits: Tensor, counts: Tensor) -> Tensor:
    """Return the gradient of a weight, over the events of ``x`` that were kept if any."""
    return _weight_gradient(g, _again(x, bits, counts) or _rows(x))


def _weight_gradient(g: Tensor, kept: Events | Tensor) -> Tensor:
    if isinstance(kept, Events):
        return scatter(kept, g)
    rows, tf32 = kept.to(torch.float32), gradient_products() == "tf32"
    with _true_float32(g.device, "matmul", unless=tf32), in_one_order(g.device):
        return torch.mm(g.t(), rows)


def _mm(a: Tensor, b: Tensor) -> Tensor:
    """Multiply in float32, for derivatives of derivatives."""
    with _true_float32(a.device, "matmul"):
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
    g_x = _from_frames(_mm(g, gg), x.shape)
    return _mm(_rows(x), gg.t()), g_x, None, None


def _from_frames(frames: Tensor, shape: torch.Size) -> Tensor:
    """Show frames ``[N * T, ...]`` as ``[N, neurons..., T]``."""
    return from_rows(frames.view(shape[0], shape[-1], math.prod(shape[1:-1])), shape[1:-1])


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
        g_x = _from_frames(linear_input_bwd(g, g_im, w, w_im, exact), shape)
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
        _keep(ctx, x, weights, rows if events is None else events, learning)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *gradients):
        count = len(gradients)
        weights, kept = _kept(ctx, count)
        twice = torch.is_grad_enabled() and kept is not None
        x = _input(ctx, kept) if twice else None
        if isinstance(kept, Tensor) and kept.shape == ctx.shape:
            kept = _rows(kept)

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
    return linear_fwd(x, *_pair(weights), product, step, learning)[: len(weights)]


# Convolutions of frames


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
    return _most(product, "convolution", terms, x, weights, learning)


def _geometry(shape: torch.Size, w: Tensor, options: Options) -> Geometry:
    return Geometry(shape[1:-1], w.shape, *options[:3])


def _convolution(x: Tensor, weights: Weights, step: float, events: Events | None, options: Options):
    """Return the outputs, and what to keep in place of the input: frames, or None for itself."""
    if events is not None:
        geometry = _geometry(x.shape, weights[0], options)
        return [event_convolution.gather(events, w, geometry, step) for w in weights], None
    frames = _rows(x).view(-1, *x.shape[1:-1])
    with _true_float32(x.device, "conv"):
        outputs = [torch.convolution(frames, w, None, *options) for w in weights]
    return outputs, None if _is_rows(x) else frames


def _convolve_back(g, frames, w, options: Options, wanted: tuple[bool, bool]):
    """Return the gradients of the frames and of the weight, None where not wanted."""
    tf32 = gradient_products() == "tf32"
    with _true_float32(g.device, "conv", unless=tf32), in_one_order(g.device):
        return torch.ops.aten.convolution_backward(g, frames, w, None, *options, [*wanted, False])[
            :2
        ]


@define_op(samples="x", any_layout="x w w_im")
def convolution_fwd(
    x: Tensor, w: Tensor, w_im: Tensor | None, stride: list[int], padding: list[int],
    dilation: list[int], transposed: bool, groups: int, product: str, step: float, learning: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the frames of each weight, and the events as bits and their number a frame."""
    weights, options = _present(w, w_im), _options(stride, padding, dilation, transposed, groups)
    room = _room_for_events(x, "dense" if transposed or groups != 1 else product, learning)
    if has_no_memory(x):
        frames = x.new_empty(_frames(x), *x.shape[1:-1], dtype=torch.float32)
        outputs = [torch.convolution(frames, w, None, *options).contiguous() for w in weights]
    else:
        events = _found(x, _most_of_frames(x, weights, product, options, learning), room)
        outputs, _ = _convolution(x, weights, step, events, options)
        outputs = [y.contiguous() for y in outputs]
    return outputs[0], outputs[1] if w_im is not None else None, *room


@define_op(samples="g g_im", any_layout="w w_im")
def convolution_input_bwd(
    g: Tensor, g_im: Tensor | None, w: Tensor, w_im: Tensor | None, frame: list[int],
    stride: list[int], padding: list[int], dilation: list[int], transposed: bool, groups: int,
) -> Tensor:  # fmt: skip
    """Return the gradient of the input as frames."""
    options = _options(stride, padding, dilation, transposed, groups)
    # the gradient of the input needs the shape of the input only
    source = g.new_empty(1).expand(g.shape[0], *frame)
    total, _ = _convolve_back(g, source, w, options, (True, False))
    if g_im is not None:
        total += _convolve_back(g_im, source, w_im, options, (True, False))[0]
    return total.contiguous()


@define_op(any_layout="x w")
def convolution_weight_bwd(
    g: Tensor, x: Tensor, bits: Tensor, counts: Tensor, w: Tensor,
    stride: list[int], padding: list[int], dilation: list[int], transposed: bool, groups: int,
) -> Tensor:  # fmt: skip
    """Return the gradient of ``w``, over the events of ``x`` that were kept if any."""
    options = _options(stride, padding, dilation, transposed, groups)
    return _kernel_gradient(g, _again(x, bits, counts) or x, w, x.shape, options)


def _kernel_gradient(g, kept: Events | Tensor, w: Tensor, shape: torch.Size, options: Options):
    """Return the gradient of a weight from what was kept: events, frames, or the input."""
    if isinstance(kept, Events):
        return event_convolution.scatter(kept, g.contiguous(), _geometry(shape, w, options))
    frames = (_rows(kept) if kept.shape == shape else kept).view(-1, *shape[1:-1])
    return _convolve_back(g, frames, w, options, (False, True))[1]


def _save_convolution(ctx, inputs, output):
    x, w, w_im, *options, _, _, learning = inputs
    ctx.set_materialize_grads(False)
    ctx.options, ctx.shape = options, x.shape
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(x if learning else None, w, w_im, *output[2:])


def _convolution_backward(ctx, g, g_im, *_others):
    x, w, w_im, bits, counts = ctx.saved_tensors
    g_x, for_weights = _gradients_of_convolution(
        ctx.needs_input_grad, (g, g_im), (w, w_im), ctx.shape, ctx.options,
        lambda gradient, weight: convolution_weight_bwd(
            gradient.contiguous(), x, bits, counts, weight, *ctx.options
        ),
    )  # fmt: skip
    return g_x, *for_weights, *(None,) * 8


def _gradients_of_convolution(needs, gradients, weights, shape, options, of_weight):
    """Return the gradients of the input and of two weights, None where nobody asks."""
    g_x = None
    both = zip(gradients, weights, strict=True)
    pairs = [(g, w) for g, w in both if g is not None and w is not None]
    if needs[0] and pairs:
        (g, w), (g_im, w_im) = (*pairs, (None, None))[:2]
        frames = convolution_input_bwd(g, g_im, w, w_im, list(shape[1:-1]), *options)
        g_x = _from_frames(frames, shape)
    asked = zip(gradients, weights, needs[1:3], strict=True)
    return g_x, [None if g is None or not wanted else of_weight(g, w) for g, w, wanted in asked]


def _save_convolution_input_bwd(ctx, inputs, output):
    g, g_im, w, w_im, _, *options = inputs
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
    return *for_g, *for_w, *(None,) * 6


def _convolved(frames: Tensor, w: Tensor, options: Options) -> Tensor:
    with _true_float32(frames.device, "conv"):
        return torch.convolution(frames, w, None, *options)


def _save_convolution_weight_bwd(ctx, inputs, output):
    g, x, _, _, _, *options = inputs
    ctx.options = _options(*options)
    ctx.save_for_backward(g, x)


def _convolution_weight_bwd_backward(ctx, gg):
    g, x = ctx.saved_tensors
    frames = _rows(x).view(-1, *x.shape[1:-1])
    g_x, _ = _convolve_back(g, frames, gg, ctx.options, (True, False))
    return _convolved(frames, gg, ctx.options), _from_frames(g_x, x.shape), *(None,) * 8


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
        ctx.options = options
        _keep(ctx, x, weights, frames if events is None else events, learning)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *gradients):
        count = len(gradients)
        weights, kept = _kept(ctx, count)
        twice = torch.is_grad_enabled() and kept is not None
        x = _input(ctx, kept) if twice else None
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
            (*weights, *missing), ctx.shape, options, of_weight,
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
    return convolution_fwd(x, *_pair(weights), *options[:4], groups, product, step, learning)[
        : len(weights)
    ]
