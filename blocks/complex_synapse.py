"""Complex synapses of the resonators: a real and an imaginary weight over one real input.

Source: lava-dl synapse/complex.py.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import torch
from lapilli.kernels.executors.layout import check_input
from torch import Tensor

from . import synapse
from .documentation import continued
from .maps import Product
from .synapse import GenericLayer, Hook

__all__ = ["ComplexLayer", "Conv", "ConvTranspose", "Dense", "P", "Pool", "Unpool"]

P = ParamSpec("P")  # arguments of a real synapse

_SIZES = ("stride", "padding", "dilation", "groups")
_OF_REAL = ("in_channels", "out_channels", "kernel_size", "shape", *_SIZES)
_OF_EACH = ("weight", "weight_g", "weight_v", "bias", *_OF_REAL)


class ComplexLayer(torch.nn.Module):
    """Base of the complex synapses.

    Attributes
    ----------
    real, imag : GenericLayer
        Two synapses of the same arguments, drawn in this order. Weight and bias are theirs; setting
        one on the pair raises AttributeError. Both are multiplied at once, unless one of them is of
        another class, has hooks, or sizes of its own: then each is called.

    Examples
    --------
    >>> from lapilli import slayer
    >>> synapse = slayer.synapse.complex.Dense(3, 2)
    >>> isinstance(synapse, slayer.synapse.complex.ComplexLayer)
    True
    >>> synapse.real.weight.shape, synapse.imag.weight.shape
    (torch.Size([2, 3, 1, 1, 1]), torch.Size([2, 3, 1, 1, 1]))
    """

    complex = True
    layer: type[GenericLayer]  # class of the two

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Complete the docstring of a class with the arguments of the real synapse."""
        super().__init_subclass__(**kwargs)
        continued(cls, cls.layer)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()
        self.real = self.layer(*args, **kwargs)
        self.imag = self.layer(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in _OF_REAL:
            return getattr(self.real, name)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_EACH:
            raise AttributeError(
                f"a complex synapse has two of {name!r}; set synapse.real.{name} and "
                f"synapse.imag.{name}"
            )
        super().__setattr__(name, value)

    @property
    def weight_norm_enabled(self) -> bool:
        """Whether both weights are stored as directions and lengths; it can be set."""
        return self.real.weight_norm_enabled

    @weight_norm_enabled.setter
    def weight_norm_enabled(self, enabled: bool) -> None:
        self.real.weight_norm_enabled = self.imag.weight_norm_enabled = enabled

    def enable_weight_norm(self) -> None:
        """Store both weights as directions and lengths."""
        self.real.enable_weight_norm()
        self.imag.enable_weight_norm()

    def disable_weight_norm(self) -> None:
        """Store both weights as they are."""
        self.real.disable_weight_norm()
        self.imag.disable_weight_norm()

    @property
    def pre_hook_fx(self) -> Hook | None:
        """Function applied to both weights before use, or None."""
        return self.real.pre_hook_fx

    @pre_hook_fx.setter
    def pre_hook_fx(self, function: Hook | None) -> None:
        self.real.pre_hook_fx = self.imag.pre_hook_fx = function

    @property
    def product(self) -> Product:
        """How both weights multiply, ``"auto"``, ``"dense"`` or ``"events"``."""
        return self.real.product

    @product.setter
    def product(self, product: Product) -> None:
        self.real.product = self.imag.product = product

    @property
    def grad_norm(self) -> float:
        """Root of the sum of the squares of both gradient norms."""
        return math.hypot(self.real.grad_norm, self.imag.grad_norm)

    @property
    def is_observed(self) -> bool:
        """Whether a call does more than apply ``effective_weight`` and the biases."""
        return bool(
            self._forward_hooks
            or self._forward_pre_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
            or "forward" in self.__dict__
            or type(self).forward is not ComplexLayer.forward
            or self.real.is_observed
            or self.imag.is_observed
        )

    def effective_weight(self, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weights that ``forward`` uses, real and imaginary."""
        return self.real.effective_weight(mask), self.imag.effective_weight(mask)

    def apply_mask(self, mask: Tensor) -> None:
        """Set the masked entries of what is stored to zero."""
        self.real.apply_mask(mask)
        self.imag.apply_mask(mask)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map ``input`` with the real and the imaginary weight."""
        if not isinstance(input, Tensor):
            check_input(input, type(self).__name__)
        real, imag = self.real, self.imag
        if not _alike(real, imag):
            options = () if mask is None else (mask,)
            return real(input, *options), imag(input, *options)
        weights = real.forward_weight(mask), imag.forward_weight(mask)
        return self.biased(real.map(input, *weights))

    def biased(self, y: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Add the biases, if there are any, to a pair of outputs ``[N, C, ..., T]``."""
        real, imag = y
        return self.real.biased(real), self.imag.biased(imag)


def _alike(real: Any, imag: Any) -> bool:
    """Whether two parts can be multiplied at once."""
    return (
        getattr(real, "is_plain", False)
        and getattr(imag, "is_plain", False)
        and type(real) is type(imag)
        and all(getattr(real, size) == getattr(imag, size) for size in _SIZES)
    )


def _takes(
    layer: Callable[P, GenericLayer],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give a constructor the signature of the real synapse, for readers and checkers."""

    def typed(constructor: Any) -> Any:
        constructor.__signature__ = inspect.signature(layer.__init__)  # type: ignore[misc]
        return constructor

    return typed


class Dense(ComplexLayer):
    """Fully connected synapse of a real and an imaginary weight; returns a pair."""

    layer = synapse.Dense

    @_takes(synapse.Dense)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)


class Conv(ComplexLayer):
    """Convolution of a real and an imaginary weight; returns a pair."""

    layer = synapse.Conv

    @_takes(synapse.Conv)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)


class Pool(ComplexLayer):
    """Sum pooling of a real and an imaginary weight; returns a pair."""

    layer = synapse.Pool

    @_takes(synapse.Pool)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)


class ConvTranspose(ComplexLayer):
    """Transposed convolution of a real and an imaginary weight; returns a pair."""

    layer = synapse.ConvTranspose

    @_takes(synapse.ConvTranspose)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)


class Unpool(ComplexLayer):
    """Unpooling of a real and an imaginary weight; returns a pair."""

    layer = synapse.Unpool

    @_takes(synapse.Unpool)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
