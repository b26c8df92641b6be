"""Between what the functional forms take and what the kernels take."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def run(
    kernel: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    decays: tuple[Tensor, ...],
    states: tuple[Tensor, ...],
    *constants: float | None,
    **options: Any,
) -> tuple[Tensor, ...]:
    """Call ``kernel(inputs, decays, states, *constants, **options)`` and return its series.

    The kernel gets inputs of at least three dimensions, decays of one size and states of the size
    of a step; its results take the shape of the inputs.
    """
    shape = inputs[0].shape
    for x in inputs:
        if x.ndim == 0 or x.shape != shape:
            raise ValueError(
                f"inputs must be [..., time] and of one shape; got "
                f"{', '.join(str(tuple(x.shape)) for x in inputs)}"
            )
    if len(shape) < 3:
        inputs = tuple(x.reshape(-1, 1, shape[-1]) for x in inputs)
    series = kernel(
        inputs, _of_one_size(decays), tuple(_whole(s, inputs[0][..., 0]) for s in states),
        *constants, **options,
    )  # fmt: skip
    return tuple(y.reshape(shape) for y in series)


def _of_one_size(decays: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Give decays of one value and decays of one a channel the same size."""
    size = max(d.numel() for d in decays)
    return tuple(d.reshape(-1).expand(size).contiguous() for d in decays)


def _whole(state: Tensor, step: Tensor) -> Tensor:
    """Give a state the shape of a step."""
    if state.numel() == 1:
        return state.reshape(()).expand(step.shape)
    return state.reshape(step.shape)


def after_spike(state: Tensor, spike: Tensor, value: Tensor | float) -> Tensor:
    """Return ``value`` where the last step spiked, else ``state``; no gradient flows through."""
    with torch.no_grad():
        return torch.where(spike > 0, value, state)
