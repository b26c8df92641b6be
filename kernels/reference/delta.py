"""Oracle of the delta encoder: the equations of the specification, one step at a time.

float32, in the order of operations that is specified. The threshold's gradient is autograd's own:
an event is a function whose derivative by the threshold is h.
"""

import torch

from . import fixed
from .spike import shape


class _Event(torch.autograd.Function):
    """The event; its derivative by the change is 1, by the threshold h."""

    @staticmethod
    def forward(ctx, change, fires, threshold, tau, scale, surrogate):
        ctx.save_for_backward(change, threshold)
        ctx.constants = tau, scale, surrogate
        return torch.where(fires, change, 0.0)

    @staticmethod
    def backward(ctx, gradient):
        change, threshold = ctx.saved_tensors
        tau, scale, surrogate = ctx.constants
        size = change.abs()
        beyond = -change * scale * shape(size - threshold, tau, surrogate) / threshold
        h = torch.where(size > threshold, beyond, -change.sign())
        return gradient, None, (gradient * h).sum_to_size(threshold.shape), None, None, None


def delta(
    x, threshold, scale, *, tau_grad=1.0, scale_grad=1.0, surrogate="exponential", cum_error=False,
    shift=False, state=None, return_state=False,
):  # fmt: skip
    """See ``lapilli.kernels.recurrences.delta.delta``."""
    x = x.to(torch.float32)
    theta = fixed.per_neuron(threshold, x)
    zero = x.new_zeros(x.shape[:-1])
    before, residual, error = (
        (zero,) * 3 if state is None else (s.detach().to(torch.float32) for s in state)
    )
    step = torch.tensor(1 / scale, dtype=torch.float32)
    events = []
    for t in range(x.shape[-1]):
        change = (x[..., t] - before) + residual
        error = error + change.detach()
        fires = (error if cum_error else change.detach()).abs() >= theta.detach()
        event = _Event.apply(change, fires, theta, tau_grad, scale_grad, surrogate)
        error = torch.where(event.detach() != 0, 0.0, error)
        residual = (change - event).detach()  # sent or not, the gradient passes straight through
        before = x[..., t]
        quantized = (event.detach() / step).floor() * step
        events.append(fixed.straight_through(quantized, event))
    if shift:
        events = fixed.later(events)
    y = fixed.over_time(events, x, x, threshold)
    after = before.detach(), residual, error if cum_error else zero
    return (y, after) if return_state else y
