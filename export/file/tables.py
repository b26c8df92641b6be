"""The tables of the network file: which datasets a layer has, their form and their range.

Everything about a block kind, a neuron or a dataset stands here once; writer, reader and checks
only walk the tables.
"""

from dataclasses import dataclass, field

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
SPECIAL_RANGES: dict[tuple[str, str | None], tuple[int, int]] = {
    ("weight", "input"): WEIGHT_RANGE,
    ("bias", "input"): WEIGHT_RANGE,
    **{(name, "dense_rec"): (-510, 510) for name in ("bias", "bias/real", "bias/imag")},
    ("bias", "SDNN"): (-4096, 4095),
    ("neuron/vThMant", "SDNN"): (0, 131071),
}

_COUNTS = {"count_log": bool}
_Flags = dict[str, type]  # here: in ``Kind``, ``type`` is a field
_FLAGS: _Flags = {"delay_shift": bool, **_COUNTS}


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
    flags: _Flags = field(default_factory=lambda: _FLAGS)


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
REQUIRED = {
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
    names = {"type", "shape", *REQUIRED.get(type_, ()), *_OPTIONAL.get(type_, ())}
    for kind in KINDS.values():
        if kind.type == type_:
            names |= set(kind.attributes)
            names |= {name + part for name in kind.synapses for part in PARTS}
    if type_ == "dense_rec":
        names |= {"weight_rec" + part for part in PARTS}
    return names


@dataclass(frozen=True)
class Family:
    """One neuron: type in the file, decay datasets with their parameters, other datasets.

    ``states`` is how many numbers of the chip a neuron of it keeps from step to step.
    """

    type: str
    decays: dict[str, str]
    required: tuple[str, ...] = ("vThMant",)
    optional: tuple[str, ...] = ("gradedSpike",)
    complex: bool = False
    states: int = 2

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
    "alif": Family("ALIF", _LEAKY | _ADAPTIVE, _STEP, ("refDelay", "gradedSpike"), states=4),
    "rf": Family("RF_PHASE", _ROTATION, complex=True),
    "rf_iz": Family("RF_IZHIKEVICH", _ROTATION, complex=True),
    "adrf": Family("ADRF_PHASE", _ROTATION | _ADAPTIVE, _STEP, complex=True, states=4),
    "adrf_iz": Family("ADRF_IZHIKEVICH", _ROTATION | _ADAPTIVE, _STEP, complex=True, states=4),
    "sigma_delta": Family("SDNN", {}, optional=("activation", "sigma_output"), states=3),
}
MODULE_OF_NEURON = {family.type: module for module, family in FAMILIES.items()} | {"LOIHI": "cuba"}
