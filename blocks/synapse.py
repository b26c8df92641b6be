"""Synapses: the weights between layers, as linear maps of every time step.

Weights keep lava-dl's five dimensions (the last is time, of size 1), so that checkpoints can be
exchanged. Inputs and outputs are ``[N, C, H, W, T]`` or, for ``Dense``, ``[N, C, T]``; outputs are
views of time-major rows (kernels/layout.py), which the next layer reads without a copy.

Source: lava-dl synapse/layer.py.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.dispatch import define_op, differentiable
from lapilli.kernels.fixed_point import is_power_of_two
from lapilli.kernels.layout import check_input, to_rows
from lapilli.neurons.precision import KeepsFloat32
from torch import Tensor

from .documentation import documented
from .linear import PRODUCTS, Product, convolve, linear

Pair = int | tuple[int, int]
Hook = Callable[..., Tensor]

_RAISES = "For arguments out of range or of a wrong length."
_HOOK = "Function applied to the weight before use, e.g. a neuron's ``quantize_8bit``; or None."
_POOLED = {
    "stride": "Integer, or a pair (height, width); None for ``kernel_size``.",
    "weight_scale": "Every entry of the weight.",
    "weight_norm": "Store direction and length of the weight apart; it stays constant.",
}


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Check an integer argument; NumPy's integers count."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}")
    return number


def _pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Check an argument that is an integer or a pair (height, width)."""
    values = (value, value) if not isinstance(value, (tuple, list)) else tuple(value)
    if len(values) != 2:
        raise ValueError(
            f"{name} must be an integer or a pair (height, width); got {value!r} of length "
            f"{len(values)}"
        )
    return whole_number(name, values[0], least), whole_number(name, values[1], least)


