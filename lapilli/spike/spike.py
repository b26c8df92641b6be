"""Spike where a voltage reaches a threshold. Equations: kernels/recurrences/spike.py.

Source: lava-dl spike/spike.py.
"""

from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.recurrences.spike import spike
from torch import Tensor


class Spike:
    """Threshold with a surrogate gradient; called by ``apply``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> voltage = torch.tensor([[0.5, 1.0, 2.0]], requires_grad=True)
    >>> slayer.spike.Spike.apply(voltage, 1.0, 1.0, 1.0, False).tolist()  # threshold 1
    [[0.0, 1.0, 1.0]]
    """

    @staticmethod
    def apply(
        voltage: Tensor,
        threshold: float | Tensor,
        tau_rho: float,
        scale_rho: float,
        graded_spike: bool,
        voltage_last: float | Tensor | None = None,
        scale: float = 1,
        surrogate: str = DEFAULT,
    ) -> Tensor:
        """Spike where ``voltage`` reaches ``threshold``.

        Parameters
        ----------
        voltage
            ``[..., T]``, real units; the only argument that gets a gradient.
        threshold
            Number, or a tensor that broadcasts against ``voltage``.
        tau_rho, scale_rho
            Width, above 0, and scale of the surrogate gradient.
        graded_spike
            Spikes carry ``voltage / scale`` instead of 1.
        voltage_last
            Not used.
        scale
            Divisor of graded spikes.
        surrogate
            Shape of the surrogate gradient, see ``lapilli.neurons.base.Neuron``.

        Returns
        -------
        Tensor
            Spikes, of the shape of ``voltage``.
        """
        return spike(
            voltage, threshold, tau_rho=tau_rho, scale_rho=scale_rho, graded=bool(graded_spike),
            scale=scale, surrogate=surrogate,
        )  # fmt: skip
