"""The tables of the network file: which datasets a layer has, their form and their range.

Everything about a block kind, a neuron or a dataset stands here once; writer, reader and checks
only walk the tables.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .errors import LayerError
from .tables import CHIP_RULES, FAMILIES, KINDS, MAX_SCALE, OVERFLOWS, PARTS, W_SCALE, WEIGHT_RANGE


@dataclass
class Layer:
    """One ``/layer/<i>`` group in memory.

    ``data`` maps dataset names (without ``type``) to canonical values: int64 or float32 arrays,
    bool or str. ``params`` are constructor arguments, ``state`` the optional state dict. The last
    two are of a layer that is about to be written: whether it is a flatten that no block stands
    for, and whether its values are rounded ones, not those of the block.
    """

    type: str
    data: dict[str, Any]
    module: Any = None  # a str, like ``block``; None until a reader has found it
    block: Any = None
    params: dict[str, Any] = field(default_factory=dict)
    inserted: bool = False
    flattens: int = 0
    state: dict[str, np.ndarray] | None = None
    implied: bool = False
    rounded: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Neurons of the layer, ``(C, H, W)`` or ``(N,)``."""
        return tuple(int(n) for n in self.data["shape"])

    @property
    def neuron(self) -> str | None:
        """Neuron type in the file, or None."""
        return self.data.get("neuron/type")

    @property
    def is_complex(self) -> bool:
        """Whether the weights have a real and an imaginary part."""
        return "weight/real" in self.data

    @property
    def is_flat(self) -> bool:
        """Whether netx sees a one-dimensional layer."""
        if self.type == "average" and "factor" in self.data:
            return len(self.shape) == 1
        return self.type in ("dense", "dense_rec", "flatten", "average") or len(self.shape) == 1

    def weights(self, name: str = "weight") -> dict[str, np.ndarray]:
        """Weight arrays by name: one, or the real and the imaginary one."""
        return {name + p: self.data[name + p] for p in PARTS if name + p in self.data}


def option(options: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    """Option of a type from a JSON object; the default where it is absent or null."""
    value = options.get(name)
    if value is None:
        return default
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise LayerError("@params", f"{name} is {value!r}; expected {kind.__name__}")
    return value


def neuron_options(layer: Layer) -> dict[str, Any]:
    """Return the neuron's constructor arguments that the file records; none in older files."""
    return option(layer.params, "neuron_params", dict, {})


def scale_of(layer: Layer) -> int:
    """Return the integer units in 1 of the layer's weights."""
    scale = option(neuron_options(layer), "scale", int, W_SCALE)
    if not 1 <= scale <= MAX_SCALE:
        raise LayerError("@params", f"scale is {scale}; expected 1 to {MAX_SCALE}")
    return scale


def overflow_of(layer: Layer) -> str:
    """Return what becomes of the layer's states that do not fit, as its neuron was told."""
    overflow = option(neuron_options(layer), "overflow", str, "saturate")
    known = OVERFLOWS if layer.module in CHIP_RULES else ("saturate",)
    if overflow not in known:
        raise LayerError(
            "@params", f"overflow is {overflow!r}; expected {' or '.join(map(repr, known))}"
        )
    return overflow


def is_shifted(layer: Layer) -> bool:
    """Return whether the output of a layer hops one step."""
    if "delay_shift" not in KINDS[layer.block].flags:
        return False
    # lava-dl cannot run an Input without neuron that hops
    default = layer.module != "sigma_delta" and (layer.type != "input" or layer.neuron is not None)
    return option(layer.params, "delay_shift", bool, default)


def tested_part(module: str) -> str:
    """Return the part of a neuron's input that its threshold tests: real, imag, or "" for both."""
    if not FAMILIES[module].complex:
        return ""
    return "/real" if FAMILIES[module].type.endswith("PHASE") else "/imag"


def competition_bias(layer: Layer, part: str = "") -> int:
    """Return what KWTA adds to a part of its input; it is in the dataset ``bias`` with the norm."""
    winners = option(layer.params, "num_winners", int, 0)
    if layer.block != "KWTA" or not winners or part != tested_part(layer.module):
        return 0
    threshold = int(layer.data["neuron/vThMant"])
    return competition_units(layer.shape[0], winners, threshold, scale_of(layer))


def competition_units(neurons: int, winners: int, threshold: int, scale: int) -> int:
    """Return threshold (n - 2 winners) / (n scale), quantised to 8 bit, in weight units."""
    units = 2 * round(Fraction(threshold * (neurons - 2 * winners), 2 * neurons * scale))
    return min(max(units, WEIGHT_RANGE[0]), WEIGHT_RANGE[1])