class GenericLayer(KeepsFloat32, torch.nn.Module):
    """Base of the real synapses: the weight, its normalisation and its quantisation.

    Attributes
    ----------
    weight : Parameter or Tensor
        In five dimensions. Under weight norm it is computed from the parameters ``weight_g`` and
        ``weight_v`` whenever it is read.
    in_channels, out_channels, groups : int
    kernel_size, stride, padding, dilation : tuple
        (height, width, time); the time entry is 1, of padding 0.
    weight_norm_enabled : bool
    product : {"auto", "dense", "events"}
        How the synapse multiplies on a CPU, see ``lapilli.blocks.linear.linear``.
    """

    weight: Tensor
    weight_g: torch.nn.Parameter
    weight_v: torch.nn.Parameter
    complex = False
    learned = True  # whether training changes the weight
    _product: Product = "auto"

    def __init__(
        self,
        weight_shape: tuple[int, int, int, int],
        channels: tuple[int, int],
        kernel_size: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = None,
    ):
        super().__init__()
        self.in_channels, self.out_channels = channels
        self.kernel_size = (*kernel_size, 1)
        self.stride = (*stride, 1)
        self.padding = (*padding, 0)
        self.dilation = (*dilation, 1)
        self.groups = groups
        self._pre_hook_fx = pre_hook_fx
        weight = torch.empty(*weight_shape, 1)
        torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        self._register_weights(weight=self._initial(weight, weight_scale))
        if weight_norm:
            self.enable_weight_norm()

    def _initial(self, drawn: Tensor, weight_scale: float) -> Tensor:
        """Return the weight to start from."""
        return drawn * weight_scale

    def _register_weights(self, **weights: Tensor) -> None:
        for name in ("weight", "weight_g", "weight_v"):
            self._parameters.pop(name, None)
        for name, weight in weights.items():
            self.register_parameter(
                name, torch.nn.Parameter(weight.detach(), requires_grad=self.learned)
            )

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and "weight_v" in self._parameters:
            return normalized_weight(self.weight_v, self.weight_g)
        return super().__getattr__(name)

    @property
    def weight_norm_enabled(self) -> bool:
        """Whether the weight is stored as length ``weight_g`` and direction ``weight_v``."""
        return "weight_v" in self._parameters

    def enable_weight_norm(self) -> None:
        """Store the weight as a direction and a length for each entry of axis 0."""
        if not self.weight_norm_enabled:
            weight = self.weight.detach()
            self._register_weights(weight_g=_row_norms(weight), weight_v=weight)

    def disable_weight_norm(self) -> None:
        """Store the weight as it is; its value does not change."""
        if self.weight_norm_enabled:
            self._register_weights(weight=self.weight)

    @property
    def pre_hook_fx(self) -> Hook | None:
        """Function applied to the weight before use; None for none."""
        return self._pre_hook_fx

    @pre_hook_fx.setter
    def pre_hook_fx(self, function: Hook | None) -> None:
        self._pre_hook_fx = function

    @property
    def _step(self) -> float:
        """Power of two of which the hook makes -128 to 127; 0 where it does not."""
        scale = getattr(getattr(self._pre_hook_fx, "__self__", None), "w_scale", 0)
        name = getattr(self._pre_hook_fx, "__name__", "")
        return (
            2 / scale if name == "quantize_8bit" and scale > 0 and is_power_of_two(scale) else 0.0
        )

    @property
    def product(self) -> Product:
        """How the synapse multiplies: ``"auto"``, ``"dense"`` or ``"events"``."""
        return self._product

    @product.setter
    def product(self, product: Product) -> None:
        if product not in PRODUCTS:
            raise ValueError(
                f"product must be one of {', '.join(map(repr, PRODUCTS))}; got {product!r}"
            )
        self._product = product

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return (self.weight_v if self.weight_norm_enabled else self.weight).shape

    @property
    def grad_norm(self) -> float:
        """Euclidean norm of the weight's gradient over its number of entries; 0 without one."""
        gradient = (self.weight_g if self.weight_norm_enabled else self.weight).grad
        return 0.0 if gradient is None else torch.norm(gradient).item() / gradient.numel()

    def raw_weight(self, mask: Tensor | None = None) -> Tensor:
        """Return the weight before the hook, as ``forward`` uses it under a mask.

        Masked entries are zero and get no gradient. Nothing stored is changed.
        """
        if mask is None:
            return self.weight
        if not self.weight_norm_enabled:
            return self.weight * mask.to(self.weight.dtype)
        return normalized_weight(self.weight_v * mask.to(self.weight_v.dtype), self.weight_g)

    def effective_weight(self, mask: Tensor | None = None) -> Tensor:
        """Return the weight that ``forward`` uses, ``shape``."""
        weight = self.raw_weight(mask)
        return weight if self._pre_hook_fx is None else self._pre_hook_fx(weight)

    def apply_mask(self, mask: Tensor) -> None:
        """Set the masked entries of what is stored to zero."""
        stored = self.weight_v if self.weight_norm_enabled else self.weight
        stored.data.mul_(mask)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``input``; a ``mask`` of 0 and 1, broadcast to the weight, cuts synapses."""
        return self.map(input, self.effective_weight(mask))[0]

    def map(self, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Apply the linear map with each of the given weights, all of ``shape``."""
        raise NotImplementedError

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        return f"weight={tuple(self.shape)}, weight_norm={self.weight_norm_enabled}"

    def _check_frames(self, x: Tensor) -> None:
        """Raise unless ``x`` is ``[N, C, H, W, T]``."""
        name = type(self).__name__
        check_input(x, name)
        if x.ndim != 5:
            raise ValueError(
                f"{name} input must be [batch, channels, height, width, time]; got shape "
                f"{tuple(x.shape)}"
            )

    def _convolve(self, x: Tensor, *weights: Tensor, **options: Any) -> Any:
        """Convolve the frames of ``x`` and show the outputs as ``[N, C, H, W, T]``."""
        options = {"dilation": self.dilation[:2], "groups": self.groups, **options}
        outputs = convolve(
            x,
            *(w.squeeze(-1) for w in weights),
            stride=self.stride[:2],
            padding=self.padding[:2],
            product=self.product,
            step=self._step,
            **options,
        )
        return tuple(_as_time_last(y, x.shape[0], x.shape[-1]) for y in outputs)

    def _check_channels(self, x: Tensor) -> None:
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} expects {self.in_channels} channels; got {x.shape[1]} "
                f"(input shape {tuple(x.shape)})"
            )

    def _check_kernel_fits(self, x: Tensor, padded: tuple[int, ...]) -> None:
        """Raise if the kernel is larger than an image of the padded size."""
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation[:2], self.kernel_size, strict=False)]
        if any(size < span for size, span in zip(padded, spans, strict=True)):
            raise ValueError(
                f"{type(self).__name__} kernel spans {tuple(spans)} (height, width) but the padded "
                f"input is {padded}; input shape {tuple(x.shape)}. Use a smaller kernel_size or "
                f"dilation, or more padding."
            )


