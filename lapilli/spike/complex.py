"""Spike by the phase of a complex state. Equations: kernels/recurrences/spike.py.

Source: lava-dl spike/complex.py.
"""

from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.recurrences.spike import complex_spike
from torch import Tensor


class Spike:
    """Threshold at phase zero with a surrogate gradient; called by ``apply``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> real, imag = torch.tensor([[1.5, 1.5, 0.5]]), torch.tensor([[-0.1, 0.1, 0.2]])
    >>> slayer.spike.complex.Spike.apply(real, imag, 1.0, 1.0, 1.0, False).tolist()
    [[0.0, 1.0, 0.0]]
    """

    @staticmethod
    def apply(
        real: Tensor,
        imag: Tensor,
        threshold: float | Tensor,
        tau_rho: float,
        scale_rho: float,
        graded_spike: bool,
        imag_last: float | Tensor = 0.0,
        scale: float = 1,
        surrogate: str = DEFAULT,
    ) -> Tensor:
        """Spike where ``imag`` turns from negative to not while ``real`` reaches ``threshold``.

        Parameters
        ----------
        real, imag
            Complex state, each ``[..., T]``, real units; they get gradients.
        threshold
            Number, or a tensor that broadcasts against ``real``.
        tau_rho, scale_rho
            Width, above 0, and scale of the surrogate gradient.
        graded_spike
            Spikes carry ``real / scale`` instead of 1.
        imag_last
            Imaginary part before the first step: a number, or a tensor that broadcasts against a
            step.
        scale
            Divisor of graded spikes.
        surrogate
            Shape of the surrogate gradient, see ``lapilli.neurons.base.Neuron``.

        Returns
        -------
        Tensor
            Spikes, of the shape of ``real``.
        """
        return complex_spike(
            real, imag, threshold, tau_rho=tau_rho, scale_rho=scale_rho,
            graded=bool(graded_spike), imag_last=imag_last, scale=scale, surrogate=surrogate,
        )  # fmt: skip
