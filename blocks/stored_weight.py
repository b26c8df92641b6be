"""The weight of a synapse as it is stored, and the arguments that say what it looks like.

It is a parameter of torch, or under weight norm two: direction and length.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lapilli.kernels.synapses.normalize import normalized_weight, norms_of_rows
from lapilli.neurons.errors import finite, flag, function, whole_number
from lapilli.neurons.precision import KeepsFloat32
from torch import Tensor
from torch.nn.utils.weight_norm import WeightNorm

Pair = int | tuple[int, int]
Hook = Callable[..., Tensor]


def entries(value: Any) -> tuple[Any, ...] | None:
    """Return the entries of a tuple, list, array or tensor; None for a single number."""
    try:
        return tuple(value)
    except TypeError:
        return None


def checked_hook(given: Hook | None) -> Hook | None:
    """Return a function of the weight, or None."""
    return function("pre_hook_fx", given, "a function of the weight")


def as_pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Check an argument that is an integer or a pair (height, width)."""
    values = entries(value)
    if values is None:
        values = (value, value)
    if len(values) != 2:
        raise ValueError(
            f"{name} must be an integer or a pair (height, width); got {value!r} of length "
            f"{len(values)}"
        )
    return whole_number(name, values[0], least), whole_number(name, values[1], least)


_TIME = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}


class SplitWeight(WeightNorm):
    """Mark of a weight that is stored as direction and length, by which torch finds it.

    ``torch.nn.utils.remove_weight_norm`` looks for such a hook. It has nothing to do at a call: the
    weight is computed whenever it is read.
    """

    def __call__(self, module: torch.nn.Module, inputs: Any) -> None:
        """Do nothing."""

    def remove(self, module: Any) -> None:
        """Store the weight as it is."""
        if not {"weight_g", "weight_v"} <= module._parameters.keys():
            raise ValueError(
                "weight norm cannot be removed while its direction or length is pruned; call "
                "torch.nn.utils.prune.remove(synapse, 'weight_v') first"
            )
        module._register_weights(weight=module.weight)