def _row_norms(weight: Tensor) -> Tensor:
    """Euclidean norm over all axes but the first, which keep size 1."""
    return torch.linalg.vector_norm(weight, dim=(1, 2, 3, 4), keepdim=True)


def _divisors(direction: Tensor) -> Tensor:
    """Norms of the rows; where a row is masked out altogether, what leaves it zero."""
    return _row_norms(direction).clamp_min(torch.finfo(direction.dtype).tiny)


@define_op
def normalized_weight(direction: Tensor, length: Tensor) -> Tensor:
    """Return direction times length, of each entry of axis 0."""
    return direction * (length / _divisors(direction))


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled():  # for second derivatives
        return _derivatives(g, *ctx.saved_tensors)
    return normalized_weight_bwd(g, *ctx.saved_tensors)


@define_op
def normalized_weight_bwd(g: Tensor, direction: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of direction and length."""
    return _derivatives(g, direction, length)


def _derivatives(g: Tensor, direction: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    # twice as quick as torch's chain of derivatives
    norms = _divisors(direction)
    factor = length / norms
    along = torch.linalg.vecdot(g.flatten(1), direction.flatten(1)).view(norms.shape) / norms
    turn = torch.where(along == 0, 0, -factor * along / norms)
    return torch.addcmul(g * factor, direction, turn), along


differentiable(normalized_weight, _backward, _save)


def _as_time_last(rows: Tensor, batch: int, time: int) -> Tensor:
    """Show rows ``[N * T, neurons...]`` as ``[N, neurons..., T]``; never copies."""
    return rows.view(batch, time, *rows.shape[1:]).movedim(1, -1)


@documented(
    "For sizes that are not positive integers, or a tuple of another length.", pre_hook_fx=_HOOK
)
class Dense(GenericLayer):
    """Fully connected synapse: every output sums every input.

    ``[N, in, T]`` to ``[N, out, T]``; ``[N, in, H, W, T]`` to ``[N, out, H, W, T]``, each place by
    itself; with a tuple of ``in_neurons``, ``[N, C, H, W, T]`` to ``[N, out, 1, 1, T]``.
    """

    def __init__(
        self,
        in_neurons: int | tuple[int, int] | tuple[int, int, int],
        out_neurons: int,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = None,
    ):
        takes_image = isinstance(in_neurons, (tuple, list))
        if takes_image:
            if len(in_neurons) not in (2, 3):
                raise ValueError(
                    f"in_neurons must be an integer, (width, height) or (width, height, channels); "
                    f"got {in_neurons!r} of length {len(in_neurons)}"
                )
            width, height, channels = (whole_number("in_neurons", n) for n in (*in_neurons, 1)[:3])
        else:
            width, height, channels = 1, 1, whole_number("in_neurons", in_neurons)
        out_neurons = whole_number("out_neurons", out_neurons)
        super().__init__(
            (out_neurons, channels, height, width),
            (channels, out_neurons),
            (height, width),
            weight_scale=weight_scale,
            weight_norm=weight_norm,
            pre_hook_fx=pre_hook_fx,
        )
        self._takes_image = takes_image

    def map(self, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Apply the linear map with each of the given weights, all of ``shape``."""
        check_input(input, "Dense")
        self._check_shape(input)
        places = math.prod(input.shape[2:-1])
        if not self._takes_image and places != 1:
            self._check_frames(input)
            return self._convolve(input, *weights)
        flat = (w.flatten(1) for w in weights)
        outputs = linear(input, *flat, product=self.product, step=self._step)
        ones = (1,) * (input.ndim - 3)
        return tuple(
            _as_time_last(y.view(*y.shape, *ones), input.shape[0], input.shape[-1]) for y in outputs
        )

    def _check_shape(self, x: Tensor) -> None:
        if self._takes_image:
            image = (self.in_channels, *self.kernel_size[:2])
            if x.ndim != 5 or tuple(x.shape[1:-1]) != image:
                raise ValueError(
                    f"Dense of an image expects [batch, {', '.join(map(str, image))}, time]; got "
                    f"shape {tuple(x.shape)}"
                )
        elif x.ndim not in (3, 5):
            raise ValueError(
                f"Dense input must be [batch, channels, time] or [batch, channels, height, width, "
                f"time]; got shape {tuple(x.shape)}"
            )
        self._check_channels(x)


class _Convolving(GenericLayer):
    """What convolution and transposed convolution share: their arguments."""

    transposed = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = None,
    ):
        channels = (
            whole_number("in_features", in_features),
            whole_number("out_features", out_features),
        )
        groups = whole_number("groups", groups)
        if any(c % groups for c in channels):
            raise ValueError(
                f"groups must divide in_features and out_features; got groups={groups}, "
                f"in_features={channels[0]}, out_features={channels[1]}"
            )
        kernel = _pair("kernel_size", kernel_size)
        first, second = channels if self.transposed else channels[::-1]
        super().__init__(
            (first, second // groups, *kernel),
            channels,
            kernel,
            _pair("stride", stride),
            _pair("padding", padding, least=0),
            _pair("dilation", dilation),
            groups,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
            pre_hook_fx=pre_hook_fx,
        )

    def map(self, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Apply the linear map with each of the given weights, all of ``shape``."""
        self._check_frames(input)
        self._check_channels(input)
        if not self.transposed:
            self._check_kernel_fits(
                input,
                tuple(n + 2 * p for n, p in zip(input.shape[2:-1], self.padding, strict=False)),
            )
        return self._convolve(input, *weights, transposed=self.transposed)


@documented(_RAISES, pre_hook_fx=_HOOK)
class Conv(_Convolving):
    """Convolution of each frame: ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.

    H' = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1.
    """


@documented(_RAISES, pre_hook_fx=_HOOK)
class ConvTranspose(_Convolving):
    """Transposed convolution of each frame: ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.

    H' = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + 1. The weight is
    ``[in, out / groups, kh, kw, 1]``, so weight norm is over input channels.
    """

    transposed = True


class _Pooling(GenericLayer):
    """What pooling and unpooling share: one constant weight for every channel."""

    learned = False
    transposed = False

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = None,
    ):
        kernel = _pair("kernel_size", kernel_size)
        super().__init__(
            (1, 1, *kernel),
            (1, 1),
            kernel,
            kernel if stride is None else _pair("stride", stride),
            _pair("padding", padding, least=0),
            _pair("dilation", dilation),
            weight_scale=weight_scale,
            weight_norm=weight_norm,
            pre_hook_fx=pre_hook_fx,
        )

    def _initial(self, drawn: Tensor, weight_scale: float) -> Tensor:
        # drawn all the same: networks with one seed agree with lava-dl's layer by layer
        return torch.full_like(drawn, weight_scale)

    def map(self, input: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Apply the linear map with each of the given weights, all of ``shape``."""
        self._check_frames(input)
        x = input
        if not self.transposed:
            rest = [n % k for n, k in zip(x.shape[2:-1], self.kernel_size, strict=False)]
            if any(rest):  # rows of zeros at the bottom, columns at the right
                frames = to_rows(x).view(-1, *x.shape[1:-1])
                frames = torch.nn.functional.pad(frames, (0, rest[1], 0, rest[0]))
                x = _as_time_last(frames, x.shape[0], x.shape[-1])
            self._check_kernel_fits(input, x.shape[2:-1])
        channels = x.shape[1]
        each = (w.expand(channels, *w.shape[1:]) for w in weights)
        return self._convolve(x, *each, groups=channels, transposed=self.transposed)


@documented(_RAISES, pre_hook_fx=_HOOK, **_POOLED)
class Pool(_Pooling):
    """Sum pooling of each channel: ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.

    H' = floor((H + H mod kernel_size + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1:
    as many rows of zeros as the kernel leaves over are added at the bottom, and columns at the
    right. The weight is constant.
    """


@documented(_RAISES, pre_hook_fx=_HOOK, **_POOLED)
class Unpool(_Pooling):
    """Spread each value over a kernel: ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.

    H' = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + 1. The weight is constant.
    """

    transposed = True
