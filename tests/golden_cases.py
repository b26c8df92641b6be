"""The golden vectors of ``golden/`` as cases; golden/README.md describes them.

``cases`` gives what lapilli can run. A target that lapilli does not have yet is left out by
``available`` and nowhere else; where lapilli means to differ stands in ``DEVIATIONS`` and nowhere
else. golden_runs.py runs them.
"""

import functools
import importlib
import importlib.util
import json
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import tolerances
import torch
from golden.pack import group_of
from known import present
from tolerances import Tolerance
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"
CPU = torch.device("cpu")

# lava-dl's name below slayer -> module and class of lapilli; the first match counts
_TARGETS = (
    ("axon.Delay", "lapilli.blocks.delay", "Delay"),
    ("axon.Delta", "lapilli.neurons.delta", "Delta"),
    ("dendrite.Sigma", "lapilli.neurons.sigma", "Sigma"),
    ("neuron.Dropout", "lapilli.neurons", "Dropout"),
    ("neuron.", "lapilli.neurons.{family}", None),
    ("block.", "lapilli.blocks.{family}", None),
)


@functools.cache
def find(target: str) -> Callable[..., Any] | None:
    """Class of lapilli that stands for ``target``, or None while there is none."""
    for prefix, module, name in _TARGETS:
        if target.startswith(prefix):
            _, family, *kind = target.split(".")
            module = module.format(family=family)
            if importlib.util.find_spec(module) is None:
                return None
            return getattr(importlib.import_module(module), name or kind[0], None)
    return None


def available(record: dict[str, Any]) -> bool:
    """Whether lapilli has every class that a record of the index needs."""
    if record["target"] == "network":
        return all(map(available, record.get("blocks", ())))
    return find(record["target"]) is not None


@functools.cache
def index() -> dict[str, Any]:
    return json.loads(lzma.decompress((GOLDEN / "index.json.xz").read_bytes()))


@functools.cache
def _group(name: str) -> bytes:
    return lzma.decompress((GOLDEN / f"{name}.xz").read_bytes())


def _bytes_of(entry: dict[str, Any]) -> int:
    return int(np.prod(entry["shape"])) * np.dtype(entry.get("dtype", "float32")).itemsize


@dataclass(frozen=True)
class Deviation:
    """Where lapilli means to differ from lava-dl, and what it is compared with instead."""

    reason: str
    kwargs: dict[str, Any] = field(default_factory=dict)  # constructor arguments that undo it
    skip: tuple[str, ...] = ()  # keys that have no counterpart
    only: tuple[str, ...] | None = None  # keys of the results that have one, if few have
    expected: Callable[["Case", str, Tensor], Tensor] | None = None  # golden array -> expected one
    tolerances: dict[str, Tolerance] = field(default_factory=dict)  # by key
    neuron: dict[str, Any] = field(default_factory=dict)  # the same for the neuron's arguments


def _strict(case: "Case", key: str, golden: Tensor) -> Tensor:
    """No spike at equality. The decays of these cases are 1, so nothing else depends on it."""
    if key != "c0/out/spike":
        return golden
    return golden * (case.arrays["c0/out/voltage"] != case.kwargs["threshold"])


def _masked(case: "Case", key: str, golden: Tensor) -> Tensor:
    """No gradient where the mask is zero."""
    if not key.startswith("grad/synapse."):
        return golden
    return golden * case.arrays["arg/mask"][:, :, None, None, None]


_MASKED = Deviation("a masked weight has no gradient", expected=_masked)
_AT_EQUALITY = Deviation(
    "lava-dl's threshold epsilon vanishes in float32 from 64 up; the comparison stays strict",
    expected=_strict,
)

_BEYOND_24_BITS = Deviation(
    "lava-dl rounds the current to float32 between its two filters; lapilli keeps the integer",
    tolerances={"c0/out/voltage": tolerances.BEYOND_24_BITS},
)

_LEAKS = Deviation(
    "lava-dl's layers with feedback keep the neuron's state, but never their last spikes",
    neuron={"persistent_state": True}, skip=("after/spike_state",),
)  # fmt: skip
_LEAKS_TWICE = Deviation(
    "the second call starts with the last spikes; test_recurrent.py compares it without them",
    neuron={"persistent_state": True}, only=("c0/out/y", "c0/mid/dendrite"),
)  # fmt: skip

# by the end of a case's name, since the families share their cases
DEVIATIONS = {
    "two_calls": _LEAKS_TWICE,
    "two_calls_no_grad": _LEAKS_TWICE,
    "cuba.Recurrent.norm_mean_eval": Deviation(
        "lava-dl carries the normalised current from step to step, lapilli the current",
        only=(),
    ),
    "Recurrent.no_synapse_grad_flag": Deviation(
        "lava-dl ignores requires_grad of Recurrent",
        neuron={"persistent_state": True},
        skip=("after/spike_state", "grad/recurrent_synapse.weight"),
    ),
    "neuron.cuba.at_threshold_64": _AT_EQUALITY,
    "neuron.cuba.at_threshold_100": _AT_EQUALITY,
    "neuron.alif.beyond_24bit": _BEYOND_24_BITS,
    "neuron.cuba.beyond_24bit": _BEYOND_24_BITS,
    "neuron.rf_iz.beyond_24bit": Deviation(
        "lava-dl rounds the state to float32 where it resets; lapilli keeps the integer",
        tolerances={
            "c0/out/real": tolerances.BEYOND_24_BITS,
            "c0/out/imag": tolerances.BEYOND_24_BITS,
        },
    ),
    "axon.Delay.sampling_time": Deviation(
        "lava-dl divides by the sampling time twice when there are several channels",
        kwargs={"sampling_time": 4},
    ),
    "Affine.mask": _MASKED,
    "Dense.mask": _MASKED,
    "Dense.mask_in3d": _MASKED,
    "Dense.mask_weight_norm": Deviation(
        "lava-dl ignores a mask under weight norm", kwargs={"mask": None}, skip=("state/mask",)
    ),
    "Pool.weight_norm": Deviation(
        "weight norm does not make the constant weight of a pooling block trainable",
        skip=tuple(
            f"grad/synapse.{part}weight_{end}" for part in ("", "real.", "imag.") for end in "gv"
        ),
    ),
}
# by the kind of a block, for its other cases
DEVIATIONS_OF_KIND = {"Recurrent": _LEAKS, "KWTA": _LEAKS}
_NONE = Deviation("")
_RESULTS = ("c", "after/", "grad/")  # beginnings of their keys


