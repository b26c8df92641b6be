"""One block from its layer: ``Builder``, which walks the tables of the file."""

import functools
import importlib
import inspect
import math
from types import ModuleType
from typing import Any

import numpy as np
import torch
from lapilli.export.file.errors import LayerError
from lapilli.export.file.layers import (
    Layer,
    competition_bias,
    is_shifted,
    neuron_options,
    option,
    overflow_of,
    scale_of,
)
from lapilli.export.file.shapes import input_channels
from lapilli.export.file.tables import FAMILIES, FLAGS, KINDS, NEVER_FIRES, NORMS, P_SCALE
from lapilli.neurons.lazy import assign
from torch import Tensor

from lapilli import neurons

_ACTIVATIONS = {
    name: getattr(torch.nn.functional, name)
    for name in (
        "elu", "gelu", "leaky_relu", "relu", "relu6", "sigmoid", "silu", "softplus", "tanh",
    )
} | {"identity": None}  # fmt: skip


class Grid:
    """Hook of loaded weights that are no 8-bit values: keeps them, as integers over ``scale``."""

    def __init__(self, scale: int):
        self.scale = scale

    def __call__(self, weight: Tensor, descale: bool = False) -> Tensor:
        """Return the weight, or with ``descale`` its integers."""
        return weight * self.scale if descale else weight


def block_class(module: str, name: str) -> Any:
    """Return the class of a block; ``LayerError`` where there is none."""
    try:
        return getattr(importlib.import_module(f"lapilli.blocks.{module}"), name)
    except (ImportError, AttributeError):
        raise LayerError(
            "type", f"needs the block {module}.{name}, which lapilli does not have"
        ) from None


def with_shape(block: Any, shape: tuple[int, ...]) -> Any:
    """Tell a block the shape that it would learn at its first forward."""
    size = torch.Size(shape)
    if hasattr(block, "input_shape"):
        block.input_shape = size
    if getattr(block, "neuron", None) is not None:
        block.neuron.shape, block.neuron.num_neurons = size, math.prod(shape)
    elif not hasattr(block, "input_shape"):
        block.shape = size
    return block


