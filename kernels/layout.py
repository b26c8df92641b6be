"""Between the layout that users see and the one that kernels walk.

Users see ``[batch, channels, (height, width,) time]``. Kernels walk ``[N, T, C]``: batch, time,
then all neurons of a sample, contiguous. A kernel's output is shown to the user as a ``movedim``
view, so the next layer gets its rows back without a copy.
"""

import torch
from torch import Tensor


def check_input(x: Tensor, name: str) -> None:
    """Raise unless ``x`` is a floating-point ``[batch, neurons..., time]`` tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} input must be a torch.Tensor; got {type(x).__name__}")
    if x.ndim < 3:
        raise ValueError(
            f"{name} input must be [batch, neuron dims..., time] with at least 3 dimensions; got "
            f"shape {tuple(x.shape)}. For a single sample use x.unsqueeze(0)."
        )
    if x.is_complex() or x.dtype == torch.float64:
        raise TypeError(
            f"{name} input must be float32 (float16, bfloat16, integers and bool are converted); "
            f"got {x.dtype}. Use x.float()."
        )


def to_rows(x: Tensor) -> Tensor:
    """View ``[N, neurons..., T]`` as contiguous float32 ``[N, T, C]``; copy only if needed."""
    return x.movedim(-1, 1).flatten(2).to(torch.float32).contiguous()


def from_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """Show ``[N, T, C]`` as ``[N, neurons..., T]`` for neurons of ``shape``; never copies."""
    return rows.view(*rows.shape[:2], *shape).movedim(1, -1)


def state_rows(state: Tensor | None) -> Tensor | None:
    """View a state ``[N, neurons...]`` as contiguous float32 ``[N, C]``."""
    return None if state is None else state.detach().flatten(1).to(torch.float32).contiguous()


def neurons_a_parameter(neurons: int, *parameters: Tensor) -> int:
    """How many consecutive neurons share one entry of each of the parameters, all of one size."""
    sizes = {p.numel() for p in parameters}
    if len(sizes) != 1:
        raise ValueError(f"parameters have different sizes {sorted(sizes)}; expected one size")
    (size,) = sizes
    if neurons % size:
        raise ValueError(
            f"{size} values of a parameter for {neurons} neurons; expected 1 value, or one a "
            "channel"
        )
    return neurons // size
