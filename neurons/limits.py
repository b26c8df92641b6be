"""Parameters that stay within a range: what forward uses, and what it writes back.

In eager mode a parameter is moved into its range in place, before it is used, and must be finite
(looked at on the CPU only, where looking costs nothing; a frozen parameter of many values only if
it was written since, which assignments through ``.data`` do not show). ``torch.compile`` moves it
as well, but does not look: a graph cannot raise because of a value.

What is not the module's own parameter is not written, and the range is applied to what is used:
``torch.export`` must not change parameters, ``torch.func`` passes those of somebody else or allows
no writing, and parametrisations, pruning and FSDP compute the value from another parameter. The
unsharded parameters of FSDP2 are written, but live for one forward only, so that the shards may
hold values out of range; what is computed is the same.
"""

import math
from collections.abc import Callable

import torch
from lapilli.kernels.dispatch import is_transformed
from torch import Tensor
from torch.nn import Parameter
from torch.nn.parameter import is_lazy


def own_parameter(module: torch.nn.Module, name: str) -> Parameter | None:
    """Return the parameter of a module that forward may write; None where there is none."""
    parameter = module._parameters.get(name)
    if type(parameter) is Parameter:
        return parameter
    own = isinstance(parameter, Parameter) and not is_lazy(parameter)
    return parameter if own else None


def value_of(module: torch.nn.Module, name: str) -> Tensor:
    """Return what stands for a parameter; quicker than ``getattr``."""
    parameter = module._parameters.get(name)
    return getattr(module, name) if parameter is None else parameter


def _is_foreign_code() -> bool:
    """Whether forward runs where it may write no parameter."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return is_transformed()


def confined(module: torch.nn.Module, name: str, low: float, high: float | None) -> Tensor:
    """Return a parameter within its range, as forward uses it; see the module's docstring.

    Raises
    ------
    ValueError
        For a parameter that is not finite, in eager mode on the CPU.
    """
    parameter = own_parameter(module, name)
    if parameter is None or _is_foreign_code():
        return value_of(module, name).clamp(low, high)
    if torch.compiler.is_compiling():
        with torch.no_grad():
            parameter.clamp_(low, high)
        return parameter
    require_finite(module, name, parameter)
    parameter.data.clamp_(low, high)
    return parameter


def confined_together(
    module: torch.nn.Module, names: tuple[str, ...], limit: Callable[..., tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Return parameters that limit each other, as ``confined`` does; ``limit`` takes them all."""
    own = [own_parameter(module, name) for name in names]
    if any(p is None for p in own) or _is_foreign_code():
        return limit(*(value_of(module, name) for name in names))
    for name, parameter in zip(names, own, strict=True):
        require_finite(module, name, parameter)
    with torch.no_grad():
        moved = limit(*own)
        for parameter, value in zip(own, moved, strict=True):
            if torch.compiler.is_compiling():
                parameter.copy_(value)
            else:
                parameter.data.copy_(value)  # autograd must not take it for a change
    return tuple(own)


def require_finite(module: torch.nn.Module, name: str, parameter: Tensor) -> None:
    """Raise ValueError unless a parameter on the CPU is finite; not while a graph is traced."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return
    if type(parameter) is not Parameter or not parameter.is_cpu:
        return
    if parameter.numel() == 1:
        finite = math.isfinite(parameter.item())
    else:
        seen = None
        if not parameter.requires_grad and not parameter.is_inference():
            seen = parameter._version, parameter.data_ptr()
            if module._seen_finite.get(name) == seen:
                return
        finite = bool(parameter.isfinite().all())
        if finite and seen is not None:
            module._seen_finite[name] = seen
    if not finite:
        raise ValueError(
            f"{name} of a {type(module).__module__}.{type(module).__name__} is not finite: "
            f"{parameter.tolist()}. Training has diverged; lower the learning rate."
        )
