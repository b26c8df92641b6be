"""Parameters that stay within a range: what forward uses, and what it writes back.

In eager mode a parameter is moved into its range in place, before it is used, and must be finite
(looked at on the CPU only, where looking costs nothing; a frozen parameter of many values only if
it was written since, which assignments through ``.data`` do not show). ``torch.compile`` moves it
as well, but does not look: a graph cannot raise because of a value.

What is not the module's own parameter is not written, and the range is applied to what is used:
``torch.export`` and ``torch.jit.trace`` must not change parameters, ``torch.func`` passes those of
somebody else or allows no writing, a graph of ``make_fx`` would write to a view of the parameter,
which autograd refuses from torch 2.15 on, and parametrisations, pruning and FSDP compute the value
from another parameter. The unsharded parameters of FSDP2 are written, but live for one forward
only, so that the shards may hold values out of range; what is computed is the same.

Decays are in units of 1/4096, in which an optimizer that trains weights does not move them: a step
of Adam is as large as its rate. So a decay that is learned has a second parameter beside it,
``<name>_update``, a share of the decay, which starts at 0: at 0.1 the decay is a tenth higher, at
-0.1 a tenth lower. So a step of the optimizer changes a time constant by as many percent whether it
is long or short. What is used is the decay with its update, and both get its gradient. The
parameter is set to that, and the update to 0, at each call, at each look at the parameter, and
where a state dict is made.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.executors.dispatch import runs_loops
from lapilli.kernels.executors.operators import (
    define_op,
    differentiable,
    is_exported,
    is_transformed,
)
from lapilli.kernels.numbers.fixed_point import DECAY_SCALE
from lapilli.kernels.synapses.frame import is_within
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn import Parameter
from torch.nn.parameter import is_lazy

_LARGEST = torch.finfo(torch.float32).max


@define_op(any_layout="x")
def used_once(x: Tensor) -> Tensor:
    """Copy a parameter for one call: a graph keeps the copy for backward.

    It would keep the parameter, which the next call may write to.
    """
    return x.clone()


differentiable(used_once, lambda ctx, g: g, lambda ctx, inputs, output: None)


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


UPDATE = "_update"  # end of the name of what is learned of a decay
LEAST_WORTH = DECAY_SCALE / 64  # so that a decay of 0 can be left


class _DecayParameter:
    """Attribute of a decay: the parameter, set to what was learned of it; see the module."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        name = self._name
        if name in module.__dict__:  # pruning computes it from another
            return module.__dict__[name]
        parameter = module.__dict__.get("_parameters", {}).get(name)
        if parameter is None:
            raise AttributeError(f"a {type(module).__name__} has no parameter {name}")
        settle_update(module, name)
        return parameter

    def __set__(self, module: Any, value: Any) -> None:
        module.__dict__[self._name] = value

    def __delete__(self, module: Any) -> None:
        del module.__dict__[self._name]


def decay_parameter() -> Any:
    """Make the attribute of a decay; type checkers take its type from the class."""
    return _DecayParameter()


def settle_update(module: torch.nn.Module, name: str) -> None:
    """Add what was learned of a decay to the parameter itself, where both may be written."""
    update = own_parameter(module, name + UPDATE)
    parameter = own_parameter(module, name)
    if update is None or parameter is None or is_foreign_code():
        return
    if parameter.shape != update.shape:  # of which one has no size yet
        return
    if torch.compiler.is_compiling():
        with torch.no_grad():
            parameter.addcmul_(update, _worth(parameter))
            update.zero_()
        return
    value = parameter.data  # autograd must not take it for a change
    value.addcmul_(update.data, _worth(value))
    update.data.zero_()


def _worth(decay: Tensor) -> Tensor:
    """Return what an update of 1 adds to a decay, in units; without gradient."""
    return decay.detach().abs().clamp(min=LEAST_WORTH)


def _with_update(module: torch.nn.Module, name: str, value: Tensor) -> Tensor:
    """Return a decay with its update added, in units; both get the gradient of the sum."""
    update = module._parameters.get(name + UPDATE)
    if update is None:
        return value
    if not torch.compiler.is_compiling() and is_lazy(update):  # nothing is learned as yet
        return value
    return value + (_worth(value) * update).detach() + (update - update.detach())


def _with_settled(module: torch.nn.Module, name: str, parameter: Parameter) -> Tensor:
    """Return a decay of which ``settle_update`` has left the update at 0; both get its gradient."""
    update = own_parameter(module, name + UPDATE)
    if update is None or update.shape != parameter.shape:
        return _with_update(module, name, parameter)
    return parameter + update if torch.is_grad_enabled() else parameter  # one launch, not six


def _moved(value: Tensor, limited: Tensor) -> Tensor:
    """Return ``limited`` with the gradient of ``value``, as a parameter has that was moved."""
    return limited + (value - value.detach())


def is_foreign_code() -> bool:
    """Whether forward runs where it may write no parameter; see the module's docstring."""
    if torch.compiler.is_compiling():
        return is_exported()
    if is_transformed() or torch._C._get_tracing_state() is not None:
        return True
    return bool(torch._C._len_torch_dispatch_stack()) and get_proxy_mode() is not None


def confined(module: torch.nn.Module, name: str, low: float, high: float | None) -> Tensor:
    """Return a parameter within its range, as forward uses it; see the module's docstring.

    Raises
    ------
    ValueError
        For a parameter that is not finite, in eager mode on the CPU.
    """
    parameter = own_parameter(module, name)
    if parameter is None or is_foreign_code():
        value = _with_update(module, name, value_of(module, name))
        return _moved(value, value.detach().clamp(low, high))
    settle_update(module, name)
    if torch.compiler.is_compiling():
        with torch.no_grad():
            parameter.clamp_(low, high)
        return used_once(_with_update(module, name, parameter))
    if not _lies_within(parameter, low, high):
        require_finite(module, name, parameter)
        parameter.data.clamp_(low, high)
    return _with_settled(module, name, parameter)


def _lies_within(parameter: Parameter, low: float, high: float | None) -> bool:
    """Whether a parameter certainly needs neither a move nor a message: the usual case, quickly."""
    if not runs_loops(parameter) or torch._C._len_torch_dispatch_stack():
        return False
    high = _LARGEST if high is None else high
    if parameter.numel() == 1:
        return low <= parameter.item() <= high
    return parameter.ndim == 1 and parameter.is_contiguous() and is_within(parameter, low, high)


def confined_together(
    module: torch.nn.Module, names: tuple[str, ...], limit: Callable[..., tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Return parameters that limit each other, as ``confined`` does; ``limit`` takes them all."""
    own: list[Any] = [own_parameter(module, name) for name in names]
    if any(p is None for p in own) or is_foreign_code():
        values = [_with_update(module, name, value_of(module, name)) for name in names]
        limited = limit(*(value.detach() for value in values))
        return tuple(map(_moved, values, limited))
    for name, parameter in zip(names, own, strict=True):
        settle_update(module, name)
        require_finite(module, name, parameter)
    with torch.no_grad():
        moved = limit(*own)
        for parameter, value in zip(own, moved, strict=True):
            if torch.compiler.is_compiling():
                parameter.copy_(value)
            else:
                parameter.data.copy_(value)  # autograd must not take it for a change
    if torch.compiler.is_compiling():
        pairs = zip(names, own, strict=True)
        return tuple([used_once(_with_update(module, name, p)) for name, p in pairs])
    return tuple([_with_settled(module, name, p) for name, p in zip(names, own, strict=True)])


def require_finite(module: Any, name: str, parameter: Tensor) -> None:
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
