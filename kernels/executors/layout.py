"""Between the layout that users see and the one that kernels walk.

Users see ``[batch, channels, (height, width,) time]``. Kernels walk ``[N, T, C]``: batch, time,
then all neurons of a sample, contiguous. A kernel's output is shown to the user as a ``movedim``
view, so the next layer gets its rows back without a copy.
"""

from typing import Any

import torch
from torch import Tensor

from .order import is_time_last, turns_tiles
from .transpose import turned


def wrong_type(x: object) -> str | None:
    """Say what an input is that no kernel can read; None for a dense tensor."""
    if not isinstance(x, Tensor):
        if type(x).__module__ == "torch.fx.proxy":
            return (
                "is a proxy of torch.fx.symbolic_trace, which cannot look into lapilli's modules. "
                "Use torch.export.export, or a torch.fx.Tracer whose is_leaf_module returns True "
                "for them."
            )
        return f"must be a torch.Tensor; got {type(x).__name__}"
    if x.is_nested:
        return "must be dense; got a nested tensor. Use x.to_padded_tensor(0.0)."
    if x.layout is not torch.strided:
        return f"must be dense; got a tensor of layout {x.layout}. Use x.to_dense()."
    if x.is_quantized:
        return f"must hold plain numbers; got a quantised tensor ({x.dtype}). Use x.dequantize()."
    if type(x).__name__ == "MaskedTensor":
        return "must be whole; got a MaskedTensor. Use x.to_tensor(0.0)."
    return None


def check_input(x: Tensor, name: str) -> None:
    """Raise unless ``x`` is a floating-point ``[batch, neurons..., time]`` tensor."""
    wrong = wrong_type(x)
    if wrong is not None:
        raise TypeError(f"{name} input {wrong}")
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
    rows = x.movedim(-1, 1)
    if rows.is_contiguous():
        if rows.ndim == 3 and rows.dtype == torch.float32:
            return rows
    elif x.dtype == torch.float32 and x.is_contiguous():
        return turned(x.flatten(1, -2))
    return rows.flatten(2).to(torch.float32).contiguous()


def operator_rows(x: Tensor) -> Tensor:
    """View ``[N, neurons..., T]`` as float32 ``[N, T, C]`` for an operator of ``kernel_op``.

    Contiguous, or on the CPU time last as ``x`` is: the operator's loops turn it tile by tile.
    """
    if turns_tiles(x) and x.is_contiguous() and x.dtype == torch.float32:
        rows = x.flatten(1, -2).transpose(1, 2)
        if is_time_last(rows):
            return rows
    return to_rows(x)


def gradient_rows(rows: Tensor) -> Tensor:
    """Return the gradient ``[N, T, C]`` for an operator of ``kernel_op``, which takes both orders.

    It may come in the layout that users see.
    """
    return rows if is_time_last(rows) else contiguous_rows(rows)


def contiguous_rows(rows: Tensor) -> Tensor:
    """Return ``[N, T, C]`` contiguous: a gradient may come in the layout that users see."""
    if rows.is_contiguous():
        return rows
    return turned(rows.transpose(1, 2))


def from_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """Show ``[N, T, C]`` as ``[N, neurons..., T]`` for neurons of ``shape``; never copies."""
    if len(shape) > 1:
        rows = rows.view(*rows.shape[:2], *shape)
    return rows.movedim(1, -1)


def state_rows(state: Tensor | None) -> Tensor | None:
    """View a state ``[N, neurons...]`` as contiguous float32 ``[N, C]``."""
    if state is None:
        return None
    if state.requires_grad or state.dtype != torch.float32:
        state = state.detach().to(torch.float32)
    return state.flatten(1).contiguous()


def from_state_rows(rows: Tensor, x: Tensor) -> Tensor:
    """Show a state ``[N, C]`` as ``[N, neurons...]`` for the input ``x``; never copies."""
    return rows if x.ndim == 3 else rows.view(x.shape[:-1])


def neurons_a_parameter(neurons: int, *parameters: Tensor) -> int:
    """How many consecutive neurons share one entry of each of the parameters, all of one size."""
    size, *others = [p.numel() for p in parameters]
    if any(other != size for other in others):  # a set would not take the sizes of a traced graph
        raise ValueError(f"parameters have different sizes {[size, *others]}; expected one size")
    if neurons % size:
        raise ValueError(
            f"{size} values of a parameter for {neurons} neurons; expected 1 value, or one a "
            "channel"
        )
    return neurons // size


def results(out: Any, *others: Any) -> Any:
    """Return what a function gives, and what else was asked of it: those that are not None."""
    found = [other for other in others if other is not None]
    return (out, *found) if found else out
