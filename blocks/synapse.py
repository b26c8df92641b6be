"""Synapses: the weights between layers, as linear maps of every time step.

Weights keep lava-dl's five dimensions (the last is time, of size 1), so that checkpoints can be
exchanged. Inputs and outputs are ``[N, C, H, W, T]`` or, for ``Dense``, ``[N, C, T]``; outputs are
views of time-major rows (kernels/executors/layout.py), which the next layer reads without a copy.

As in lava-dl, the synapses are subclasses of ``torch.nn.Conv3d`` and ``torch.nn.ConvTranspose3d``,
because that is what they compute: each has the weight, the bias and the attributes of a convolution
over (height, width, time) whose kernel is one step long. So whatever looks for convolutions finds
them: functions that draw initial weights, torch's pruning, parametrisations, spectral and weight
norm, the fusion of batch norms. Tools that exchange convolutions for quantised ones go by the exact
class and leave synapses alone. What a convolution has and a synapse has not, such as an
``output_padding``, raises where it is set.

Source: lava-dl synapse/layer.py.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lapilli.kernels.executors.layout import check_input, to_rows
from lapilli.kernels.numbers.fixed_point import is_power_of_two
from lapilli.kernels.synapses.normalize import normalized_8bit, normalized_weight, norms_of_rows
from lapilli.neurons.base import Neuron
from lapilli.neurons.errors import finite, flag, function
from lapilli.neurons.precision import KeepsFloat32
from torch import Tensor
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .convolution import convolve
from .documentation import documented
from .linear import linear
from .maps import PRODUCTS, Product

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


def _values(value: Any) -> tuple[Any, ...] | None:
    """Return the entries of a tuple, list, array or tensor; None for a single number."""
    try:
        return tuple(value)
    except TypeError:
        return None


def _hook(given: Hook | None) -> Hook | None:
    """Return a function of the weight, or None."""
    return function("pre_hook_fx", given, "a function of the weight")


def _pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Check an argument that is an integer or a pair (height, width)."""
    values = _values(value)
    if values is None:
        values = (value, value)
    if len(values) != 2:
        raise ValueError(
            f"{name} must be an integer or a pair (height, width); got {value!r} of length "
            f"{len(values)}"
        )
    return whole_number(name, values[0], least), whole_number(name, values[1], least)


_TIME = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}


_WEIGHT_TOOLS = (WeightNorm, BasePruningMethod, SpectralNorm)  # hooks that compute a weight


class _SplitWeight(WeightNorm):
    """Mark of a weight that is stored as direction and length, by which torch finds it.

    ``torch.nn.utils.remove_weight_norm`` looks for such a hook. It has nothing to do at a call: the
    weight is computed whenever it is read.
    """

    def __call__(self, module: torch.nn.Module, inputs: Any) -> None:
        """Do nothing."""

    def remove(self, module: Any) -> None:
        """Store the weight as it is."""
        if not {"weight_g", "weight_v"} <= module._parameters.keys():
            raise ValueError(
                "weight norm cannot be removed while its direction or length is pruned; call "
                "torch.nn.utils.prune.remove(synapse, 'weight_v') first"
            )
        module._register_weights(weight=module.weight)