class StoredWeight(KeepsFloat32, torch.nn.Module):
    """The stored weight of a synapse: drawn, split under weight norm, checked when set."""

    weight: Tensor
    weight_g: torch.nn.Parameter
    weight_v: torch.nn.Parameter
    learned = True  # whether training changes the weight
    _pre_hook_fx: Hook | None = None
    _weight_scale = 1.0

    def _begin(
        self, weight_scale: float, weight_norm: bool, pre_hook_fx: Hook | None, *args: Any
    ) -> None:
        """Build the convolution of the given arguments, whose weight torch's generator draws."""
        self._weight_scale = float(finite("weight_scale", weight_scale))
        enabled = flag("weight_norm", weight_norm)
        super().__init__(*args, dtype=torch.float32)
        self.weight.requires_grad_(self.learned)
        self._pre_hook_fx = checked_hook(pre_hook_fx)
        if enabled:
            self.enable_weight_norm()

    def reset_parameters(self) -> None:
        """Draw the weight anew, as at construction, in place; a bias becomes zero.

        Raises
        ------
        ValueError
            If a parametrisation computes the weight.
        """
        enabled = self.weight_norm_enabled
        stored = self._stored("weight_v" if enabled else "weight")
        if stored is None:
            raise ValueError("a parametrisation computes the weight; remove it, then draw anew")
        with torch.no_grad():
            weight = _drawn(stored)
            self._start_from(weight)
            stored.copy_(weight)
            if enabled:
                gain: Any = self._stored("weight_g")
                gain.copy_(norms_of_rows(weight))
            if self.bias is not None:
                self.bias.zero_()

    def _start_from(self, weight: Tensor) -> None:
        """Turn the weight that was drawn into the one to start from, in place."""
        weight.mul_(self._weight_scale)

    def _register_weights(self, **weights: Tensor) -> None:
        for name in ("weight", "weight_g", "weight_v"):
            self._parameters.pop(name, None)
        for name, weight in weights.items():
            self.register_parameter(
                name, torch.nn.Parameter(weight.detach(), requires_grad=self.learned)
            )

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and "weight" not in self._parameters and self.weight_norm_enabled:
            return normalized_weight(self.weight_v, self.weight_g)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _TIME:
            value = self._in_space(name, value)
        elif name == "groups":
            value = self._of_groups(whole_number(name, value))
        elif name == "transposed" and value != self.__dict__.get(name, value):
            raise AttributeError("transposed cannot be set; use a ConvTranspose or a Conv")
        elif name == "padding_mode" and value != "zeros":
            raise ValueError(
                f"padding_mode must be 'zeros'; got {value!r}. Pad the input before the block, "
                f"with torch.nn.functional.pad."
            )
        elif name == "weight" and self._computes_weight():
            raise AttributeError(
                "weight cannot be set under weight norm, which computes it from weight_v "
                "(direction) and weight_g (length); set these, or call disable_weight_norm() first"
            )
        super().__setattr__(name, value)

    def _in_space(self, name: str, value: Any) -> tuple[int, int, int]:
        """Check what is set as size of a kernel, stride and so on; return all three entries."""
        values = entries(value)
        time = _TIME[name]
        if values is not None and len(values) == 3:
            if values[2] != time:
                raise ValueError(
                    f"{name} of a synapse must be (height, width, {time}): it maps every step by "
                    f"itself; got {value!r}"
                )
            value = values[:2]
        least = 0 if time == 0 else 1
        pair = as_pair(name, value, least)
        if name == "output_padding" and any(pair):
            raise ValueError(
                f"output_padding must be 0; got {value!r}. Pad the output of the block, with "
                f"torch.nn.functional.pad."
            )
        return (*self._of_space(name, pair), time)

    def _of_space(self, name: str, pair: tuple[int, int]) -> tuple[int, int]:
        return pair

    def _of_groups(self, groups: int) -> int:
        return groups

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        """Register a parameter; raises where pruning wants to store a weight that is computed."""
        if name == "weight_orig" and self._computes_weight():
            raise ValueError(
                "weight cannot be pruned under weight norm, which computes it from weight_v and "
                "weight_g; prune 'weight_v', whose zeros are those of the weight, or call "
                "disable_weight_norm() first"
            )
        super().register_parameter(name, param)

    def _computes_weight(self) -> bool:
        """Whether this class computes the weight when it is read; torch's tools do not count."""
        hooks = self.__dict__.get("_forward_pre_hooks", {})
        return any(type(hook) is SplitWeight for hook in hooks.values())

    @property
    def weight_norm_enabled(self) -> bool:
        """Whether the weight is stored as length ``weight_g`` and direction ``weight_v``."""
        stored = self._parameters
        return "weight_g" in stored or "weight_v" in stored or "weight_g_orig" in stored

    @weight_norm_enabled.setter
    def weight_norm_enabled(self, enabled: bool) -> None:
        if enabled:
            self.enable_weight_norm()
        else:
            self.disable_weight_norm()

    def enable_weight_norm(self) -> None:
        """Store the weight as a direction and a length for each entry of axis 0.

        Raises
        ------
        ValueError
            If the weight is no parameter, because one of torch's tools computes it.
        """
        if self.weight_norm_enabled:
            return
        if "weight" not in self._parameters:
            raise ValueError(
                "weight norm needs a weight that is a parameter, but one of torch's tools "
                "(pruning, a parametrisation, spectral norm) computes it; remove that first"
            )
        weight = self.weight.detach()
        self._register_weights(weight_g=norms_of_rows(weight), weight_v=weight)
        self.register_forward_pre_hook(SplitWeight("weight", 0))

    def disable_weight_norm(self) -> None:
        """Store the weight as it is; its value does not change."""
        if self.weight_norm_enabled:
            torch.nn.utils.remove_weight_norm(self)

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return (self.weight_v if self.weight_norm_enabled else self.weight).shape

    def _stored(self, name: str) -> torch.nn.Parameter | None:
        """Return the parameter ``name``, also where pruning or spectral norm hold it."""
        own = self._parameters
        return own.get(name, own.get(f"{name}_orig"))


def _drawn(weight: Tensor) -> Tensor:
    """Draw entries as torch does for a new convolution, uniform within 1 / sqrt(fan-in).

    torch scales its numbers by one instruction or by two, as the processor has it, and these round
    differently. Here they are scaled in float64 and rounded once, like by one instruction.
    """
    bound = float(np.float32(1 / math.sqrt(weight[0].numel())))
    return (torch.rand_like(weight).double() * (2 * bound) - bound).to(weight.dtype)
