"""From a block to the layer of the file: what forward uses, as integers, and nothing changed."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lapilli.export.file.checks import problems
from lapilli.export.file.errors import LayerError
from lapilli.export.file.layers import Layer, competition_units, tested_part
from lapilli.export.file.tables import FAMILIES, KINDS, MAX_DELAY, NEVER_FIRES, Family, Kind
from lapilli.neurons.base import Neuron
from torch import Tensor, nn

from .arguments import Arguments, norm_class
from .blocks import kind_of

_INTEGRAL = 1e-3  # rounding of float products, far below one unit


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
    if not is_settled(block):
        raise RuntimeError(
            f"{where} does not know its shape or has not drawn its parameters yet: run the network "
            f"forward once before it is exported"
        )
    layer, notes, faults = survey(block)
    if faults:
        raise ValueError(f"{where}: {faults[0]}")
    if with_state:
        layer.state = {k: v.detach().cpu().numpy() for k, v in block.state_dict().items()}
    return layer, [f"{where}: {note}" for note in notes]


def is_settled(block: nn.Module) -> bool:
    """Whether a block knows its shape and has drawn its parameters."""
    undrawn = getattr(getattr(block, "neuron", None), "_ranges", None)
    # an Affine without dynamics never draws what it does not use
    return block.shape is not None and not (undrawn and getattr(block, "dynamics", True))


def survey(block: nn.Module) -> tuple[Layer, list[str], list[LayerError]]:
    """Return a block's layer, notes on values that changed, and what the format cannot hold.

    The layer of a block that does not know its shape has no ``shape``.
    """
    with torch.no_grad():
        description = _Description(block)
    layer, faults = description.layer, description.faults
    return layer, description.notes, [*faults, *problems(layer, complete=not faults)]


class _Description(Arguments):
    """One pass over a block; fills ``layer`` and ``notes``."""

    def __init__(self, block: nn.Module):
        kind = kind_of(block)
        assert kind is not None  # whoever calls has found a block
        self.block, (self.module, self.name) = block, kind
        module, name = kind
        self.kind: Kind = KINDS[name]
        self.family: Family = FAMILIES[module]
        self.neuron = getattr(block, "neuron", None)
        self.notes: list[str] = []
        self.rounded = False  # whether the file holds other values than forward uses
        self.faults: list[LayerError] = []
        self.data: dict[str, Any] = {}
        steps = [self._add_shape, self._add_structure, self._add_weights]
        steps += {"KWTA": [self._add_competition], "Input": [self._add_input_scale]}.get(name, [])
        steps += [self._add_neuron, self._add_bias] if self._has_dynamics() else []
        for step in (*steps, self._add_delay):
            try:
                step()
            except LayerError as error:
                self.faults.append(error)
        self.layer = Layer(
            self.kind.type, self.data, module, name, self._params(), rounded=self.rounded
        )

    def _has_dynamics(self) -> bool:
        return self.neuron is not None and getattr(self.block, "dynamics", True) is not False

    def _add_shape(self) -> None:
        if self.block.shape is None:
            return
        shape = tuple(self.block.shape)
        if len(shape) not in (1, 3):
            raise LayerError("shape", f"is {shape}; the format has (N,) and (C, H, W) only")
        if self.kind.type == "dense" and shape[1:] not in ((), (1, 1)):
            raise LayerError(
                "shape",
                f"is {shape}: a dense layer applied at every position is not in the format; use a "
                f"Conv with kernel_size=1",
            )
        self.data["shape"] = np.array(shape, np.int64)

    @property
    def channels(self) -> int:
        return int(self.data["shape"][0])

    def _spread(self, values: np.ndarray) -> np.ndarray:
        """Return one value a channel; as they are while the channels are not known."""
        return np.broadcast_to(values, self.channels) if "shape" in self.data else values

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

    def _add_weights(self) -> None:
        for name, attribute in self.kind.synapses.items():
            self._add_weight(name, getattr(self.block, attribute))

    def _add_weight(self, name: str, synapse: Any) -> None:
        parts = {"": synapse}
        if synapse.complex:
            parts = {"/real": synapse.real, "/imag": synapse.imag}
        mask = getattr(self.block, "mask", None)
        for part, real in parts.items():
            if getattr(real, "bias", None) is not None:
                raise LayerError(
                    f"{name}{part}",
                    "has a bias in its synapse, which acts on the current and is not in the "
                    "format; set it to None, or use a norm",
                )
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
                self.rounded = True
                self.notes.append(
                    f"{name}: pre_hook_fx gives values between the integers; rounded, largest "
                    f"error {error / scale:g}"
                )
        else:
            rounded = self.neuron.quantize_8bit(value, descale=True).round()
            if hook is None:
                error = (rounded / scale - value).abs().max().item()
                if error > 0:
                    self.rounded = True
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

    def _add_competition(self) -> None:
        block, neuron, n = self.block, self.neuron, self._synapse().out_channels
        own = 1 + block.self_excitation.clamp(0, 1)
        feedback = torch.eye(n, device=own.device) * own - 1
        tested = tested_part(self.module)
        for part in ("/real", "/imag") if self.family.complex else ("",):
            self.data["weight_rec" + part] = np.zeros((n, n), np.float32)
        self.data["weight_rec" + tested] = self._integers(
            "weight_rec", feedback, neuron.quantize_8bit
        )
        bias = competition_units(n, block.num_winners, neuron.v_th_mant, neuron.w_scale)
        if bias:
            self.data["bias" + tested] = np.full(n, bias, np.float32)

    def _add_input_scale(self) -> None:
        if self.neuron is None:
            return
        if getattr(self.block.pre_hook_fx, "__func__", None) is not Neuron.quantize_8bit:
            raise LayerError(
                "pre_hook_fx",
                "of an Input block is not in the format, which has the neuron's quantize_8bit; "
                "change the input before it enters the network instead",
            )
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
        elif self.module == "sigma_delta":
            self._add_exact_threshold()

    def _add_exact_threshold(self) -> None:
        """Add a learned threshold that is on no grid: netx gets it rounded, lapilli as it is."""
        delta, scale = self.neuron.delta, self.neuron.w_scale
        exact = delta.threshold.float().cpu().reshape(-1).clamp(min=1 / delta.scale).numpy()
        if not np.isfinite(exact).all():
            raise LayerError("neuron/vThMant", "holds values that are not finite")
        written = np.maximum(self.data["neuron/vThMant"] / scale, 1 / delta.scale)
        error = np.abs(written - exact).max()
        if error > 0:
            self.notes.append(
                f"neuron/vThMant: threshold rounded to 1/{scale}, largest error {error:g}"
            )
            own = delta.threshold.numel() > 1
            self.data["lapilli/threshold"] = exact if own else exact.reshape(())

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

    def _add_bias(self) -> None:
        if self.module == "sigma_delta" and self.name in ("Input", "Output"):
            return  # they use neither norm nor bias of the neuron
        for part, norm in self._norms().items():
            name = f"bias{part}"
            norm_class(norm)
            mean = self._integers(name, norm.running_mean, norm.pre_hook_fx)
            bias = self._spread(-mean) + 0.0
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
        exact = self._spread(exact[:, 0].numpy()).astype(np.float32)
        if not np.isfinite(exact).all():
            raise LayerError("bias", "holds values that are not finite")
        units = np.rint(exact * self.neuron.w_scale)
        error = np.abs(units / self.neuron.w_scale - exact).max()
        if error > 0:
            self.notes.append(f"bias: rounded to 1/{self.neuron.w_scale}, largest error {error:g}")
        self.data["bias"] = (self.data.get("bias", 0) + units + 0.0).astype(np.float32)
        self.data["lapilli/bias"] = exact

    def _add_delay(self) -> None:
        axon = getattr(self.block, "delay", None)
        if axon is None:
            return
        delay = axon.delay / axon.sampling_time
        if not delay.isfinite().all():
            raise LayerError("delay", "holds values that are not finite")
        steps = delay.clamp(0, MAX_DELAY).floor()
        used = axon.delay.clamp(0, axon.max_delay).div(axon.sampling_time).floor()
        beyond = int(((delay < 0) | (delay >= MAX_DELAY + 1)).sum())
        clamped = f"{beyond} values beyond 0 to {MAX_DELAY} steps are written clamped"
        if axon.max_delay is None or axon.max_delay / axon.sampling_time > MAX_DELAY:
            self.notes.append(
                f"delay: max_delay is {axon.max_delay}, but the chip delays by at most {MAX_DELAY} "
                f"steps; {clamped}"
            )
        elif beyond:
            self.notes.append(f"delay: {clamped}, as forward uses them")
        self.rounded |= bool((steps != used).any())
        self.data["delay"] = self._spread(steps.cpu().numpy().astype(np.float32))


def _descaled(hook: Callable[..., Tensor], value: Tensor, scale: int) -> Tensor:
    try:
        parameters = inspect.signature(hook).parameters.values()
    except ValueError:  # a builtin such as torch.tanh does not tell its arguments
        parameters = ()
    if any(p.name == "descale" or p.kind is p.VAR_KEYWORD for p in parameters):
        return hook(value, descale=True)
    return hook(value) * scale


def _canonical(value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    return np.asarray(value, np.int64)
