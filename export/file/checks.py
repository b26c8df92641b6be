"""Whether a layer holds what its kind needs: complete, in range, consistent."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import LayerError
from .layers import Layer, scale_of
from .tables import ENTRIES, FAMILIES, MODULE_OF_NEURON, NEVER_FIRES, REQUIRED, SPECIAL_RANGES


def check(layer: Layer) -> None:
    """Raise ``LayerError`` unless the layer is complete, in range and consistent."""
    for problem in problems(layer):
        raise problem


def problems(layer: Layer, complete: bool = True) -> Iterator[LayerError]:
    """Yield what the format cannot hold: every value out of range, or one fault of structure.

    Only the values are looked at in a layer that is known not to be ``complete``.
    """
    data = layer.data
    required = ("shape", *REQUIRED.get(layer.type, ())) if complete else ()
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
    CHECKS.get(layer.type, _check_one_input)(layer)
    channels = layer.shape[0]
    sized = ("bias/real", "bias/imag", "bias/norm", "lapilli/bias")
    for name in sized if layer.type == "input" else ("bias", "delay", *sized):
        if name in data:
            need(
                name,
                data[name].shape == (channels,),
                f"has shape {data[name].shape}; expected {(channels,)}",
            )
    for name, value in data.items():
        if (ENTRIES[name].form == "channels" or name == "lapilli/threshold") and value.ndim:
            need(
                name,
                value.shape == (channels,),
                f"has shape {value.shape}; expected () or {(channels,)}",
            )


def need(name: str, condition: bool, problem: str) -> None:
    """Raise for the dataset ``name`` unless the condition holds."""
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
        low, high = SPECIAL_RANGES.get((name, special), (low, high))
    if name == "neuron/vThMant" and layer.type == "dense" and np.all(value == NEVER_FIRES):
        return
    outside = (value < low) | (value > high)
    if np.any(outside):
        worst = value[outside].flat[0] if np.ndim(value) else value
        raise LayerError(name, f"holds {worst:g}; allowed are {low} to {high}")


def _check_neuron(layer: Layer) -> None:
    module = MODULE_OF_NEURON[layer.data["neuron/type"]]
    family = FAMILIES[module]
    for name in (*family.decays, *family.required):
        need(
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
        need("weight", layer.is_complex == family.complex, problem)


def _check_weight(layer: Layer, name: str, shape: tuple[int, ...]) -> None:
    weights = layer.weights(name)
    need(name, len(weights) == 2 if layer.is_complex else name in weights, "is missing")
    for part, weight in weights.items():
        need(part, weight.shape == shape, f"has shape {weight.shape}; expected {shape}")


def _check_sizes(layer: Layer, name: str, sizes: Any) -> None:
    if name in layer.data:
        need(name, np.array_equal(layer.data[name], sizes),
              f"is {layer.data[name]}, but the weight has {sizes}")  # fmt: skip


def _first_weight(layer: Layer, rank: int) -> tuple[int, ...]:
    weights = layer.weights()
    need("weight", bool(weights), "is missing")
    name, weight = next(iter(weights.items()))
    need(name, weight.ndim == rank, f"has {weight.ndim} dimensions; expected {rank}")
    need(name, weight.size > 0, "is empty")
    return weight.shape


def _check_dense(layer: Layer) -> None:
    shape = _first_weight(layer, 2)
    out, inputs = shape
    _check_weight(layer, "weight", shape)
    if layer.type == "dense_rec":
        _check_weight(layer, "weight_rec", (out, out))
    _check_sizes(layer, "inFeatures", inputs)
    _check_sizes(layer, "outFeatures", out)
    need("shape", math.prod(layer.shape) == layer.shape[0] == out,
          f"is {layer.shape}, but the weight has {out} outputs")  # fmt: skip


def _check_conv(layer: Layer) -> None:
    shape = _first_weight(layer, 4)
    groups = int(layer.data["groups"])
    _check_weight(layer, "weight", shape)
    out, inputs = shape[0], shape[1] * groups
    if layer.type == "convT":
        out, inputs = shape[1] * groups, shape[0]
    need(
        "groups", out % groups == 0 == inputs % groups, f"is {groups}; does not divide the channels"
    )
    _check_sizes(layer, "inChannels", inputs)
    _check_sizes(layer, "outChannels", out)
    _check_sizes(layer, "kernelSize", shape[2:])
    need("shape", len(layer.shape) == 3 and layer.shape[0] == out,
          f"is {layer.shape}; expected {out} channels, height and width")  # fmt: skip


def _check_pool(layer: Layer) -> None:
    shape = _first_weight(layer, 4)
    _check_weight(layer, "weight", (1, 1, *shape[2:]))
    _check_sizes(layer, "kernelSize", shape[2:])
    need("shape", len(layer.shape) == 3, f"is {layer.shape}; expected channels, height and width")


def _check_one_input(layer: Layer) -> None:
    for name in ("weight", "bias"):
        if name in layer.data:
            need(name, layer.data[name].size == 1, "must be one value")


CHECKS = {
    "dense": _check_dense,
    "dense_rec": _check_dense,
    "conv": _check_conv,
    "convT": _check_conv,
    "pool": _check_pool,
    "unpool": _check_pool,
}
