"""The tables of the network file: which datasets a layer has, their form and their range.

Everything about a block kind, a neuron or a dataset stands here once; writer, reader and checks
only walk the tables.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .errors import LayerError

FORMAT = "lapilli-net"
FORMAT_VERSION = 2  # 1: extensions beside the datasets of lava-dl

P_SCALE = 4096  # decay units in 1
W_SCALE = 64  # weight units in 1, where the file does not say
NEVER_FIRES = 262143  # vThMant of Affine
MAX_DELAY = 62
MAX_SIZE = 2**31 - 1
MAX_SCALE = 2**20

WEIGHT_RANGE = (-256, 254)
STATE_UNITS = 64  # state units in a unit of weights
STATE_LIMIT = 2**23 - 1  # states of the chip have 24 bits
OVERFLOWS = ("saturate", "loihi")  # what a neuron can be told of states that do not fit
CHIP_RULES = ("cuba", "rf", "rf_iz")  # modules whose neurons can follow the chip's rule

NORMS = ("MeanOnlyBatchNorm", "WgtScaleBatchNorm")

# constructor arguments of neurons that are true or false, and attributes of the same name
FLAGS = (
    "shared_param",
    "persistent_state",
    "requires_grad",
    "graded_spike",
    "log_init",
    "cum_error",
)


@dataclass(frozen=True)
class Entry:
    """Form of one dataset.

    ``form`` is size (one integer), pair (height, width), shape (1 or 3 sizes), values (float32
    array of integers), channels (one integer or one a channel), flag or text.
    """

    form: str
    low: int = 0
    high: int = MAX_SIZE


_WEIGHTS = Entry("values", *WEIGHT_RANGE)
_BIAS = Entry("values", -254, 256)
_SIZE = Entry("size", 1)
_THRESHOLD = Entry("channels", 1, 131071)
_DECAY = Entry("channels", 0, P_SCALE)

ENTRIES: dict[str, Entry] = {
    "shape": Entry("shape", 1),
    "factor": _SIZE,
    "inFeatures": _SIZE,
    "outFeatures": _SIZE,
    "inChannels": _SIZE,
    "outChannels": _SIZE,
    "groups": _SIZE,
    "kernelSize": Entry("pair", 1),
    "stride": Entry("pair", 1),
    "padding": Entry("pair", 0),
    "dilation": Entry("pair", 1),
    **dict.fromkeys(("weight", "weight/real", "weight/imag"), _WEIGHTS),
    **dict.fromkeys(("weight_rec", "weight_rec/real", "weight_rec/imag"), _WEIGHTS),
    **dict.fromkeys(("bias", "bias/real", "bias/imag", "bias/norm"), _BIAS),
    "delay": Entry("values", 0, MAX_DELAY),
    "lapilli/bias": Entry("floats"),
    "lapilli/threshold": Entry("floats"),
    "neuron/type": Entry("text"),
    "neuron/iDecay": _DECAY,
    "neuron/vDecay": _DECAY,
    "neuron/thDecay": _DECAY,
    "neuron/refDecay": _DECAY,
    "neuron/sinDecay": Entry("channels", 1, P_SCALE - 1),
    "neuron/cosDecay": Entry("channels", 0, P_SCALE - 1),
    "neuron/vThMant": _THRESHOLD,
    "neuron/vThStep": Entry("size", 0, 131071),
    "neuron/refDelay": Entry("size", 1, 1),
    "neuron/gradedSpike": Entry("flag"),
    "neuron/activation": Entry("text"),
    "neuron/sigma_output": Entry("flag"),
    **dict.fromkeys(
        ("neuron/weight_exp", *(f"neuron/weight_exp/{p}" for p in ("real", "imag", "norm"))),
        Entry("values", -64, 64),
    ),
}
# what files of lava-dl have not: stored in the group ``lapilli`` of the layer
EXTENSIONS = tuple(n for n in ENTRIES if n.startswith(("bias/", "neuron/weight_exp/")))
OLD_NEURON_ENTRIES = ("wgtExp", "theta", "tauRho", "scaleRho")  # of old files; not needed

# The ranges that depend on the layer: (dataset, HDF5 type or neuron type) -> range
_SPECIAL_RANGES = {
    ("weight", "input"): WEIGHT_RANGE,
    ("bias", "input"): WEIGHT_RANGE,
    **{(name, "dense_rec"): (-510, 510) for name in ("bias", "bias/real", "bias/imag")},
    ("bias", "SDNN"): (-4096, 4095),
    ("neuron/vThMant", "SDNN"): (0, 131071),
}


_COUNTS = {"count_log": bool}
_FLAGS = {"delay_shift": bool, **_COUNTS}


@dataclass(frozen=True)
class Kind:
    """One kind of block: its HDF5 type, its datasets, where its structure and weights are.

    ``attributes`` maps a dataset to the attribute of the synapse (or of the block) that holds it,
    ``synapses`` a weight dataset to the attribute of the block, ``flags`` constructor arguments
    that are attributes of the same name to their type.
    """

    type: str
    attributes: dict[str, str] = field(default_factory=dict)
    synapses: dict[str, str] = field(default_factory=dict)
    flags: dict[str, type] = field(default_factory=lambda: _FLAGS)


_FEATURES = {"inFeatures": "in_channels", "outFeatures": "out_channels"}
_WINDOW = {
    "kernelSize": "kernel_size",
    "stride": "stride",
    "padding": "padding",
    "dilation": "dilation",
}
_CONV = {"inChannels": "in_channels", "outChannels": "out_channels", **_WINDOW, "groups": "groups"}
_WEIGHT = {"weight": "synapse"}
_FEEDBACK = {"weight": "input_synapse", "weight_rec": "recurrent_synapse"}

KINDS: dict[str, Kind] = {
    "Input": Kind("input"),
    "Flatten": Kind("flatten", flags=_COUNTS),
    "Average": Kind("average", flags=_COUNTS),
    "TimeDecimation": Kind("average", {"factor": "factor"}, flags=_COUNTS),
    "Dense": Kind("dense", _FEATURES, _WEIGHT),
    "Affine": Kind("dense", _FEATURES, _WEIGHT, {"dynamics": bool, **_COUNTS}),
    "Output": Kind("dense", _FEATURES, _WEIGHT, _COUNTS),
    "Recurrent": Kind(
        "dense_rec", _FEATURES, _FEEDBACK, {**_FLAGS, "requires_grad": bool, "gradient": str}
    ),
    "KWTA": Kind(
        "dense_rec",
        _FEATURES,
        _WEIGHT,
        {**_FLAGS, "requires_grad": bool, "gradient": str, "num_winners": int},
    ),
    "Conv": Kind("conv", _CONV, _WEIGHT),
    "ConvT": Kind("convT", _CONV, _WEIGHT),
    "Pool": Kind("pool", _WINDOW, _WEIGHT),
    "Unpool": Kind("unpool", _WINDOW, _WEIGHT),
}
TYPES = tuple(dict.fromkeys(kind.type for kind in KINDS.values()))
PARTS = ("", "/real", "/imag")

# HDF5 type -> datasets that a layer must have, and may have, besides type, shape, weights, neuron
_REQUIRED = {
    "conv": ("stride", "padding", "dilation", "groups"),
    "convT": ("stride", "padding", "dilation", "groups"),
    "pool": ("stride", "padding", "dilation"),
    "unpool": ("stride", "padding", "dilation"),
}
_OPTIONAL = {
    "input": ("weight", "bias"),
    "average": ("factor",),
    "dense": ("bias", "bias/real", "bias/imag", "delay", "lapilli/bias"),
}
for _type in ("dense_rec", "conv", "convT"):
    _OPTIONAL[_type] = _OPTIONAL["dense"]
_OPTIONAL["pool"] = _OPTIONAL["unpool"] = ("delay", "lapilli/bias")


def known_datasets(type_: str) -> set[str]:
    """Names that a layer of a type may have, without those of the neuron group."""
    names = {"type", "shape", *_REQUIRED.get(type_, ()), *_OPTIONAL.get(type_, ())}
    for kind in KINDS.values():
        if kind.type == type_:
            names |= set(kind.attributes)
            names |= {name + part for name in kind.synapses for part in PARTS}
    if type_ == "dense_rec":
        names |= {"weight_rec" + part for part in PARTS}
    return names


@dataclass(frozen=True)
class Family:
    """One neuron: type in the file, decay datasets with their parameters, other datasets."""

    type: str
    decays: dict[str, str]
    required: tuple[str, ...] = ("vThMant",)
    optional: tuple[str, ...] = ("gradedSpike",)
    complex: bool = False

    @property
    def known(self) -> tuple[str, ...]:
        """Every dataset of the neuron group."""
        return ("type", *self.decays, *self.required, *self.optional, "weight_exp")


_LEAKY = {"iDecay": "current_decay", "vDecay": "voltage_decay"}
_ROTATION = {"sinDecay": "sin_decay", "cosDecay": "cos_decay"}
_ADAPTIVE = {"thDecay": "threshold_decay", "refDecay": "refractory_decay"}
_STEP = ("vThMant", "vThStep")

FAMILIES: dict[str, Family] = {
    "cuba": Family("CUBA", _LEAKY, optional=("refDelay", "gradedSpike")),
    "alif": Family("ALIF", _LEAKY | _ADAPTIVE, _STEP, ("refDelay", "gradedSpike")),
    "rf": Family("RF_PHASE", _ROTATION, complex=True),
    "rf_iz": Family("RF_IZHIKEVICH", _ROTATION, complex=True),
    "adrf": Family("ADRF_PHASE", _ROTATION | _ADAPTIVE, _STEP, complex=True),
    "adrf_iz": Family("ADRF_IZHIKEVICH", _ROTATION | _ADAPTIVE, _STEP, complex=True),
    "sigma_delta": Family("SDNN", {}, optional=("activation", "sigma_output")),
}
MODULE_OF_NEURON = {family.type: module for module, family in FAMILIES.items()} | {"LOIHI": "cuba"}


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
    module: str | None = None
    block: str | None = None
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


def check(layer: Layer) -> None:
    """Raise ``LayerError`` unless the layer is complete, in range and consistent."""
    for problem in problems(layer):
        raise problem


def problems(layer: Layer, complete: bool = True) -> Iterator[LayerError]:
    """Yield what the format cannot hold: every value out of range, or one fault of structure.

    Only the values are looked at in a layer that is known not to be ``complete``.
    """
    data = layer.data
    required = ("shape", *_REQUIRED.get(layer.type, ())) if complete else ()
    for name in required:
        if name not in data:
            complete = False
            yield LayerError(name, f"is missing; a {layer.type} layer needs it")
    for name, value in data.items():
        try:
            _check_range(layer, name, value)
        except LayerError as error:
            complete = False
            yield error
    if complete:
        try:
            _check_structure(layer)
        except LayerError as error:
            yield error


def _check_structure(layer: Layer) -> None:
    data = layer.data
    scale_of(layer)
    if layer.neuron is not None:
        _check_neuron(layer)
    elif layer.type not in ("input", "flatten", "average", "dense"):
        raise LayerError("neuron", f"is missing; a {layer.type} layer needs it")
    _CHECKS.get(layer.type, _check_one_input)(layer)
    channels = layer.shape[0]
    sized = ("bias/real", "bias/imag", "bias/norm", "lapilli/bias")
    for name in sized if layer.type == "input" else ("bias", "delay", *sized):
        if name in data:
            _need(
                name,
                data[name].shape == (channels,),
                f"has shape {data[name].shape}; expected {(channels,)}",
            )
    for name, value in data.items():
        if (ENTRIES[name].form == "channels" or name == "lapilli/threshold") and value.ndim:
            _need(
                name,
                value.shape == (channels,),
                f"has shape {value.shape}; expected () or {(channels,)}",
            )


def _need(name: str, condition: bool, problem: str) -> None:
    if not condition:
        raise LayerError(name, problem)


def _check_range(layer: Layer, name: str, value: Any) -> None:
    entry = ENTRIES[name]
    if entry.form in ("flag", "text"):
        return
    if not np.all(np.isfinite(value)):
        raise LayerError(name, "holds values that are not finite")
    if entry.form == "floats":
        return
    low, high = entry.low, entry.high
    for special in (layer.type, layer.neuron):
        low, high = _SPECIAL_RANGES.get((name, special), (low, high))
    if name == "neuron/vThMant" and layer.type == "dense" and np.all(value == NEVER_FIRES):
        return
    outside = (value < low) | (value > high)
    if np.any(outside):
        worst = value[outside].flat[0] if np.ndim(value) else value
        raise LayerError(name, f"holds {worst:g}; allowed are {low} to {high}")


def _check_neuron(layer: Layer) -> None:
    module = MODULE_OF_NEURON[layer.neuron]
    family = FAMILIES[module]
    for name in (*family.decays, *family.required):
        _need(
            f"neuron/{name}", f"neuron/{name}" in layer.data, f"is missing; {layer.neuron} needs it"
        )
    if layer.data["neuron/vThMant"].ndim and layer.neuron != "SDNN":
        raise LayerError("neuron/vThMant", "must be one value")
    if layer.type != "input" and layer.type in (
        "pool",
        "unpool",
        "dense",
        "dense_rec",
        "conv",
        "convT",
    ):
        wanted = "real and imag parts" if family.complex else "one real array"
        problem = f"must be {wanted} for {layer.neuron}"
        _need("weight", layer.is_complex == family.complex, problem)


def _check_weight(layer: Layer, name: str, shape: tuple[int, ...]) -> None:
    weights = layer.weights(name)
    _need(name, len(weights) == 2 if layer.is_complex else name in weights, "is missing")
    for part, weight in weights.items():
        _need(part, weight.shape == shape, f"has shape {weight.shape}; expected {shape}")


def _check_sizes(layer: Layer, name: str, sizes: Any) -> None:
    if name in layer.data:
        _need(name, np.array_equal(layer.data[name], sizes),
              f"is {layer.data[name]}, but the weight has {sizes}")  # fmt: skip


def _first_weight(layer: Layer, rank: int) -> tuple[int, ...]:
    weights = layer.weights()
    _need("weight", bool(weights), "is missing")
    name, weight = next(iter(weights.items()))
    _need(name, weight.ndim == rank, f"has {weight.ndim} dimensions; expected {rank}")
    _need(name, weight.size > 0, "is empty")
    return weight.shape


def _check_dense(layer: Layer) -> None:
    shape = _first_weight(layer, 2)
    out, inputs = shape
    _check_weight(layer, "weight", shape)
    if layer.type == "dense_rec":
        _check_weight(layer, "weight_rec", (out, out))
    _check_sizes(layer, "inFeatures", inputs)
    _check_sizes(layer, "outFeatures", out)
    _need("shape", math.prod(layer.shape) == layer.shape[0] == out,
          f"is {layer.shape}, but the weight has {out} outputs")  # fmt: skip


def _check_conv(layer: Layer) -> None:
    shape = _first_weight(layer, 4)
    groups = int(layer.data["groups"])
    _check_weight(layer, "weight", shape)
    out, inputs = shape[0], shape[1] * groups
    if layer.type == "convT":
        out, inputs = shape[1] * groups, shape[0]
    _need(
        "groups", out % groups == 0 == inputs % groups, f"is {groups}; does not divide the channels"
    )
    _check_sizes(layer, "inChannels", inputs)
    _check_sizes(layer, "outChannels", out)
    _check_sizes(layer, "kernelSize", shape[2:])
    _need("shape", len(layer.shape) == 3 and layer.shape[0] == out,
          f"is {layer.shape}; expected {out} channels, height and width")  # fmt: skip


def _check_pool(layer: Layer) -> None:
    shape = _first_weight(layer, 4)
    _check_weight(layer, "weight", (1, 1, *shape[2:]))
    _check_sizes(layer, "kernelSize", shape[2:])
    _need("shape", len(layer.shape) == 3, f"is {layer.shape}; expected channels, height and width")


def _check_one_input(layer: Layer) -> None:
    for name in ("weight", "bias"):
        if name in layer.data:
            _need(name, layer.data[name].size == 1, "must be one value")


_CHECKS = {
    "dense": _check_dense,
    "dense_rec": _check_dense,
    "conv": _check_conv,
    "convT": _check_conv,
    "pool": _check_pool,
    "unpool": _check_pool,
}


def input_channels(layer: Layer) -> int:
    """Input channels that the weight of a conv or convT layer asks for."""
    weight = next(iter(layer.weights().values()))
    return weight.shape[0] if layer.type == "convT" else weight.shape[1] * int(layer.data["groups"])


def check_chain(before: tuple[int, ...], layer: Layer) -> None:
    """Raise ``LayerError`` unless the layer takes the shape of the layer before."""
    count = math.prod(before)
    match layer.type:
        case "input":
            expected = before
        case "average" if "factor" in layer.data:
            expected = before
        case "flatten":
            expected = (count, 1, 1)
        case "average":
            _need("shape", count % layer.shape[0] == 0,
                  f"is {layer.shape}; does not divide the {count} neurons before")  # fmt: skip
            return
        case "dense" | "dense_rec":
            inputs = next(iter(layer.weights().values())).shape[1]
            _need(
                "weight",
                inputs == count,
                f"has {inputs} inputs; the layer before has {count} neurons",
            )
            return
        case _:
            expected = window_shape(before, layer)
    _need("shape", layer.shape == expected,
          f"is {layer.shape}; with the layer before it should be {expected}")  # fmt: skip


def input_shape_of(layer: Layer) -> tuple[int, ...] | None:
    """Return the shape of a layer's input, or None if only its size follows from the layer."""
    if layer.type in ("dense", "dense_rec"):
        return (next(iter(layer.weights().values())).shape[1],)
    return layer.shape if layer.type == "input" or "factor" in layer.data else None


