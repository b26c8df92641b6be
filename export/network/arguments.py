"""The constructor's arguments of a block, as its layer keeps them in ``params``.

What Loihi does not need and training does: flags, norms, dropout, the sizes as they were given.
"""

import inspect
from collections.abc import Callable
from typing import Any

from lapilli.export.file.errors import LayerError
from lapilli.export.file.tables import FLAGS, NORMS, Family, Kind
from lapilli.neurons import Dropout
from lapilli.neurons import norm as norms
from torch import Tensor, nn


class Arguments:
    """What a block was made with, read from the block."""

    block: Any
    name: str  # of the kind
    kind: Kind
    family: Family
    neuron: Any  # None for blocks without one
    channels: int
    data: dict[str, Any]  # the datasets, which are read first

    def _synapse(self) -> Any:
        """Return the first synapse, or None."""
        first = next(iter(self.kind.synapses.values()), None)
        return None if first is None else getattr(self.block, first)

    def _is_default(self, hook: Callable[..., Tensor]) -> bool:
        default = self.neuron.quantize_8bit
        return hook == default or getattr(hook, "__func__", None) is default.__func__

    def _norms(self) -> dict[str, Any]:
        pairs = {"": "norm", "/real": "real_norm", "/imag": "imag_norm"}
        if self.name == "Input":  # its ``bias`` is that of the block
            pairs["/norm"] = pairs.pop("")
        found = {part: getattr(self.neuron, name, None) for part, name in pairs.items()}
        return {part: norm for part, norm in found.items() if norm is not None}

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
        params |= {flag: type_(getattr(block, flag)) for flag, type_ in self.kind.flags.items()}
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

    def _structure_params(self, synapse: Any) -> dict[str, Any]:
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
        encoder = getattr(neuron, "delta", None)  # of sigma-delta neurons; theta can be 0
        params: dict[str, Any] = {
            "threshold": theta,
            "tau_grad": float(encoder.tau_grad if encoder else neuron.tau_rho / theta),
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
        arguments = inspect.signature(type(neuron)).parameters
        params |= {flag: bool(getattr(neuron, flag)) for flag in FLAGS if flag in arguments}
        if neuron.overflow not in (None, "saturate"):
            params["overflow"] = neuron.overflow
        norm = next(iter(self._norms().values()), None)
        params["norm"] = None if norm is None else _norm_params(norm)
        params["dropout"] = None if neuron.drop is None else _dropout_params(neuron.drop)
        return params


def norm_class(norm: nn.Module) -> str:
    """Return the name of a norm's class."""
    for name in reversed(NORMS):  # the second derives from the first
        if isinstance(norm, getattr(norms, name)):
            return name
    raise LayerError("bias", f"norm {type(norm).__name__} is not one of lapilli.neurons.norm")


def _norm_params(norm: nn.Module) -> dict[str, Any]:
    names = ("momentum", "weight_exp_bits", "eps")
    return {"class": norm_class(norm), **{n: getattr(norm, n) for n in names if hasattr(norm, n)}}


def _dropout_params(drop: nn.Module) -> dict[str, Any]:
    if not isinstance(drop, Dropout | nn.Dropout):
        raise LayerError(
            "@params",
            f"dropout is a {type(drop).__name__}; the file can name lapilli.neurons.Dropout and "
            f"torch.nn.Dropout only",
        )
    return {"p": float(drop.p), "inplace": bool(drop.inplace)}
