"""A loss on how often any layer spikes."""

import torch
from lapilli.neurons.errors import finite
from torch import Tensor

from lapilli.filter import real


class SparsityEnforcer:
    """Penalty on layers that are busier than wanted.

    ``append`` the output of each layer in each step, add ``loss`` to the loss, then ``clear``.

    Parameters
    ----------
    max_rate
        Mean magnitude of a layer's output that is still free, events a neuron and step.
    lam
        Factor of the penalty.

    Attributes
    ----------
    loss_list : list of Tensor
        One penalty a layer, without the factor.

    Examples
    --------
    >>> import torch
    >>> from lapilli import loss
    >>> sparse = loss.SparsityEnforcer(max_rate=0.25, lam=2)
    >>> sparse.append(torch.tensor([[[0.0, 1, 0, 1]]]))  # a rate of 0.5
    >>> sparse.loss
    tensor(0.1250)
    >>> sparse.clear()
    """

    def __init__(self, max_rate: float = 0.01, lam: float = 1.0) -> None:
        self.max_rate = finite("max_rate", max_rate)
        self.lam = finite("lam", lam)
        self.loss_list: list[Tensor] = []

    def append(self, x: Tensor) -> None:
        """Add the penalty of a layer's output, of any shape."""
        with torch.autocast(x.device.type, enabled=False):
            excess = (real(x).abs().mean() - self.max_rate).relu()
            self.loss_list.append(excess.square())

    @property
    def loss(self) -> Tensor | float:
        """Sum of the penalties times ``lam``; the number 0 without any."""
        return self.lam * sum(self.loss_list)

    def clear(self) -> None:
        """Forget the penalties."""
        self.loss_list = []