class Builder:
    """Build one block: structure and values from the datasets, options from the attributes."""

    def __init__(self, layer: Layer):
        self.layer, self.data, self.params = layer, layer.data, layer.params
        self.family = FAMILIES[layer.module]
        self.neuron_options = neuron_options(layer)
        self.scale = scale_of(layer)
        cls = block_class(layer.module, layer.block)
        self.block = cls(**self._arguments())
        if layer.state is None:
            self._set_weights()
        self._set_neuron()
        self._set_delay()
        if layer.state is not None:
            self.block.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state.items()})
        with_shape(self.block, layer.shape)

    # constructor

    def _arguments(self) -> dict[str, Any]:
        layer, kind = self.layer, KINDS[self.layer.block]
        arguments: dict[str, Any] = {}
        for flag, type_ in kind.flags.items():
            value = option(self.params, flag, type_, None)
            if value is not None:
                arguments[flag] = value
        if "delay_shift" in kind.flags:
            arguments["delay_shift"] = is_shifted(layer)
        match layer.block:
            case "Average":
                arguments["num_outputs"] = layer.shape[0]
            case "TimeDecimation":
                arguments["factor"] = int(self.data["factor"])
            case "Input":
                arguments |= {n: self._input_value(n) for n in ("weight", "bias")}
        if kind.synapses:
            arguments |= self._structure()
            arguments |= self._training_options()
        if kind.synapses or layer.neuron:
            arguments["neuron_params"] = self._neuron_arguments()
        if layer.block == "Affine":
            arguments["dynamics"] = layer.neuron is not None
        return arguments

    def _input_value(self, name: str) -> float | None:
        if name in self.data:
            return float(self.data[name]) / self.scale
        return 0.0 if name in (self.layer.state or {}) else None

    def _structure(self) -> dict[str, Any]:
        weight = next(iter(self.layer.weights().values()))
        match self.layer.type:
            case "dense" | "dense_rec":
                inputs = self.params.get("in_neurons", weight.shape[1])
                if isinstance(inputs, list):
                    inputs = tuple(inputs)
                sizes = inputs if isinstance(inputs, tuple) else (inputs,)
                if (
                    not all(type(n) is int and n > 0 for n in sizes)
                    or math.prod(sizes) != weight.shape[1]
                ):
                    raise LayerError("@params", f"in_neurons is {inputs!r}, but the weight has "
                                     f"{weight.shape[1]} inputs")  # fmt: skip
                return {"in_neurons": inputs, "out_neurons": weight.shape[0]}
            case "conv" | "convT":
                groups = int(self.data["groups"])
                channels = {
                    "in_features": input_channels(self.layer),
                    "out_features": self.layer.shape[0],
                    "groups": groups,
                }
            case _:
                channels = {}
        window = {n: tuple(self.data[n].tolist()) for n in ("stride", "padding", "dilation")}
        return {**channels, "kernel_size": weight.shape[2:], **window}

    def _training_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        state = self.layer.state
        if "delay" in self.data:
            options["delay"] = True
        if state is not None:
            if option(self.params, "weight_norm", bool, False):
                options["weight_norm"] = True
            if "mask" in state:
                mask = state["mask"]
                if mask.ndim != 5:
                    raise LayerError(
                        "lapilli/state/mask", f"has shape {mask.shape}; expected 5 dimensions"
                    )
                options["mask"] = torch.from_numpy(mask[:, :, 0, 0, 0])
        return options

    # neuron

    def _neuron_module(self) -> ModuleType:
        return importlib.import_module(f"lapilli.neurons.{self.layer.module}")

    def _neuron_arguments(self) -> dict[str, Any]:
        options, data = self.neuron_options, self.data
        known = inspect.signature(self._neuron_module().Neuron).parameters
        flags = [n for n in FLAGS if n in known and n != "shared_param"]
        arguments = {n: option(options, n, bool, None) for n in flags}
        arguments |= {n: option(options, n, float, None) for n in ("tau_grad", "scale_grad")}
        arguments = {n: v for n, v in arguments.items() if v is not None}
        arguments["scale"] = self.scale
        if "neuron/gradedSpike" in data:
            arguments["graded_spike"] = data["neuron/gradedSpike"]
        per_channel = any(
            np.ndim(v)
            for n, v in data.items()
            if n.startswith("neuron/") and n[7:] in self.family.decays
        )
        per_channel |= data.get("neuron/vThMant", np.array(0)).ndim > 0  # of sigma-delta neurons
        arguments["shared_param"] = not per_channel and option(options, "shared_param", bool, True)
        arguments |= self._dynamics_arguments()
        if arguments["threshold"] * self.scale < 1 and self.layer.neuron != "SDNN":
            raise LayerError(
                "@params", f"threshold {arguments['threshold']} is below 1/{self.scale}"
            )
        if self.layer.module == "sigma_delta":
            arguments["activation"] = self._activation()
        if overflow_of(self.layer) != "saturate":
            arguments["overflow"] = overflow_of(self.layer)
        arguments["norm"] = self._norm()
        drop = option(options, "dropout", dict, None)
        if drop is not None:
            arguments["dropout"] = neurons.Dropout(
                option(drop, "p", float, 0.5), option(drop, "inplace", bool, False)
            )
        return arguments

    def _dynamics_arguments(self) -> dict[str, Any]:
        """Threshold and decays, from the device values or, where there are none, the options."""
        device = {
            n.removeprefix("neuron/"): v for n, v in self.data.items() if n.startswith("neuron/")
        }
        threshold = option(self.neuron_options, "threshold", float, 1.0)
        if not device:  # Affine without dynamics: the values are never used
            device = {"vThMant": threshold * self.scale}
            for dataset, parameter in self.family.decays.items():
                share = self.neuron_options.get(parameter)
                share = share[0] if isinstance(share, list) and share else share
                device[dataset] = P_SCALE * option({parameter: share}, parameter, float, 0.5)
        arguments = self._neuron_module().neuron_params(device, self.scale)
        if np.all(device["vThMant"] == NEVER_FIRES):
            arguments["threshold"] = threshold
        limits = {"period": (4, math.inf), "decay": (0, 1)}  # rounding may pass them
        for name, value in arguments.items():
            value = np.clip(np.asarray(value, np.float64), *limits.get(name, (-math.inf, math.inf)))
            arguments[name] = (
                (value.min().item(), value.max().item()) if value.ndim else value.item()
            )
        if isinstance(arguments["threshold"], tuple):  # sigma-delta, one a channel
            arguments["threshold"] = arguments["threshold"][0]
        return arguments

    def _activation(self) -> Any:
        name = self.data.get("neuron/activation", "relu")
        if name not in _ACTIVATIONS:
            raise LayerError(
                "neuron/activation", f"is {name!r}; known are {', '.join(_ACTIVATIONS)}"
            )
        return _ACTIVATIONS[name]

    def _norm(self) -> Any:
        """Class of the norm with its arguments, or None."""
        options = option(self.neuron_options, "norm", dict, None)
        has_exponent = any(n.startswith("neuron/weight_exp") for n in self.data)
        if options is None:
            has_bias = "bias" in self.data or "bias/real" in self.data
            is_delta = self.layer.module == "sigma_delta"
            if self.layer.type == "input" or not (has_exponent or (has_bias and not is_delta)):
                return None
            options = {"class": NORMS[has_exponent]}
            if self.layer.block == "KWTA" and self.params:
                return None  # the bias is that of the competition
        name = option(options, "class", str, "")
        if name not in NORMS:
            raise LayerError("@params", f"norm is {name!r}; known are {', '.join(NORMS)}")
        given = {"momentum": option(options, "momentum", float, 0.1)}
        if name == "WgtScaleBatchNorm":
            given["weight_exp_bits"] = option(options, "weight_exp_bits", int, 3)
            given["eps"] = option(options, "eps", float, 1e-5)
        return functools.partial(getattr(neurons.norm, name), **given)

    # values

    def _set_weights(self) -> None:
        for name, attribute in KINDS[self.layer.block].synapses.items():
            synapse = getattr(self.block, attribute)
            parts = {name: synapse}
            if self.layer.is_complex:
                parts = {f"{name}/real": synapse.real, f"{name}/imag": synapse.imag}
            quantize, exact = self.block.neuron.quantize_8bit, True
            for part, real in parts.items():
                weight = torch.from_numpy(self.data[part]) / self.scale
                real.weight.data = weight.reshape(real.weight.shape)
                exact &= torch.equal(
                    quantize(weight, descale=True).round(), torch.from_numpy(self.data[part])
                )
            if not exact:
                synapse.pre_hook_fx = Grid(self.scale)
        if self.layer.block == "KWTA":
            own = sum(float(w[0, 0]) for w in self.layer.weights("weight_rec").values())
            self.block.self_excitation.data.fill_(own / self.scale)

    def _set_neuron(self) -> None:
        neuron = getattr(self.block, "neuron", None)
        if neuron is None:
            return
        for dataset, parameter in self.family.decays.items():
            value = self.data.get(f"neuron/{dataset}")
            if value is not None:
                values = _tensor(value).reshape(-1)
                if not neuron.shared_param:
                    values = values.expand(self.layer.shape[0]).clone()
                assign(neuron, parameter, values)
            neuron._sized(parameter)
        if self.layer.module == "sigma_delta" and not neuron.shared_param:
            thresholds = _tensor(self.data["neuron/vThMant"]) / self.scale
            each = thresholds.expand(self.layer.shape[0]).clone()
            each = each.reshape(-1, *(1,) * (len(self.layer.shape) - 1))
            assign(neuron.delta, "threshold", each)
            neuron.clamp()
        own = self.data.get("lapilli/threshold")
        if own is not None:
            threshold = neuron.delta.threshold
            each = _tensor(own).reshape(-1).expand(threshold.numel())
            threshold.data = each.reshape(threshold.shape).clone()
        self._set_bias(neuron)

    def _set_bias(self, neuron: Any) -> None:
        own = self.data.get("lapilli/bias")
        if own is not None:
            # one value may stand for all
            saved: Any = (self.layer.state or {}).get("neuron.bias", own)
            neuron.set_bias(_tensor(saved))
        real = "/norm" if self.layer.type == "input" else ""
        for part, name in ((real, "norm"), ("/real", "real_norm"), ("/imag", "imag_norm")):
            norm = getattr(neuron, name, None)
            bias = self.data.get(f"bias{part}")
            if norm is None:
                if part == "" and bias is not None and own is None and hasattr(neuron, "set_bias"):
                    neuron.set_bias(_tensor(bias) / self.scale)
                continue
            if bias is None:
                continue
            mean = (competition_bias(self.layer, part) - _tensor(bias)) / self.scale
            if own is not None:
                mean = mean + torch.round(_tensor(own) * self.scale) / self.scale
            norm.running_mean = mean
            norm._sized("running_mean")
            quantized = norm.pre_hook_fx(mean)
            if not torch.equal(quantized, mean):
                norm.pre_hook_fx = Grid(self.scale)
            exponent = self.data.get(f"neuron/weight_exp{part}")
            if exponent is not None and hasattr(norm, "running_var"):
                # the middle of the variances that round up to this exponent
                variance = 2.0 ** (2 * float(exponent.reshape(-1)[0]) - 1) - norm.eps
                norm.running_var = torch.tensor([max(variance, 0.0)])

    def _set_delay(self) -> None:
        if "delay" in self.data:
            assign(self.block.delay, "delay", _tensor(self.data["delay"]))
            self.block.delay.init = True


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value, np.float32))
