"""What the real synapses do with their weight: the mask, the hook, the product, the bias."""

from typing import Any

import torch
from lapilli.kernels.executors.layout import check_input
from lapilli.kernels.numbers.fixed_point import is_power_of_two
from lapilli.kernels.synapses.normalize import normalized_8bit, normalized_weight
from lapilli.neurons.base import Neuron
from lapilli.neurons.limits import is_foreign_code
from torch import Tensor
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .convolution import convolve
from .maps import PRODUCTS, Product
from .stored_weight import Hook, SplitWeight, StoredWeight, checked_hook

_WEIGHT_TOOLS = (WeightNorm, BasePruningMethod, SpectralNorm)  # hooks that compute a weight


class GenericLayer(StoredWeight):
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

    Examples
    --------
    >>> from lapilli import slayer
    >>> synapse = slayer.synapse.Dense(3, 2)
    >>> isinstance(synapse, slayer.synapse.layer.GenericLayer)
    True
    >>> synapse.weight.shape  # [out, in, height, width, time]
    torch.Size([2, 3, 1, 1, 1])
    >>> synapse.product = "dense"
    """

    complex = False
    _product: Product = "auto"

    @property
    def pre_hook_fx(self) -> Hook | None:
        """Function applied to the weight before use, or None."""
        return self._pre_hook_fx

    @pre_hook_fx.setter
    def pre_hook_fx(self, hook: Hook | None) -> None:
        self._pre_hook_fx = checked_hook(hook)

    @property
    def _step(self) -> float:
        """Power of two of which the hook makes -128 to 127; 0 where it does not."""
        hook = self._pre_hook_fx
        neuron, function = getattr(hook, "__self__", None), getattr(hook, "__func__", None)
        # not by its name, for which the compiler of torch 2.7 cannot ask a function
        if function is None or function is not getattr(type(neuron), "quantize_8bit", None):
            return 0.0
        scale = getattr(neuron, "w_scale", 0)
        return 2 / scale if scale > 0 and is_power_of_two(scale) else 0.0

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
        return not self._differs(SplitWeight)

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
        """Set the masked entries of what is stored to zero.

        Nothing is written behind a parametrisation, nor where forward may write no parameter
        (``lapilli.neurons.limits``): there the mask is applied to what is used alone.
        """
        stored = self._stored("weight_v" if self.weight_norm_enabled else "weight")
        if stored is not None and not is_foreign_code():
            stored.data.mul_(mask)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``input``; a ``mask`` of 0 and 1, broadcast to the weight, cuts synapses."""
        if not isinstance(input, Tensor):
            check_input(input, type(self).__name__)
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
        return tuple(as_time_last(y, x.shape[0], x.shape[-1]) for y in outputs)

    def _check_channels(self, x: Tensor) -> None:
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} expects {self.in_channels} channels; got {x.shape[1]} "
                f"(input shape {tuple(x.shape)})"
            )

    def _check_kernel_fits(self, x: Tensor, padded: tuple[int, ...]) -> None:
        """Raise if the kernel is larger than an image of the padded size."""
        sides = zip(self.dilation[:2], self.kernel_size[:2], strict=True)
        spans = [d * (k - 1) + 1 for d, k in sides]
        if any(size < span for size, span in zip(padded, spans, strict=True)):
            raise ValueError(
                f"{type(self).__name__} kernel spans {tuple(spans)} (height, width) but the padded "
                f"input is {padded}; input shape {tuple(x.shape)}. Use a smaller kernel_size or "
                f"dilation, or more padding."
            )


def as_time_last(rows: Tensor, batch: int, time: int) -> Tensor:
    """Show rows ``[N * T, neurons...]`` as ``[N, neurons..., T]``; never copies."""
    return rows.view(batch, time, *rows.shape[1:]).movedim(1, -1)
