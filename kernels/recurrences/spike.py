"""The spike alone, for dynamics that were computed apart: elementwise, with a surrogate gradient.

    s = v >= threshold;  graded: s v / scale        g_v = rho(v - threshold) g_s

or, by the phase of a complex state a + ib,

    s[t] = a[t] >= threshold and b[t-1] < 0 <= b[t];  graded: s[t] a[t] / scale

The surrogate gradients are those of surrogate.py, computed by torch.

Source: lava-dl spike/spike.py, spike/complex.py.
"""

import torch
from lapilli.kernels.numbers.formula import on_tensors
from lapilli.kernels.numbers.surrogate import DEFAULT, complex_surrogate_constants, surrogate_named
from torch import Tensor
from torch.autograd.function import once_differentiable


def _near(distance: Tensor, tau: float, graded: bool, surrogate: str) -> Tensor:
    """Shape of a surrogate gradient at ``distance``; of a graded spike no less above 0."""
    distance = distance.clamp(max=0) if graded else distance
    if surrogate == DEFAULT:
        return torch.exp(-distance.abs() / tau)
    found = surrogate_named(surrogate)
    return on_tensors(found.shape.fn)(distance, distance.abs(), found.rate(tau))


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(voltage, distance, fires, tau, height, graded, scale, surrogate):
        return fires * voltage / scale if graded else fires.to(torch.float32)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, distance, _, tau, height, graded, _, surrogate = inputs
        ctx.save_for_backward(distance)
        ctx.constants = tau, height, graded, surrogate

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        tau, height, graded, surrogate = ctx.constants
        return height * _near(distance, tau, graded, surrogate) * gradient, *(None,) * 7


def spike(
    voltage: Tensor,
    threshold: float | Tensor,
    *,
    tau_rho: float,
    scale_rho: float,
    surrogate: str = DEFAULT,
    graded: bool = False,
    scale: float = 1,
    fires: Tensor | None = None,
) -> Tensor:
    """Spike where ``voltage`` reaches ``threshold``.

    Parameters
    ----------
    voltage
        Any shape, real units.
    threshold
        Number, or a tensor that broadcasts against ``voltage``; it gets no gradient.
    tau_rho, scale_rho
        Width and height of the surrogate gradient, both above 0; the formula is that of
        ``lapilli.kernels.recurrences.cuba.cuba``.
    surrogate
        Its shape, see ``lapilli.kernels.recurrences.cuba.cuba``.
    graded
        Spikes carry ``voltage / scale`` instead of 1.
    scale
        Divisor of graded spikes.
    fires
        Decisions already taken, bool of the shape of ``voltage``; the threshold then only places
        the surrogate gradient.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.spike import spike
    >>> spike(torch.tensor([0.5, 1.0, 1.5]), 1.0, tau_rho=1.0, scale_rho=1.0)
    tensor([0., 1., 1.])
    """
    distance = voltage.detach() - threshold
    if fires is None:
        fires = distance.detach() >= 0
    surrogate_named(surrogate)
    height = scale_rho if graded else scale_rho / 2 / tau_rho
    return _Spike.apply(
        voltage, distance.detach(), fires, tau_rho, height, graded, scale, surrogate
    )


class _ComplexSpike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(real, imag, distance, fires, tau, scale_rho, graded, scale, surrogate):
        return fires * real / scale if graded else fires.to(torch.float32)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, imag, distance, _, tau, scale_rho, graded, _, surrogate = inputs
        ctx.save_for_backward(distance, imag)
        ctx.constants = tau, scale_rho, graded, surrogate

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        distance, imag = ctx.saved_tensors
        tau, scale_rho, graded, surrogate = ctx.constants
        height, excess, _ = complex_surrogate_constants(tau, scale_rho, graded)
        near = excess * _near(distance, tau, graded, surrogate)
        crossing = height * _near(imag, tau, False, surrogate) * gradient
        pull = crossing * (1 + torch.sign(distance) * (1 - near))
        return crossing * near, -torch.sign(imag) * pull, *(None,) * 7


def turns(imag: Tensor, imag_last: float | Tensor = 0.0) -> Tensor:
    """Whether an imaginary part ``[..., T]`` turns from negative to not at each step, bool.

    ``imag_last`` is its value before the first step: a number, or a tensor that broadcasts.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.spike import turns
    >>> turns(torch.tensor([-1.0, 1.0, 1.0, -1.0]))
    tensor([False,  True, False, False])
    """
    negative = imag < 0
    crossed = ~negative
    crossed[..., 1:] &= negative[..., :-1]
    crossed[..., 0] &= torch.as_tensor(imag_last, device=imag.device) < 0
    return crossed


def complex_spike(
    real: Tensor,
    imag: Tensor,
    threshold: float | Tensor,
    *,
    tau_rho: float,
    scale_rho: float,
    surrogate: str = DEFAULT,
    graded: bool = False,
    imag_last: float | Tensor = 0.0,
    scale: float = 1,
    fires: Tensor | None = None,
) -> Tensor:
    """Spike where the state turns through phase zero with a real part that reaches ``threshold``.

    Parameters
    ----------
    real, imag
        Complex state, each ``[..., T]``, real units.
    threshold
        Number, or a tensor that broadcasts against ``real``; it gets no gradient.
    tau_rho, scale_rho
        Width and height of the surrogate gradient, both above 0; the formula, of two parts, is at
        the end of ``lapilli.kernels.numbers.surrogate``.
    surrogate
        Its shape, see ``lapilli.kernels.recurrences.cuba.cuba``.
    graded
        Spikes carry ``real / scale`` instead of 1.
    imag_last
        Imaginary part before the first step: a number, or a tensor that broadcasts against a step.
    scale
        Divisor of graded spikes.
    fires
        Decisions already taken, bool of the shape of ``real``; threshold and ``imag_last`` then
        decide nothing.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.spike import complex_spike
    >>> imag = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0])
    >>> real = torch.tensor([2.0, 2.0, 2.0, 2.0, 0.5])
    >>> complex_spike(real, imag, 1.0, tau_rho=1.0, scale_rho=1.0)
    tensor([0., 1., 0., 0., 0.])
    """
    distance = (real - threshold).detach()
    if fires is None:
        fires = turns(imag, imag_last) & (distance >= 0)
    surrogate_named(surrogate)
    return _ComplexSpike.apply(
        real, imag, distance, fires, tau_rho, scale_rho, graded, scale, surrogate
    )