class GenericLayer(KeepsFloat32, torch.nn.Module):
    """Base of the real synapses: the weight, its normalisation and its quantisation.

    It stands beside one of torch's convolutions among the bases of a class, before or after it, and
    has no constructor of its own.

    Attributes
    ----------
    weight : Parameter or Tensor
        In five dimensions. Under weight norm it is computed from the parameters ``weight_g`` and
        ``weight_v`` whenever it is read, and cannot be set.
    bias : Parameter or None
        ``[out_channels]``, of pooling ``[1]``, real units; None at first. Added to the output at
        every step, in float32 and not quantised. Network files cannot hold it.
    in_channels, out_channels, groups : int
    kernel_size, stride, padding, dilation : tuple
        (height, width, time); the time entry is 1, of padding 0.
    pre_hook_fx : Callable or None
        Function applied to the weight before use.
    weight_norm_enabled : bool
        Whether the weight is stored as length and direction. Setting it does as
        ``enable_weight_norm`` and ``disable_weight_norm``.
    product : {"auto", "dense", "events"}
        How the synapse multiplies on a CPU, see ``lapilli.blocks.linear.linear``.
    """

    weight: Tensor
    weight_g: torch.nn.Parameter
    weight_v: torch.nn.Parameter
    complex = False
    learned = True  # whether training changes the weight
    _product: Product = "auto"
    _pre_hook_fx: Hook | None = None
    _weight_scale = 1.0

    def _begin(
        self, weight_scale: float, weight_norm: bool, pre_hook_fx: Hook | None, *args: Any
    ) -> None:
        """Build the convolution of the given arguments, whose weight torch's generator draws."""
        self._weight_scale = float(finite("weight_scale", weight_scale))
        enabled = flag("weight_norm", weight_norm)
        super().__init__(*args, dtype=torch.float32)
        self.weight.requires_grad_(self.learned)
        self._pre_hook_fx = _hook(pre_hook_fx)
        if enabled:
            self.enable_weight_norm()

    def reset_parameters(self) -> None:
        """Draw the weight anew, as at construction, in place; a bias becomes zero.

        Raises
        ------
        ValueError
            If a parametrisation computes the weight.
        """
        enabled = self.weight_norm_enabled
        stored = self._stored("weight_v" if enabled else "weight")
        if stored is None:
            raise ValueError("a parametrisation computes the weight; remove it, then draw anew")
        with torch.no_grad():
            weight = _drawn(stored)
            self._start_from(weight)
            stored.copy_(weight)
            if enabled:
                self._stored("weight_g").copy_(norms_of_rows(weight))
            if self.bias is not None:
                self.bias.zero_()

    def _start_from(self, weight: Tensor) -> None:
        """Turn the weight that was drawn into the one to start from, in place."""
        weight.mul_(self._weight_scale)

    def _register_weights(self, **weights: Tensor) -> None:
        for name in ("weight", "weight_g", "weight_v"):
            self._parameters.pop(name, None)
        for name, weight in weights.items():
            self.register_parameter(
                name, torch.nn.Parameter(weight.detach(), requires_grad=self.learned)
            )

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and "weight" not in self._parameters and self.weight_norm_enabled:
            return normalized_weight(self.weight_v, self.weight_g)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _TIME:
            value = self._in_space(name, value)
        elif name == "groups":
            value = self._of_groups(whole_number(name, value))
        elif name == "transposed" and value != self.__dict__.get(name, value):
            raise AttributeError("transposed cannot be set; use a ConvTranspose or a Conv")
        elif name == "padding_mode" and value != "zeros":
            raise ValueError(
                f"padding_mode must be 'zeros'; got {value!r}. Pad the input before the block, "
                f"with torch.nn.functional.pad."
            )
        elif name == "weight" and self._computes_weight():
            raise AttributeError(
                "weight cannot be set under weight norm, which computes it from weight_v "
                "(direction) and weight_g (length); set these, or call disable_weight_norm() first"
            )
        super().__setattr__(name, value)

    def _in_space(self, name: str, value: Any) -> tuple[int, int, int]:
        """Check what is set as size of a kernel, stride and so on; return all three entries."""
        values = _values(value)
        time = _TIME[name]
        if values is not None and len(values) == 3:
            if values[2] != time:
                raise ValueError(
                    f"{name} of a synapse must be (height, width, {time}): it maps every step by "
                    f"itself; got {value!r}"
                )
            value = values[:2]
        least = 0 if time == 0 else 1
        pair = _pair(name, value, least)
        if name == "output_padding" and any(pair):
            raise ValueError(
                f"output_padding must be 0; got {value!r}. Pad the output of the block, with "
                f"torch.nn.functional.pad."
            )
        return (*self._of_space(name, pair), time)

    def _of_space(self, name: str, pair: tuple[int, int]) -> tuple[int, int]:
        return pair

    def _of_groups(self, groups: int) -> int:
        return groups

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        """Register a parameter; raises where pruning wants to store a weight that is computed."""
        if name == "weight_orig" and self._computes_weight():
            raise ValueError(
                "weight cannot be pruned under weight norm, which computes it from weight_v and "
                "weight_g; prune 'weight_v', whose zeros are those of the weight, or call "
                "disable_weight_norm() first"
            )
        super().register_parameter(name, param)

    def _computes_weight(self) -> bool:
        """Whether this class computes the weight when it is read; torch's tools do not count."""
        hooks = self.__dict__.get("_forward_pre_hooks", {})
        return any(type(hook) is _SplitWeight for hook in hooks.values())

    @property
    def weight_norm_enabled(self) -> bool:
        """Whether the weight is stored as length ``weight_g`` and direction ``weight_v``."""
        stored = self._parameters
        return "weight_g" in stored or "weight_v" in stored or "weight_g_orig" in stored

    @weight_norm_enabled.setter
    def weight_norm_enabled(self, enabled: bool) -> None:
        if enabled:
            self.enable_weight_norm()
        else:
            self.disable_weight_norm()

    def enable_weight_norm(self) -> None:
        """Store the weight as a direction and a length for each entry of axis 0.

        Raises
        ------
        ValueError
            If the weight is no parameter, because one of torch's tools computes it.
        """
        if self.weight_norm_enabled:
            return
        if "weight" not in self._parameters:
            raise ValueError(
                "weight norm needs a weight that is a parameter, but one of torch's tools "
                "(pruning, a parametrisation, spectral norm) computes it; remove that first"
            )
        weight = self.weight.detach()
        self._register_weights(weight_g=norms_of_rows(weight), weight_v=weight)
        self.register_forward_pre_hook(_SplitWeight("weight", 0))

    def disable_weight_norm(self) -> None:
        """Store the weight as it is; its value does not change."""
        if self.weight_norm_enabled:
            torch.nn.utils.remove_weight_norm(self)

    @property
    def pre_hook_fx(self) -> Hook | None:
        """Function applied to the weight before use, or None."""
        return self._pre_hook_fx

    @pre_hook_fx.setter
    def pre_hook_fx(self, hook: Hook | None) -> None:
        self._pre_hook_fx = _hook(hook)

    @property
    def _step(self) -> float:
        """Power of two of which the hook makes -128 to 127; 0 where it does not."""
        scale = getattr(getattr(self._pre_hook_fx, "__self__", None), "w_scale", 0)
        name = getattr(self._pre_hook_fx, "__name__", "")
        return (
            2 / scale if name == "quantize_8bit" and scale > 0 and is_power_of_two(scale) else 0.0
        )

    @property
    def _scale_of_8_bits(self) -> int:
        """Scale with which a neuron of this library quantises the weight; 0 where none does."""
        hook = self._pre_hook_fx
        known = getattr(hook, "__func__", None) is Neuron.quantize_8bit
        return hook.__self__.w_scale if known else 0  # type: ignore[union-attr]

    @property
    def product(self) -> Product:
        """How the synapse multiplies, ``"auto"``, ``"dense"`` or ``"events"``."""
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

    def _stored(self, name: str) -> torch.nn.Parameter | None:
        """Return the parameter ``name``, also where pruning or spectral norm hold it."""
        own = self._parameters
        return own.get(name, own.get(f"{name}_orig"))

    @property
    def grad_norm(self) -> float:
        """Euclidean norm of the weight's gradient over its number of entries; 0 without one."""
        stored = self._stored("weight_g" if self.weight_norm_enabled else "weight")
        if stored is None:  # parametrised
            stored = next(self.parametrizations["weight"].parameters())
        gradient = stored.grad
        return 0.0 if gradient is None else torch.norm(gradient).item() / gradient.numel()

    def _masked(self, mask: Tensor | None) -> Tensor:
        """Return the weight before the hook under a mask."""
        if mask is None:
            return self.weight
        if not self._computes_weight():
            weight = self.weight
            return weight * mask.to(weight.dtype)
        return normalized_weight(self.weight_v * mask.to(self.weight_v.dtype), self.weight_g)

    def _check_weight(self, weight: Tensor) -> None:
        """Raise where the weight has another shape than the attributes ask for."""
        ends = (self.in_channels, self.out_channels // self.groups)
        if not self.transposed:
            ends = (self.out_channels, self.in_channels // self.groups)
        if weight.shape != (*ends, *self.kernel_size):
            raise ValueError(
                f"the weight of {type(self).__name__} has shape {tuple(weight.shape)}, but "
                f"in_channels={self.in_channels}, out_channels={self.out_channels}, "
                f"groups={self.groups} and kernel_size={self.kernel_size} ask for "
                f"{(*ends, *self.kernel_size)}. Set them and the weight together, or build a new "
                f"synapse."
            )

    def _hooked(self, weight: Tensor) -> Tensor:
        self._check_weight(weight)
        return weight if self._pre_hook_fx is None else self._pre_hook_fx(weight)

    def forward_weight(self, mask: Tensor | None = None) -> Tensor:
        """Return the weight that ``forward`` uses, within a call of the module."""
        scale = self._scale_of_8_bits
        if mask is None and scale and self._computes_weight():
            self._check_weight(self.weight_v)
            return normalized_8bit(self.weight_v, self.weight_g, scale)
        return self._hooked(self._masked(mask))

    @property
    def is_plain(self) -> bool:
        """Whether a call does what this class says, as nothing is hooked and nothing overridden."""
        return not self._differs(_SplitWeight)

    @property
    def is_observed(self) -> bool:
        """Whether a call does more than apply ``effective_weight`` and the bias.

        That is so with hooks and with another ``forward``, but not with torch's pruning, weight
        norm and spectral norm, which ``effective_weight`` follows.
        """
        return self._differs(*_WEIGHT_TOOLS)

    def _differs(self, *known: type) -> bool:
        """Whether there is a hook, other than the ``known`` before a call, or another forward."""
        return bool(
            self._forward_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
            or "forward" in self.__dict__
            or type(self).forward is not GenericLayer.forward
            or any(not isinstance(hook, known) for hook in self._forward_pre_hooks.values())
        )

    def raw_weight(self, mask: Tensor | None = None) -> Tensor:
        """Return the weight before the hook, as ``forward`` uses it under a mask.

        Masked entries are zero and get no gradient. What torch's pruning, weight norm and spectral
        norm compute before each call is computed here as well.
        """
        for hook in tuple(self._forward_pre_hooks.values()):
            if isinstance(hook, (WeightNorm, BasePruningMethod)):
                hook(self, ())
            elif isinstance(hook, SpectralNorm):
                learning = self.training and torch.is_grad_enabled()
                setattr(self, hook.name, hook.compute_weight(self, do_power_iteration=learning))
        return self._masked(mask)

    def effective_weight(self, mask: Tensor | None = None) -> Tensor:
        """Return the weight that ``forward`` uses, ``shape``."""
        return self._hooked(self.raw_weight(mask))

    def apply_mask(self, mask: Tensor) -> None:
        """Set the masked entries of what is stored to zero, but not behind a parametrisation."""
        stored = self._stored("weight_v" if self.weight_norm_enabled else "weight")
        if stored is not None:
            stored.data.mul_(mask)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``input``; a ``mask`` of 0 and 1, broadcast to the weight, cuts synapses."""
        return self.biased(self.map(input, self.forward_weight(mask))[0])

    def biased(self, y: Tensor) -> Tensor:
        """Add the bias, if there is one, to an output ``[N, C, ..., T]``.

        Raises
        ------
        ValueError
            For a bias of another shape than ``[out_channels]``.
        """
        bias = self.bias
        if bias is None:
            return y
        if bias.shape != (self.out_channels,):
            raise ValueError(
                f"bias of {type(self).__name__} must have shape ({self.out_channels},); got "
                f"{tuple(bias.shape)}"
            )
        return y + bias.to(torch.float32).view(-1, *(1,) * (y.ndim - 2))

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


def _drawn(weight: Tensor) -> Tensor:
    """Draw entries as torch does for a new convolution, uniform within 1 / sqrt(fan-in).

    torch scales its numbers by one instruction or by two, as the processor has it, and these round
    differently. Here they are scaled in float64 and rounded once, like by one instruction.
    """
    bound = float(np.float32(1 / math.sqrt(weight[0].numel())))
    return (torch.rand_like(weight).double() * (2 * bound) - bound).to(weight.dtype)


def _as_time_last(rows: Tensor, batch: int, time: int) -> Tensor:
    """Show rows ``[N * T, neurons...]`` as ``[N, neurons..., T]``; never copies."""
    return rows.view(batch, time, *rows.shape[1:]).movedim(1, -1)


@documented(
    "For sizes that are not positive integers, or a tuple of another length.",
    pre_hook_fx=_HOOK,
    example=(">>> y = Kind(3, 2)(torch.rand(4, 3, 10))\n>>> y.shape\ntorch.Size([4, 2, 10])"),
)
class Dense(GenericLayer, torch.nn.Conv3d):
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
        image = _values(in_neurons)
        if image is None:
            width, height, channels = 1, 1, whole_number("in_neurons", in_neurons)
        elif len(image) in (2, 3):
            width, height, channels = (whole_number("in_neurons", n) for n in (*image, 1)[:3])
        else:
            raise ValueError(
                f"in_neurons must be an integer, (width, height) or (width, height, channels); "
                f"got {in_neurons!r} of length {len(image)}"
            )
        self._takes_image = image is not None
        out_neurons = whole_number("out_neurons", out_neurons)
        arguments = (channels, out_neurons, (height, width, 1), 1, 0, 1, 1, False)
        self._begin(weight_scale, weight_norm, pre_hook_fx, *arguments)

    def _of_space(self, name: str, pair: tuple[int, int]) -> tuple[int, int]:
        usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}.get(name, pair)
        if pair != usual:
            raise ValueError(
                f"{name} of a Dense synapse must be {usual[0]}: each output sums every input; got "
                f"{pair}. Use a Conv."
            )
        return pair

    def _of_groups(self, groups: int) -> int:
        if groups != 1:
            raise ValueError(
                f"groups of a Dense synapse must be 1: each output sums every input; got {groups}. "
                f"Use a Conv."
            )
        return groups

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

    _transposes = False  # before torch's ``transposed`` is there

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
        kernel = (*_pair("kernel_size", kernel_size), 1)
        stride = (*_pair("stride", stride), 1)
        padding = (*_pair("padding", padding, least=0), 0)
        dilation = (*_pair("dilation", dilation), 1)
        rest = (0, groups, False, dilation) if self._transposes else (dilation, groups, False)
        arguments = (*channels, kernel, stride, padding, *rest)
        self._begin(weight_scale, weight_norm, pre_hook_fx, *arguments)

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


@documented(
    _RAISES,
    pre_hook_fx=_HOOK,
    example=(
        ">>> y = Kind(2, 3, kernel_size=2, stride=2)(torch.rand(1, 2, 4, 4, 10))\n>>> y.shape\n"
        "torch.Size([1, 3, 2, 2, 10])"
    ),
)
class Conv(_Convolving, torch.nn.Conv3d):
    """Convolution of each frame: ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.

    H' = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1.
    """


@documented(
    _RAISES,
    pre_hook_fx=_HOOK,
    example=(
        ">>> y = Kind(2, 3, kernel_size=2, stride=2)(torch.rand(1, 2, 4, 4, 10))\n>>> y.shape\n"
        "torch.Size([1, 3, 8, 8, 10])"
    ),
)
class ConvTranspose(_Convolving, torch.nn.ConvTranspose3d):
    """Transposed convolution of each frame: ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.

    H' = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + 1. The weight is
    ``[in, out / groups, kh, kw, 1]``, so weight norm is over input channels.
    """

    _transposes = True


class _Pooling(GenericLayer):
    """What pooling and unpooling share: one constant weight for every channel."""

    learned = False
    _transposes = False

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
        stride = kernel if stride is None else _pair("stride", stride)
        padding = (*_pair("padding", padding, least=0), 0)
        dilation = (*_pair("dilation", dilation), 1)
        rest = (0, 1, False, dilation) if self._transposes else (dilation, 1, False)
        arguments = (1, 1, (*kernel, 1), (*stride, 1), padding, *rest)
        self._begin(weight_scale, weight_norm, pre_hook_fx, *arguments)

    def _start_from(self, weight: Tensor) -> None:
        # drawn all the same: networks with one seed agree with lava-dl's layer by layer
        weight.fill_(self._weight_scale)

    def _of_groups(self, groups: int) -> int:
        if groups != 1:
            raise ValueError(f"groups of pooling must be 1: a channel sees itself; got {groups}")
        return groups

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


@documented(
    _RAISES,
    pre_hook_fx=_HOOK,
    example=(
        ">>> y = Kind(kernel_size=2)(torch.rand(1, 2, 4, 4, 10))\n>>> y.shape\n"
        "torch.Size([1, 2, 2, 2, 10])"
    ),
    **_POOLED,
)
class Pool(_Pooling, torch.nn.Conv3d):
    """Sum pooling of each channel: ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.

    H' = floor((H + H mod kernel_size + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1:
    as many rows of zeros as the kernel leaves over are added at the bottom, and columns at the
    right. The weight is constant.
    """


@documented(
    _RAISES,
    pre_hook_fx=_HOOK,
    example=(
        ">>> y = Kind(kernel_size=2)(torch.rand(1, 2, 4, 4, 10))\n>>> y.shape\n"
        "torch.Size([1, 2, 8, 8, 10])"
    ),
    **_POOLED,
)
class Unpool(_Pooling, torch.nn.ConvTranspose3d):
    """Spread each value over a kernel: ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.

    H' = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + 1. The weight is constant.
    """

    _transposes = True
