"""Run a network file in integers, as the chip does; shares nothing with the training kernels."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from lapilli.export.file.errors import LayerError, NetworkFileError
from lapilli.export.file.layers import Layer, competition_bias, is_shifted, scale_of
from lapilli.export.file.reader import read_network
from lapilli.export.file.shapes import check_chain
from lapilli.export.file.tables import FAMILIES, MAX_SIZE, WEIGHT_RANGE
from torch import Tensor

from .maps import convolve, pool, spread, unpool
from .neurons import Limits, Neuron, neuron

__all__ = ["OVERFLOWS", "Passage", "Run", "passages", "prepared", "run"]

OVERFLOWS = ("slayer", "loihi")


@dataclass(frozen=True)
class Run:
    """What a network file gave.

    ``output`` is int64 ``[N, neurons..., T]``, and its number k stands for ``k / unit``: 1 is a
    spike where ``unit`` is 1. ``overflows`` counts the states beyond 24 bits, over all layers,
    neurons and steps.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> result = export.run("network.net", x.numpy())
    >>> result.output.shape, result.unit, result.overflows
    ((4, 2, 10), 1, 0)
    """

    output: np.ndarray
    unit: int
    overflows: int


def run(
    path: str | os.PathLike[str],
    x: np.ndarray,
    *,
    unit: int = 1,
    overflow: Literal["slayer", "loihi"] = "slayer",
) -> Run:
    """Run a network file from rest, in integers only.

    The output equals that of the loaded network in eval mode: every spike, and every value divided
    by ``unit``, as long as those are exact in float32.

    Parameters
    ----------
    path
        A file of lapilli or of lava-dl.
    x
        Input ``[N, neurons..., T]``. An integer k stands for the number ``k / unit``; floats stand
        for themselves. An Input block with a neuron rounds floats to its grid before the first
        step; elsewhere they must be multiples of ``1 / unit``.
    unit
        The integer of the input that stands for the number 1; at least 1. For spikes it is 1.
    overflow
        States beyond 24 bits: ``slayer`` does as training does, which keeps those of neurons with
        ``overflow="loihi"`` in 24 bits and lets others grow; ``loihi`` keeps all in 24 bits as
        Lava's models of the chip do.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NetworkFileError
        If it is not a network file, or has a neuron without integer form.
    ValueError
        If the input does not suit the network or holds anything but multiples of ``1 / unit``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> result = export.run("network.net", x.numpy())
    >>> torch.equal(torch.from_numpy(result.output).float(), output)
    True
    """
    if overflow not in OVERFLOWS:
        raise ValueError(f"overflow must be one of {', '.join(OVERFLOWS)}; got {overflow!r}")
    if unit < 1:
        raise ValueError(f"unit must be at least 1; got {unit}")
    layers = read_network(path).layers
    values = prepared(layers, x, unit)
    limits = Limits(saturates=overflow == "loihi")
    try:
        *_, last = passages(layers, values, unit, limits)
    except LayerError as error:
        raise NetworkFileError(f"{path}: {error}") from None
    return Run(last.output, last.unit, limits.overflows)


def prepared(layers: list[Layer], x: Any, unit: int) -> np.ndarray:
    """Return the input that ``passages`` takes, of a tensor or an array.

    Raises
    ------
    ValueError
        If it does not suit the network or holds anything but multiples of ``1 / unit``.
    """
    first = layers[0]
    given = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    values = _checked(given, first)
    encodes = first.type == "input" and first.neuron is not None
    return values if encodes else _whole(values, unit)


@dataclass(frozen=True)
class Passage:
    """What went through a layer, ``[N, neurons..., T]``; output in units of ``1 / unit``.

    ``sent`` is the output before the hop of one step and the delay: what comes back to a recurrent
    layer one step later.
    """

    input: np.ndarray
    sent: np.ndarray
    output: np.ndarray
    unit: int


def passages(
    layers: list[Layer], values: np.ndarray, unit: int, limits: Limits
) -> Iterator[Passage]:
    """Run the layers one after the other, from rest.

    Raises
    ------
    LayerError
        If a layer has a neuron without integer form; says which layer.
    """
    for i, layer in enumerate(layers):
        try:
            sent, unit = _sent(layer, values, unit, limits)
        except LayerError as error:
            raise LayerError(f"/layer/{i}/{error.dataset}", error.problem) from None
        output = _delayed(layer, sent)
        yield Passage(values, sent, output, unit)
        values = output


def _checked(x: np.ndarray, first: Layer) -> np.ndarray:
    if x.dtype.kind not in "biuf":
        raise ValueError(f"input must hold numbers; got {x.dtype}")
    if x.ndim < 3 or not x.size:
        raise ValueError(
            f"input must be [batch, neurons..., time] and not empty; got shape {x.shape}. For a "
            f"single sample use x[np.newaxis]."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError("input holds values that are not finite")
    if np.abs(x.astype(np.float64)).max() > MAX_SIZE:
        raise ValueError(f"input holds values beyond 32 bits: {np.abs(x).max()}")
    sample = x.shape[1:-1]
    try:
        if first.type in ("input", "flatten"):  # any shape would follow from the one before
            size = tuple if first.type == "input" else math.prod
            if size(sample) != size(first.shape):
                raise LayerError("shape", f"is {first.shape}")
        else:
            check_chain(sample, first)
    except LayerError as error:
        raise ValueError(
            f"input of shape {x.shape} has samples {sample}, which layer 0 ({first.module}."
            f"{first.block}) does not take: {error}"
        ) from None
    return x


def _whole(x: np.ndarray, unit: int) -> np.ndarray:
    """Return integers, of floats in real units after multiplication by ``unit``."""
    if x.dtype.kind != "f":
        return x.astype(np.int64)
    scaled = x.astype(np.float64) * unit
    values = np.rint(scaled)
    if (values != scaled).any():
        wrong = x[values != scaled].flat[0]
        raise ValueError(
            f"input holds {wrong}, which is no multiple of 1/{unit}; round it, give a larger unit, "
            f"or let the network start with an Input block"
        )
    return values.astype(np.int64)


# layers: values [N, neurons..., T] in units of 1 / unit


def _sent(layer: Layer, x: np.ndarray, unit: int, limits: Limits) -> tuple[np.ndarray, int]:
    """Return what a layer sends before the hop and the delay, and its unit."""
    match layer.block:
        case "Flatten":
            return x.reshape(len(x), -1, x.shape[-1]), unit
        case "Average":
            groups = x.reshape(len(x), layer.shape[0], -1, x.shape[-1])
            return groups.sum(2), unit * groups.shape[2]
        case "TimeDecimation":
            return _binned(x, int(layer.data["factor"])), unit * int(layer.data["factor"])
        case "Input" if layer.neuron is None:
            return x, unit
        case "Input":
            dendrite, unit = _encoded(layer, x, unit)
            inputs = [dendrite] * (2 if FAMILIES[layer.module].complex else 1)
        case _:
            inputs = [_mapped(layer, w.astype(np.int64), x) for w in layer.weights().values()]
    return _over_time(layer, inputs, unit, limits)


def _delayed(layer: Layer, y: np.ndarray) -> np.ndarray:
    if is_shifted(layer):
        y = _later(y, 1)
    if "delay" in layer.data:
        y = np.stack([_later(y[:, c], int(d)) for c, d in enumerate(layer.data["delay"])], axis=1)
    return y


def _later(x: np.ndarray, steps: int) -> np.ndarray:
    y = np.zeros_like(x)
    y[..., steps:] = x[..., : x.shape[-1] - steps] if steps < x.shape[-1] else 0
    return y


def _binned(x: np.ndarray, factor: int) -> np.ndarray:
    missing = -x.shape[-1] % factor
    x = np.pad(x, ((0, 0),) * (x.ndim - 1) + ((0, missing),))
    return x.reshape(*x.shape[:-1], -1, factor).sum(-1)


def _encoded(layer: Layer, x: np.ndarray, unit: int) -> tuple[np.ndarray, int]:
    """Scale, shift and quantise the input as an Input block does; units of 1 / (scale * unit)."""
    scale = scale_of(layer)
    if x.dtype.kind == "f":
        levels = np.rint(x.astype(np.float32) / np.float32(2 / scale)).astype(np.int64)
    else:
        levels = _half_even(x.astype(np.int64) * scale, 2 * unit)
    low, high = WEIGHT_RANGE
    z, unit = np.clip(2 * levels, low, high), 1
    if "weight" in layer.data:
        z, unit = z * int(layer.data["weight"]), scale
    if "bias" in layer.data:
        z = z + int(layer.data["bias"]) * unit
    return z, unit


def _half_even(y: np.ndarray, divisor: int) -> np.ndarray:
    quotient, rest = np.divmod(y, divisor)
    up = (2 * rest > divisor) | ((2 * rest == divisor) & (quotient % 2 == 1))
    return quotient + up


def _mapped(layer: Layer, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Apply the weights; the result counts 1 / (scale * unit)."""
    if layer.type in ("dense", "dense_rec"):
        y = np.matmul(weight, x.reshape(len(x), -1, x.shape[-1]))
        return y.reshape(len(x), *layer.shape, x.shape[-1])
    window: list[Any] = [tuple(layer.data[n].tolist()) for n in ("stride", "padding", "dilation")]
    frames = np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1])
    if layer.type in ("conv", "convT"):
        window.append(int(layer.data["groups"]))
    maps = {"conv": convolve, "convT": spread, "pool": pool, "unpool": unpool}
    y = maps[layer.type](frames, weight, *window)
    return np.moveaxis(y.reshape(len(x), -1, *y.shape[1:]), 1, -1)