@dataclass(frozen=True, eq=False)
class Case:
    """A record of the index under its own field names, and its arrays."""

    name: str
    kind: str
    target: str
    kwargs: dict[str, Any]
    setup: list[Any]
    mode: str
    method: str
    inputs: list[str]
    calls: int
    entries: dict[str, dict[str, Any]]  # the record's ``arrays``
    offset: int  # of the first array in its group
    outputs: tuple[str, ...] = ()
    spike_args: tuple[str, ...] = ()
    blocks: tuple[dict[str, Any], ...] = ()
    no_grad: bool = False
    grad_none: tuple[str, ...] = ()
    device_params: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
    neuron_params_of_device_params: dict[str, Any] | None = None
    hdf5: str | None = None
    hdf5_strings: dict[str, str] | None = None

    @functools.cached_property
    def arrays(self) -> dict[str, Tensor]:
        data, at, arrays = _group(group_of(self.target)), self.offset, {}
        for key, entry in self.entries.items():
            size = _bytes_of(entry)
            values = np.frombuffer(data[at : at + size], entry.get("dtype", "float32"))
            arrays[key] = torch.from_numpy(values.reshape(entry["shape"]).copy())
            at += size
        return arrays

    @property
    def deviation(self) -> Deviation:
        of_kind = DEVIATIONS_OF_KIND.get(self.target.rsplit(".", 1)[-1], _NONE)
        return next((d for end, d in DEVIATIONS.items() if self.name.endswith(end)), of_kind)

    @property
    def arguments(self) -> dict[str, Any]:
        """Encoded constructor arguments, those that undo a deviation included."""
        arguments = self.kwargs | self.deviation.kwargs
        if self.deviation.neuron:
            arguments["neuron_params"] = arguments["neuron_params"] | self.deviation.neuron
        return arguments

    def of_role(self, *roles: str) -> Iterator[str]:
        """Keys of the arrays in these roles, less those without counterpart."""
        for key, entry in self.entries.items():
            skip, only = self.deviation.skip, self.deviation.only
            if only is not None and key.startswith(_RESULTS) and key not in only:
                continue
            if entry["role"] in roles and key not in skip:
                yield key

    def input(self, i: int, device: torch.device) -> list[Tensor]:
        return [self.arrays[f"c{i}/in/{name}"].to(device, copy=True) for name in self.inputs]

    @property
    def learns_decays(self) -> bool:
        return any(map(is_leaky_decay, self.of_role("grad_parameter")))


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """Every case of the index, whether lapilli can run it or not."""
    names = {f.name for f in fields(Case)}
    ends: dict[str, int] = {}
    found = []
    for record in index()["cases"]:
        group = group_of(record["target"])
        offset = ends.get(group, 0)
        ends[group] = offset + sum(map(_bytes_of, record["arrays"].values()))
        own = {k: v for k, v in record.items() if k in names}
        found.append(Case(**own, entries=record["arrays"], offset=offset))
    return tuple(found)


def cases(*kinds: str) -> list[Case]:
    """Cases of these kinds that lapilli can run."""
    records = zip(all_cases(), index()["cases"], strict=True)
    return [case for case, record in records if case.kind in kinds and available(record)]


def ways(found: list[Case]) -> list[tuple[Case, bool, str]]:
    """Arguments ``(case, fused, sign)`` of ``run`` that cover every path and sign of the cases."""
    result = []
    for case in found:
        signs = ("lava-dl", "descent") if case.learns_decays else ("lava-dl",)
        if case.method == "dynamics+spike":
            result += [(case, False, signs[0]), (case, True, signs[-1])]
        else:
            result += [(case, False, sign) for sign in signs]
    return result


def way_name(value: Any) -> str:
    """Readable test id of an argument of ``ways``."""
    if isinstance(value, Case):
        return value.name
    return {False: "as-given", True: "fused"}.get(value) or value


def is_leaky_decay(key: str) -> bool:
    """Whether ``set_decay_gradient`` chooses the sign of a gradient."""
    return key.endswith(("current_decay", "voltage_decay"))


def decode(value: Any, arrays: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return tuple(decode(v, arrays) for v in value)
    if not isinstance(value, dict):
        return value
    if "$norm" in value:
        return functools.partial(present(find(f"neuron.norm.{value['$norm']}")), **value["kwargs"])
    if "$dropout" in value:
        return present(find("neuron.Dropout"))(**value["$dropout"])
    if "$activation" in value:
        return getattr(nn.functional, value["$activation"])
    if "$array" in value:
        return arrays[value["$array"]]
    return {k: decode(v, arrays) for k, v in value.items()}