def smallest_input(layer: Layer) -> tuple[int, ...] | None:
    """Return the smallest input of which a layer makes its shape; None if it has no shape yet."""
    known = "shape" in layer.data
    if layer.type in ("dense", "dense_rec"):
        inputs = layer.params["in_neurons"]
        if isinstance(inputs, list):
            return tuple(reversed(inputs))
        return (inputs, 1, 1) if known and len(layer.shape) == 3 else (inputs,)
    if not known:
        return None
    if layer.type not in _CHECKS:
        return layer.shape
    channels, *sides = layer.shape
    if layer.type in ("conv", "convT"):
        channels = input_channels(layer)
    return (channels, *(_smallest(layer, axis, side) for axis, side in enumerate(sides)))


def _smallest(layer: Layer, axis: int, side: int) -> int:
    return next(n for n in range(1, MAX_SIZE) if _side(layer, axis, n) >= side)


def window_shape(before: tuple[int, ...], layer: Layer) -> tuple[int, ...]:
    """Return the shape that a layer with windows makes of its input's."""
    _need("shape", len(before) == 3, f"the layer before has shape {before}; expected (C, H, W)")
    channels = before[0]
    if layer.type in ("conv", "convT"):
        inputs = input_channels(layer)
        _need(
            "weight",
            inputs == channels,
            f"has {inputs} input channels; the layer before has {channels}",
        )
        channels = layer.shape[0]
    return (channels, *(_side(layer, axis, size) for axis, size in enumerate(before[1:])))


def _side(layer: Layer, axis: int, size: int) -> int:
    """Return what a layer with windows makes of a height (axis 0) or width of its input."""
    k = next(iter(layer.weights().values())).shape[2 + axis]
    stride, pad, dilation = (int(layer.data[n][axis]) for n in ("stride", "padding", "dilation"))
    reach = dilation * (k - 1)
    if layer.type in ("convT", "unpool"):
        return (size - 1) * stride - 2 * pad + reach + 1
    if layer.type == "pool":
        size += size % k
    return (size + 2 * pad - reach - 1) // stride + 1
