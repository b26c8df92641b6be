"""From a block to the layer of the file: what forward uses, as integers, and nothing changed."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lapilli.neurons import norm as norms
from torch import Tensor, nn

from .errors import LayerError
from .layers import FAMILIES, KINDS, NEVER_FIRES, NORMS, Family, Kind, Layer, check

_COMMON_FLAGS = (
    "shared_param",
    "persistent_state",
    "requires_grad",
    "graded_spike",
    "log_init",
    "cum_error",
)
_INTEGRAL = 1e-3  # rounding of float products, far below one unit


def kind_of(block: nn.Module) -> tuple[str, str] | None:
    """Return module and kind of a block, ``("cuba", "Dense")``, or None for anything else."""
    for cls in type(block).__mro__:
        package, _, module = cls.__module__.rpartition(".")
        if package == "lapilli.blocks" and module in FAMILIES and cls.__name__ in KINDS:
            return module, cls.__name__
    return None


def describe(block: nn.Module, where: str, with_state: bool = False) -> tuple[Layer, list[str]]:
    """Return the layer that holds a block, checked, and notes on values that changed.

    Parameters
    ----------
    block
        A block that knows its shape.
    where
        How errors call it, for instance ``layer 2``.
    with_state
        Also take the exact state dict.

    Raises
    ------
    TypeError
        If it is not a block.
    RuntimeError
        If it has not run forward and so has no shape.
    ValueError
        If the format cannot hold a value.
    """
    found = kind_of(block)
    if found is None:
        raise TypeError(
            f"{where} is a {type(block).__name__}; a network file holds only blocks of "
            f"lapilli.blocks ({', '.join(KINDS)})"
        )
    where = f"{where} ({'.'.join(found)})"
    if block.shape is None or getattr(getattr(block, "neuron", None), "_ranges", None):
        raise RuntimeError(
            f"{where} does not know its shape or has not drawn its parameters yet: run the network "
            f"forward once before it is exported"
        )
    try:
        with torch.no_grad():
            description = _Description(block, *found)
            layer = description.layer
            if with_state:
                layer.state = {k: v.cpu().numpy() for k, v in block.state_dict().items()}
        check(layer)
    except LayerError as error:
        raise ValueError(f"{where}: {error}") from None
    return layer, [f"{where}: {note}" for note in description.notes]


class _Description:
    """One pass over a block; fills ``layer`` and ``notes``."""

    def __init__(self, block: nn.Module, module: str, name: str):
        self.block, self.name = block, name
        self.kind: Kind = KINDS[name]
        self.family: Family = FAMILIES[module]
        self.neuron = getattr(block, "neuron", None)
        self.notes: list[str] = []
        self.data: dict[str, Any] = {"shape": self._shape()}
        self._add_structure()
        for weight, attribute in self.kind.synapses.items():
            self._add_weight(weight, getattr(block, attribute))
        if name == "KWTA":
            self._add_competition()
        if name == "Input":
            self._add_input_scale()
        if self._has_dynamics():
            self._add_neuron()
            self._add_bias()
        self._add_delay()
        self.layer = Layer(self.kind.type, self.data, module, name, self._params())

    def _has_dynamics(self) -> bool:
        return self.neuron is not None and getattr(self.block, "dynamics", True) is not False

    def _shape(self) -> np.ndarray:
        shape = tuple(self.block.shape)
        if len(shape) not in (1, 3):
            raise LayerError("shape", f"is {shape}; the format has (N,) and (C, H, W) only")
        if self.kind.type == "dense" and shape[1:] not in ((), (1, 1)):
            raise LayerError(
                "shape",
                f"is {shape}: a dense layer applied at every position is not in the format; use a "
                f"Conv with kernel_size=1",
            )
        return np.array(shape, np.int64)

    @property
    def channels(self) -> int:
        return int(self.data["shape"][0])

    def _synapse(self) -> nn.Module | None:
        first = next(iter(self.kind.synapses.values()), None)
        return None if first is None else getattr(self.block, first)

    def _add_structure(self) -> None:
        owner = self._synapse() or self.block
        for dataset, attribute in self.kind.attributes.items():
            value = getattr(owner, attribute)
            if attribute in ("kernel_size", "stride", "padding", "dilation"):
                value = tuple(value)[:2]
            elif dataset == "inFeatures":
                value = int(np.prod(owner.shape[1:]))
            self.data[dataset] = np.array(value, np.int64)

    # weights

    def _add_weight(self, name: str, synapse: nn.Module) -> None:
        parts = {"": synapse}
        if synapse.complex:
            parts = {"/real": synapse.real, "/imag": synapse.imag}
        mask = getattr(self.block, "mask", None)
        for part, real in parts.items():
            weight = self._integers(name + part, real.raw_weight(mask), real.pre_hook_fx)
            dense = self.kind.type in ("dense", "dense_rec")
            self.data[name + part] = (
                weight.reshape(weight.shape[0], -1) if dense else weight[..., 0]
            )

    def _integers(self, name: str, value: Tensor, hook: Callable[..., Tensor] | None) -> np.ndarray:
        """Apply the hook as forward does, in weight units; note what it changed."""
        if not torch.isfinite(value).all():
            raise LayerError(name, "holds values that are not finite")
        scale = self.neuron.w_scale
        if hook is not None and not self._is_default(hook):
            exact = _descaled(hook, value, scale)
            rounded = exact.round()
            error = (exact - rounded).abs().max().item()
            if error > _INTEGRAL:
                self.notes.append(
                    f"{name}: pre_hook_fx gives values between the integers; rounded, largest "
                    f"error {error / scale:g}"
                )
        else:
            rounded = self.neuron.quantize_8bit(value, descale=True).round()
            if hook is None:
                error = (rounded / scale - value).abs().max().item()
                if error > 0:
                    self.notes.append(
                        f"{name}: pre_hook_fx is None; rounded to 8 bit, largest error {error:g}"
                    )
            else:
                excess = ((value * scale / 2).round() * 2 - rounded).abs()
                beyond = int((excess > _INTEGRAL).sum())
                if beyond:
                    self.notes.append(
                        f"{name}: {beyond} values beyond 8 bit are written clamped, as forward "
                        f"uses them; largest excess {excess.max().item() / scale:g}"
                    )
        return (rounded.cpu().numpy() + 0.0).astype(np.float32)  # + 0.0: no negative zero

    def _is_default(self, hook: Callable[..., Tensor]) -> bool:
        default = self.neuron.quantize_8bit
        return hook == default or getattr(hook, "__func__", None) is default.__func__

    def _add_competition(self) -> None:
        block, n = self.block, self.channels
        theta = self.neuron.threshold
        diagonal = 1 + block.self_excitation.clamp(0, 1)
        feedback = torch.eye(n, device=diagonal.device) * diagonal - 1
        part = "/real" if self.family.complex else ""
        self.data["weight_rec" + part] = self._integers(
            "weight_rec", feedback, self.neuron.quantize_8bit
        )
        if part:
            self.data["weight_rec/imag"] = np.zeros((n, n), np.float32)
        beta = torch.tensor([theta * (n - 2 * block.num_winners) / (n * self.neuron.w_scale)])
        beta = self._integers("bias", beta, self.neuron.quantize_8bit)
        if beta.any():
            self.data["bias"] = np.repeat(beta, n)

    def _add_input_scale(self) -> None:
        if self.neuron is None:
            return
        for name in ("weight", "bias"):
            value = getattr(self.block, name, None)
            if value is not None:
                if value.numel() != 1:
                    raise LayerError(name, f"has shape {tuple(value.shape)}; expected one value")
                self.data[name] = self._integers(name, value, self.block.pre_hook_fx).reshape(())

    # neuron

    def _add_neuron(self) -> None:
        neuron = self.neuron
        for dataset, parameter in self.family.decays.items():
            self._check_decay(f"neuron/{dataset}", getattr(neuron, parameter))
        for name, value in neuron.device_params.items():
            self.data[f"neuron/{name}"] = _canonical(value)
        if self.name == "Affine":
            self.data["neuron/vThMant"] = np.array(NEVER_FIRES)
        if self.name == "Output":
            self.data["neuron/sigma_output"] = True

    def _check_decay(self, dataset: str, parameter: Tensor) -> None:
        if not torch.isfinite(parameter).all():
            raise LayerError(dataset, "holds values that are not finite")
        if self.neuron.requires_grad:
            return  # forward clamps it, as the device value is
        low, high = (1, 4095) if dataset == "neuron/sinDecay" else (0, 4096)
        rounded = parameter.round()
        outside = rounded[(rounded < low) | (rounded > high)]
        if outside.numel():
            raise LayerError(dataset, f"holds {outside[0].item():g}; allowed are {low} to {high}")

    def _norms(self) -> dict[str, nn.Module]:
        pairs = {"": "norm", "/real": "real_norm", "/imag": "imag_norm"}
        found = {part: getattr(self.neuron, name, None) for part, name in pairs.items()}
        return {part: norm for part, norm in found.items() if norm is not None}

    def _add_bias(self) -> None:
        if self.name == "Output":
            return
        for part, norm in self._norms().items():
            name = f"bias{part}"
            if self.name == "Input":
                raise LayerError(name, "of the norm of an Input block is not in the format")
            _norm_class(norm)
            mean = self._integers(name, norm.running_mean, norm.pre_hook_fx)
            bias = np.broadcast_to(-mean, self.channels) + 0.0
            self.data[name] = (bias + self.data.get(name, 0)).astype(np.float32)
            if hasattr(norm, "weight_exp"):
                exponent = norm.weight_exp.cpu().numpy() + 0.0
                self.data[f"neuron/weight_exp{part}"] = exponent.astype(np.float32).reshape(1)
        if getattr(self.neuron, "bias_is_set", False):
            self._add_set_bias(self.neuron.bias)
        if getattr(self.block, "bias", None) is not None and self.name != "Input":
            raise LayerError("bias", "of the block itself is not in the format; use a norm")

    def _add_set_bias(self, bias: Tensor) -> None:
        """Add the bias of a sigma-delta neuron; its exact value goes along for lapilli."""
        exact = bias.float().cpu().reshape(bias.shape[0], -1)
        if (exact != exact[:, :1]).any():
            raise LayerError("bias", "differs between positions; the format has one a channel")
        exact = np.broadcast_to(exact[:, 0].numpy(), self.channels).astype(np.float32)
        if not np.isfinite(exact).all():
            raise LayerError("bias", "holds values that are not finite")
        units = np.rint(exact * self.neuron.w_scale)
        error = np.abs(units / self.neuron.w_scale - exact).max()
        if error > 0:
            self.notes.append(f"bias: rounded to 1/{self.neuron.w_scale}, largest error {error:g}")
        self.data["bias"] = (self.data.get("bias", 0) + units + 0.0).astype(np.float32)
        self.data["lapilli/bias"] = exact

    def _add_delay(self) -> None:
        if getattr(self.block, "delay", None) is None:
            return
        delay = self.block.delay.delay.cpu().numpy()
        outside = delay[~((delay >= 0) & (delay < 63))]
        if outside.size:
            raise LayerError("delay", f"holds {outside[0]:g}; allowed are 0 to 62 whole steps")
        self.data["delay"] = np.floor(np.broadcast_to(delay, self.channels)).astype(np.float32)

    # constructor arguments

    def _params(self) -> dict[str, Any]:
        block, params = self.block, {}
        synapse = self._synapse()
        if synapse is not None:
            params |= self._structure_params(synapse)
            params["weight_norm"] = bool(synapse.weight_norm_enabled)
            hook = (synapse.real if synapse.complex else synapse).pre_hook_fx
            params["pre_hook_fx"] = (
                None if hook is None else "quantize_8bit" if self._is_default(hook) else "custom"
            )
        if self.name == "Average":
            params["num_outputs"] = self.channels
        if self.name == "TimeDecimation":
            params["factor"] = int(block.factor)
        for flag in self.kind.flags:
            value = getattr(block, flag)
            params[flag] = int(value) if flag == "num_winners" else bool(value)
        if hasattr(block, "delay"):
            params["delay"] = block.delay is not None
        if hasattr(block, "mask"):
            params["mask"] = block.mask is not None
        if self.name == "KWTA":
            params["self_excitation"] = float(block.self_excitation.clamp(0, 1))
        if self.name == "Input":
            params |= {
                n: None if getattr(block, n, None) is None else float(getattr(block, n))
                for n in ("weight", "bias")
            }
        if self.name == "Input" or self.neuron is not None:
            params["neuron_params"] = self._neuron_params()
        return params

    def _structure_params(self, synapse: nn.Module) -> dict[str, Any]:
        window = {
            attribute: [int(v) for v in self.data[dataset]]
            for dataset, attribute in self.kind.attributes.items()
            if self.data[dataset].ndim
        }
        if "inFeatures" in self.kind.attributes:
            channels, height, width = synapse.shape[1:4]
            inputs = channels if height == width == 1 else [width, height, channels]
            return {"in_neurons": inputs, "out_neurons": int(self.data["outFeatures"])}
        if "inChannels" in self.kind.attributes:
            window |= {
                "in_features": int(self.data["inChannels"]),
                "out_features": int(self.data["outChannels"]),
                "groups": int(self.data["groups"]),
            }
        return window

    def _neuron_params(self) -> dict[str, Any] | None:
        neuron = self.neuron
        if neuron is None:
            return None
        theta = float(neuron._threshold)
        params: dict[str, Any] = {
            "threshold": theta,
            "tau_grad": float(neuron.tau_rho / theta),
            "scale_grad": float(neuron.scale_rho),
            "scale": int(neuron.w_scale),
        }
        for parameter in self.family.decays.values():
            share = getattr(neuron, parameter) / neuron.p_scale
            if neuron.shared_param:
                params[parameter] = share.item()
            else:
                params[parameter] = [share.min().item(), share.max().item()]
        if hasattr(neuron, "threshold_step"):
            params["threshold_step"] = float(neuron.threshold_step)
        if hasattr(neuron, "activation"):
            params["activation"] = str(neuron.device_params.get("activation"))
        params |= {
            flag: bool(getattr(neuron, flag)) for flag in _COMMON_FLAGS if hasattr(neuron, flag)
        }
        norm = next(iter(self._norms().values()), None)
        params["norm"] = None if norm is None else _norm_params(norm)
        drop = neuron.drop
        params["dropout"] = (
            None if drop is None else {"p": float(drop.p), "inplace": bool(drop.inplace)}
        )
        return params


def _descaled(hook: Callable[..., Tensor], value: Tensor, scale: int) -> Tensor:
    parameters = inspect.signature(hook).parameters.values()
    if any(p.name == "descale" or p.kind is p.VAR_KEYWORD for p in parameters):
        return hook(value, descale=True)
    return hook(value) * scale


def _canonical(value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    return np.asarray(value, np.int64)


def _norm_class(norm: nn.Module) -> str:
    for name in reversed(NORMS):  # the second derives from the first
        if isinstance(norm, getattr(norms, name)):
            return name
    raise LayerError("bias", f"norm {type(norm).__name__} is not one of lapilli.neurons.norm")


def _norm_params(norm: nn.Module) -> dict[str, Any]:
    names = ("momentum", "weight_exp_bits", "eps")
    return {"class": _norm_class(norm), **{n: getattr(norm, n) for n in names if hasattr(norm, n)}}
