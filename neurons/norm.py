"""Batch normalisation that Loihi can run: the mean becomes a bias, the scale a shift.

Source: lava-dl neuron/norm.py.
"""

import math
from collections.abc import Callable

import torch
from lapilli.kernels.executors.layout import wrong_type
from torch import Tensor

from .errors import finite, function, number, require
from .lazy import LazySize, resize
from .precision import KeepsFloat32

__all__ = ["MeanOnlyBatchNorm", "WgtScaleBatchNorm", "identity"]


def identity(x: Tensor, descale: bool = False) -> Tensor:
    """Return ``x``: the quantisation of a norm outside a neuron.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.neuron.norm.identity(torch.ones(2))
    tensor([1., 1.])
    """
    return x


class MeanOnlyBatchNorm(KeepsFloat32, LazySize, torch.nn.Module):
    """Subtract the mean of each channel.

    Parameters
    ----------
    num_features
        Channels. If None, those of the block that has the norm, or found at the first training
        forward of a norm or a neuron alone.
    momentum
        Weight of the newest batch in the running mean, 0..1.
    pre_hook_fx
        Quantisation of the mean, ``fx(mean)`` and ``fx(mean, descale=True)``. A neuron sets its
        own; the default leaves the mean as it is.

    Attributes
    ----------
    running_mean : Tensor
        ``[num_features]``; ``[1]`` zero until it is known.
    update : bool
        Whether training forwards use and update the statistics.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> norm = slayer.neuron.norm.MeanOnlyBatchNorm(num_features=3)
    >>> norm(torch.rand(4, 3, 10)).shape  # a layer makes one by ``norm=`` in its neuron's arguments
    torch.Size([4, 3, 10])
    """

    lazy_sizes = ("running_mean",)
    running_mean: Tensor

    def __init__(
        self,
        num_features: int | None = None,
        momentum: float = 0.1,
        pre_hook_fx: Callable[..., Tensor] | None = None,
    ):
        super().__init__()
        if num_features is not None:
            require(
                number("num_features", num_features) == int(num_features) > 0,
                f"num_features must be a whole number of at least 1, or None; got {num_features}",
            )
        self.num_features = num_features
        self.momentum = finite("momentum", momentum)
        function("pre_hook_fx", pre_hook_fx, "a function of the mean")
        self.pre_hook_fx = identity if pre_hook_fx is None else pre_hook_fx
        self.update = True
        self.register_buffer("running_mean", torch.zeros(num_features or 1, dtype=torch.float32))

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        return f"num_features={self.num_features}, momentum={self.momentum}"

    def reset_parameters(self) -> None:
        """Forget the statistics."""
        self.running_mean.zero_()

    @property
    def bias(self) -> Tensor:
        """Bias that the norm amounts to, ``[channels]``, in integer weight units."""
        return -self.pre_hook_fx(self.running_mean, descale=True)

    def _sized(self, name: str) -> None:
        self.num_features = getattr(self, name).numel()

    def _size(self, channels: int) -> None:
        """Take the number of channels where none was given."""
        if self.num_features is None:
            self.num_features = channels
            resize(self.running_mean, self.running_mean.new_zeros(channels))

    def _check(self, x: Tensor) -> None:
        wrong = wrong_type(x)
        if wrong is not None:
            raise TypeError(f"{type(self).__name__} input {wrong}")

    def _update(self, name: str, newest: Tensor) -> None:
        """Move a running statistic, in place: who holds the buffer, as DDP does, sees it."""
        with torch.no_grad():
            getattr(self, name).mul_(1 - self.momentum).add_(newest)

    def _channel_mean(self, x: Tensor) -> Tensor:
        """Mean of each channel of this batch, or the running one."""
        self._check(x)
        if not (self.training and self.update):
            return self.running_mean
        mean = x.mean([0, *range(2, x.ndim)])
        self._size(x.shape[1])
        self._update("running_mean", self.momentum * mean.detach())
        return mean

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[N, C, ...]``."""
        mean = self.pre_hook_fx(self._channel_mean(x))
        return x - mean.view(1, -1, *(1,) * (x.ndim - 2))


class WgtScaleBatchNorm(MeanOnlyBatchNorm):
    """Subtract the mean of each channel and divide by a power of two near the deviation.

    One deviation for the whole layer: on the chip it is the exponent of the layer's weights.

    Parameters
    ----------
    num_features, momentum, pre_hook_fx
        As for ``MeanOnlyBatchNorm``.
    weight_exp_bits
        The exponent stays within ``[-weight_exp_bits, weight_exp_bits]``.
    eps
        Added to the variance.

    Attributes
    ----------
    running_var : Tensor
        ``[1]``, zero at first.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> norm = slayer.neuron.norm.WgtScaleBatchNorm(num_features=3)
    >>> norm(torch.rand(4, 3, 10)).shape  # a layer makes one by ``norm=`` in its neuron's arguments
    torch.Size([4, 3, 10])
    """

    running_var: Tensor

    def __init__(
        self,
        num_features: int | None = None,
        momentum: float = 0.1,
        weight_exp_bits: int = 3,
        eps: float = 1e-5,
        pre_hook_fx: Callable[..., Tensor] | None = None,
    ):
        super().__init__(num_features, momentum, pre_hook_fx)
        self.weight_exp_bits = finite("weight_exp_bits", weight_exp_bits)
        self.eps = finite("eps", eps)
        self.register_buffer("running_var", torch.zeros(1, dtype=torch.float32))

    def reset_parameters(self) -> None:
        """Forget the statistics."""
        super().reset_parameters()
        self.running_var.zero_()

    def _exponent(self, variance: Tensor) -> Tensor:
        # in float64, rounded once: in float32 the logarithm differs from processor to processor
        deviation = torch.sqrt(variance + self.eps).double()
        exponent = torch.ceil(torch.log2(deviation).float())
        return exponent.clamp(-self.weight_exp_bits, self.weight_exp_bits)

    @property
    def weight_exp(self) -> Tensor:
        """Exponent that evaluation uses, ``[1]``."""
        return self._exponent(self.running_var)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[N, C, ...]``."""
        mean = self._channel_mean(x)
        variance = self.running_var
        if self.training and self.update:
            variance = x.detach().var(unbiased=False).view(1)
            n = math.prod(x.shape) // x.shape[1]
            # lava-dl weighs the newest variance by n / (n + 1)
            self._update("running_var", self.momentum * variance * n / (n + 1))
        mean = self.pre_hook_fx(mean).view(1, -1, *(1,) * (x.ndim - 2))
        return (x - mean) / torch.exp2(self._exponent(variance))
