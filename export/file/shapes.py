"""What goes into a layer and comes out of it."""

import math

from .checks import CHECKS, need
from .layers import Layer
from .tables import MAX_SIZE


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
            need("shape", count % layer.shape[0] == 0,
                  f"is {layer.shape}; does not divide the {count} neurons before")  # fmt: skip
            return
        case "dense" | "dense_rec":
            inputs = next(iter(layer.weights().values())).shape[1]
            need(
                "weight",
                inputs == count,
                f"has {inputs} inputs; the layer before has {count} neurons",
            )
            return
        case _:
            expected = window_shape(before, layer)
    need("shape", layer.shape == expected,
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
    if layer.type not in CHECKS:
        return layer.shape
    channels, *sides = layer.shape
    if layer.type in ("conv", "convT"):
        channels = input_channels(layer)
    return (channels, *(_smallest(layer, axis, side) for axis, side in enumerate(sides)))


def _smallest(layer: Layer, axis: int, side: int) -> int:
    return next(n for n in range(1, MAX_SIZE) if _side(layer, axis, n) >= side)


def window_shape(before: tuple[int, ...], layer: Layer) -> tuple[int, ...]:
    """Return the shape that a layer with windows makes of its input's."""
    need("shape", len(before) == 3, f"the layer before has shape {before}; expected (C, H, W)")
    channels = before[0]
    if layer.type in ("conv", "convT"):
        inputs = input_channels(layer)
        need(
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
