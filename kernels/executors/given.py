"""What a declared operator asks of a call, and leaves in its outputs where there are no steps."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dispatch import has_no_memory

_KINDS: dict[Any, tuple[type, ...]] = {
    int: (int, np.integer), float: (int, float, np.integer, np.floating), bool: (bool, np.bool_),
    str: (str,),
}  # fmt: skip


def check_call(
    name: str, kinds: dict[str, Any], samples: list[str], like: Tensor | None, given: dict[str, Any]
) -> None:
    """Raise unless an operator's arguments are what it declares; ``like`` is ``[N, T, C]``."""
    for n, value in given.items():
        kind = kinds[n]
        if kind in _KINDS:
            if not isinstance(value, _KINDS[kind]) or (kind is not bool and value is True):
                raise TypeError(
                    f"{name}: {n} is {value!r}; expected {kind.__name__}, as {name} declares it"
                )
        elif kind is Tensor and not isinstance(value, Tensor):
            raise TypeError(f"{name}: {n} is {value!r}; expected a tensor, as {name} declares it")
        elif value is not None and value.dtype not in (torch.float32, torch.int32):
            raise TypeError(
                f"{name}: {n} is of {value.dtype}; kernels read torch.float32, and torch.int32 "
                f"where a kernel stored that. Use {n}.float(), and leave the module in float32."
            )
    if like is None:
        raise TypeError(f"{name}: all of {', '.join(samples)} are None; expected one of them")
    if has_no_memory(like):
        return
    if like.ndim != 3:
        raise ValueError(
            f"{name}: the first of {', '.join(samples)} has shape {tuple(like.shape)}; expected "
            "[N, T, C]: samples, steps, neurons. to_rows(x) makes that of [N, neurons..., T]."
        )
    N, _, C = like.shape
    for n, value in given.items():
        if not isinstance(value, Tensor):
            continue
        if value.device != like.device:
            raise TypeError(
                f"{name}: {n} is on {value.device}, the samples are on {like.device}; expected "
                "one device. Move the module and its input with .to()."
            )
        shape = tuple(value.shape)
        if n in samples and (len(shape) not in (2, 3) or (shape[0], shape[-1]) != (N, C)):
            raise ValueError(
                f"{name}: {n} has shape {shape}; expected [{N}, T, {C}] or [{N}, {C}]: as many "
                "samples and neurons as the others. state_rows(s) makes that of [N, neurons...]."
            )
        if n not in samples and (len(shape) != 1 or not shape[0] or C % shape[0]):
            raise ValueError(
                f"{name}: {n} has shape {shape} for {C} neurons; expected [1], or [channels] where "
                "each channel has as many neurons. If it is one value a sample, name it in samples."
            )


def without_steps(output: Tensor | None, before: Tensor | None, rest: float) -> None:
    """Write what a kernel leaves in an output if there are no steps."""
    if output is not None and before is not None:
        output.copy_(before)
    elif output is not None:
        output.fill_(rest)
