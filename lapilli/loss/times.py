"""A loss on when the outputs spike."""

import math

import torch
from lapilli.neurons.errors import whole_number
from torch import Tensor

from lapilli.classifier import within
from lapilli.filter import FIR, conv, fast_conv, real

from .base import Loss, Reduction


class SpikeTime(Loss):
    """Distance of van Rossum: squared difference of the filtered spikes from filtered targets.

    Parameters
    ----------
    time_constant
        Decay of the filter's exponential, in steps.
    length
        Number of steps of the filter.
    filter_order
        How many exponentials are chained, at least 1; from 2 on the filter rises before it decays.
    reduction
        ``sum`` over everything, ``mean``, or ``none``: all terms, flat.

    Attributes
    ----------
    filter : FIR
        The filter, for use on its own.

    Raises
    ------
    ValueError
        If the reduction is unknown, or the order below 1.

    Examples
    --------
    >>> import torch
    >>> from lapilli import loss
    >>> desired = torch.tensor([[[0.0, 0, 1, 0]]])
    >>> early = torch.tensor([[[0.0, 1, 0, 0]]])
    >>> distance = loss.SpikeTime(time_constant=2)
    >>> distance(desired, desired), distance(early, desired) > 0
    (tensor(0.), tensor(True))
    """

    def __init__(
        self,
        time_constant: float = 5,
        length: int = 100,
        filter_order: int = 1,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(reduction)
        whole_number("filter_order", filter_order)
        self.filter = FIR(time_constant=time_constant, length=length)
        once = self.filter.filter
        for _ in range(filter_order - 1):
            self.filter.filter = conv(self.filter.filter, once)

    def forward(self, input: Tensor, desired: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Loss of spikes against target spikes.

        Parameters
        ----------
        input, desired
            Spikes, ``[..., T]`` of one shape; both are differentiable. Neurons may be arranged
            differently: ``[N, C, T]`` fits ``[N, C, 1, 1, T]``.
        lengths
            Steps of each sample that count, ``[N]`` integers in 1..T; what comes later is left out.
            None: all steps.

        Returns
        -------
        Tensor
            A scalar; for ``reduction="none"`` all ``input.numel()`` terms.

        Raises
        ------
        ValueError
            If the shapes differ, or the lengths do not fit.
        """
        if input.shape != desired.shape:
            flat = [
                (*x.shape[:1], math.prod(x.shape[1:-1]), *x.shape[-1:]) for x in (input, desired)
            ]
            if flat[0] != flat[1]:
                raise ValueError(
                    f"input and desired must have the same shape, but for how neurons are "
                    f"arranged; got {tuple(input.shape)} and {tuple(desired.shape)}"
                )
            desired = desired.reshape(input.shape)
        with torch.autocast(input.device.type, enabled=False):
            difference = real(input) - real(desired)
            if lengths is not None:  # what comes later is not even filtered
                difference = within(difference, lengths)
            error = fast_conv(difference, self.filter.filter)
            return self._reduce(error.square(), lengths)
