"""Parameters whose size, or whose values, are known after the constructor.

A block knows its channels and sizes the parameters of each channel when it is built. A neuron or a
delay that is used alone does not: there they are torch's ``UninitializedParameter`` until the first
call, the same object afterwards, with all that torch says about such parameters.

Values that differ from channel to channel are drawn at the first call, in lava-dl's order, so that
a seeded script starts from lava-dl's network. Until then a sized parameter has provisional values
from the same range. They are replaced only where nobody has touched the parameter: it is the object
that the constructor made (not a copy), nothing was written into it (by an optimiser, a checkpoint,
``DistributedDataParallel``), and no process group of ``torch.distributed`` is there, whose ranks
must agree.
"""

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.nn.parameter import Parameter, UninitializedParameter, is_lazy


def size(module: Any, name: str, values: torch.Tensor) -> None:
    """Put a parameter in the place of one without a size, to which nobody refers yet."""
    before = module._parameters[name]
    with torch.inference_mode(False):  # as below
        values = values.to(before.device).clone()  # a copy, into which nothing was written since
        module._parameters[name] = Parameter(values, before.requires_grad)
    module._unsized.discard(name)


def size_provisionally(module: Any, name: str, values: torch.Tensor) -> None:
    """Do as ``size``; the values are to be drawn at the first call."""
    size(module, name, values)
    mark_provisional(module._parameters[name])


def fill(module: Any, name: str, values: torch.Tensor) -> None:
    """Write values into a parameter, and give it their size where it has none."""
    parameter = module._parameters[name]
    # never an inference tensor, which no training call could save
    with torch.inference_mode(False):
        if not is_lazy(parameter):
            parameter.data.copy_(values)
        elif isinstance(values, FakeTensor):  # torch cannot give one to a real parameter
            size(module, name, values)
        else:
            parameter.materialize(values.shape, dtype=torch.float32)
            parameter.data.copy_(values)
            module._unsized.discard(name)


def resize(entry: torch.Tensor, values: torch.Tensor) -> None:
    """Give a parameter or buffer other values and another size; the object stays the same."""
    with torch.inference_mode(False):
        entry.data = values.to(device=entry.device, dtype=entry.dtype, copy=True)


def assign(module: Any, name: str, values: torch.Tensor) -> None:
    """Give a parameter values that are its own, and their size; the object stays the same."""
    if is_lazy(module._parameters[name]):
        fill(module, name, values)
    else:
        resize(module._parameters[name], values)
        unmark(module._parameters[name])


def mark_provisional(parameter: Parameter) -> None:
    """Say that the values of a parameter are to be drawn at the first call."""
    # on the object: copies and substitutes do not have it
    parameter._provisional = parameter._version  # type: ignore[attr-defined]


def is_to_be_drawn(parameter: torch.Tensor) -> bool:
    """Whether the first call draws the values of a parameter, see the module's docstring."""
    if is_lazy(parameter):
        return True
    version = getattr(parameter, "_provisional", None)
    return version is not None and version == parameter._version and not is_distributed()


def is_distributed() -> bool:
    """Whether this process is one of several that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def unmark(parameter: torch.Tensor) -> None:
    """Say that the values of a parameter are its own."""
    vars(parameter).pop("_provisional", None)


class LazySize:
    """Mixin of modules with entries that get their size from a first call or from a checkpoint.

    ``state_dict`` and ``load_state_dict`` treat parameters without a size as torch's
    ``LazyModuleMixin`` does. Beyond that, the entries named in ``lazy_sizes`` take the size of the
    checkpoint while they hold one value, and one value loads into a sized entry by broadcast.
    ``_sized(name)`` is called for what has got its values, so that they are not drawn again.
    """

    lazy_sizes: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._unsized: set[str] = set()  # names; a graph cannot ask the parameters

    def _register_unsized(self, name: str, requires_grad: bool) -> None:
        """Register a float32 parameter without a size."""
        with unset_fake_temporarily():  # torch cannot make a fake one
            make: Any = UninitializedParameter  # its types do not have dtype
            parameter = make(requires_grad=requires_grad, dtype=torch.float32)
        self.register_parameter(name, parameter)  # type: ignore[attr-defined]
        self._unsized.add(name)

    def _require_sizes(self) -> None:
        """Raise while a graph is made of a module whose parameters have no size."""
        if self._unsized:
            raise RuntimeError(
                f"{', '.join(sorted(self._unsized))} of a {type(self).__name__} has no size yet: "
                f"call the network once before it is compiled or exported"
            )

    def _sized(self, name: str) -> None:
        """Note that an entry has its final size and values."""

    def _holds_nothing(self, name: str, saved: torch.Tensor) -> bool:
        """Whether the one value that was saved is that of a module that was never called."""
        return False

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        lazy = {n: p for n, p in self._parameters.items() if p is not None and is_lazy(p)}  # type: ignore[attr-defined]
        if not lazy:
            super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[misc]
            return
        entries = [*self._parameters.items(), *self._buffers.items()]  # type: ignore[attr-defined]
        for name, entry in entries:
            if entry is None or name in self._non_persistent_buffers_set:  # type: ignore[attr-defined]
                continue
            as_it_is = keep_vars or name in lazy  # torch cannot detach what has no size
            destination[prefix + name] = entry if as_it_is else entry.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        assigning = local_metadata.get("assign_to_params_buffers", False)
        undrawn = []
        for name in self.lazy_sizes:
            saved = state_dict.get(prefix + name)
            entry = self._parameters.get(name, self._buffers.get(name))  # type: ignore[attr-defined]
            if saved is None or entry is None or is_lazy(saved):
                continue
            if saved.numel() == 1 and self._holds_nothing(name, saved):
                state_dict[prefix + name] = entry
                undrawn += [] if is_lazy(entry) else [name]
                continue
            if is_lazy(entry):
                if not assigning:
                    fill(self, name, torch.zeros(saved.shape, dtype=torch.float32))  # type: ignore[arg-type]
            elif saved.numel() == 1 and entry.numel() > 1:
                state_dict[prefix + name] = saved.expand_as(entry).clone()
            elif saved.shape != entry.shape and entry.numel() in (1, saved.numel()):
                resize(entry, entry.detach().new_zeros(saved.shape))
            if saved.numel() > 1 or (entry.numel() if not is_lazy(entry) else 1) > 1:
                self._sized(name)
        super()._load_from_state_dict(  # type: ignore[misc]
            state_dict, prefix, local_metadata, *args, **kwargs
        )
        self._unsized = {name for name in self._unsized if is_lazy(self._parameters[name])}  # type: ignore[attr-defined]
        for name in undrawn:
            mark_provisional(self._parameters[name])  # type: ignore[attr-defined]