def _over_time(
    layer: Layer, inputs: list[np.ndarray], unit: int, limits: Limits
) -> tuple[np.ndarray, int]:
    """Run the neurons on their input, and on their own spikes where they are recurrent."""
    shape = inputs[0].shape[:-1]
    feedback = [w.astype(np.int64) for w in layer.weights("weight_rec").values()]
    cells = neuron(layer, shape, unit, limits)
    if feedback and cells.unit > 1:  # a common unit for input and graded spikes
        inputs = [x * cells.unit for x in inputs]
        own, unit = unit, unit * cells.unit
        cells = neuron(layer, shape, unit, limits)
        feedback = [w * own for w in feedback]
    elif feedback:
        feedback = [w * unit for w in feedback]
    inputs = [
        x + competition_bias(layer, part) * unit
        for x, part in zip(inputs, cells.parts, strict=True)
    ]
    return _stepped(cells, inputs, feedback), cells.unit


def _stepped(cells: Neuron, inputs: list[np.ndarray], feedback: list[np.ndarray]) -> np.ndarray:
    output = np.zeros_like(inputs[0])
    spikes = np.zeros(inputs[0].shape[:-1], np.int64)
    for t in range(output.shape[-1]):
        now = [x[..., t] for x in inputs]
        if feedback:
            flat = spikes.reshape(len(spikes), -1)
            now = [x + (flat @ w.T).reshape(x.shape) for x, w in zip(now, feedback, strict=True)]
        spikes = output[..., t] = cells.step(*now)
    return output
