"""What a network file holds, without building the network."""

import math
import os
from dataclasses import dataclass

import numpy as np

from .layers import Layer
from .reader import read_network

__all__ = ["LayerInfo", "format_table", "inspect", "weights"]


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a network file.

    ``weight_range`` and ``delay_range`` are the smallest and the largest integer in the file, None
    without such a dataset. ``weight_bits`` are the bits that the weights need, sign included, when
    the factor of two that all of them share is left out; 0 if all are zero, None without weights.
    ``parameters`` counts weights, biases and delays; ``synapses`` the connections whose weight is
    not zero, those to the padding included.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> export.inspect("network.net")[0].shape
    (2,)
    """

    index: int
    type: str
    block: str
    shape: tuple[int, ...]
    neuron: str | None
    neurons: int
    parameters: int
    synapses: int
    weight_range: tuple[int, int] | None
    weight_bits: int | None
    delay_range: tuple[int, int] | None
    format: str


def inspect(path: str | os.PathLike[str]) -> list[LayerInfo]:
    """List the layers of a network file.

    Parameters
    ----------
    path
        A file of lapilli or of lava-dl.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NetworkFileError
        If it is not a network file, or breaks the format.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> (layer,) = export.inspect("network.net")
    >>> layer.block, layer.neurons
    ('cuba.Dense', 2)
    """
    file = read_network(path)
    name = f"{file.format} {file.version}" if file.version else file.format
    infos = []
    for index, layer in enumerate(file.layers):
        weights = list(_weights(layer).values())
        others = [v for n, v in layer.data.items() if n.startswith("bias") or n == "delay"]
        delays = [layer.data["delay"]] if "delay" in layer.data else []
        infos.append(
            LayerInfo(
                index=index,
                type=layer.type,
                block=_block(layer),
                shape=layer.shape,
                neuron=layer.neuron,
                neurons=math.prod(layer.shape) if layer.neuron else 0,
                parameters=sum(v.size for v in weights + others),
                synapses=_synapses(layer),
                weight_range=_range(weights),
                weight_bits=_bits(weights),
                delay_range=_range(delays),
                format=name,
            )
        )
    return infos


def weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the weights of a network file, by layer and dataset; those of Input blocks are none.

    Returns
    -------
    dict
        Names such as ``0 cuba.Dense weight``, to float32 arrays of the file's integers.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NetworkFileError
        If it is not a network file, or breaks the format.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> {name: values.shape for name, values in export.weights("network.net").items()}
    {'0 cuba.Dense weight': (2, 3)}
    """
    return {
        f"{i} {_block(layer)} {name}": weight
        for i, layer in enumerate(read_network(path).layers)
        if layer.type != "input"
        for name, weight in _weights(layer).items()
    }


def _block(layer: Layer) -> str:
    return f"{layer.module}.{layer.block}" + " (inserted)" * layer.inserted


def _weights(layer: Layer) -> dict[str, np.ndarray]:
    return {n: v for n, v in layer.data.items() if n.partition("/")[0] in ("weight", "weight_rec")}


def _synapses(layer: Layer) -> int:
    if layer.type == "input":
        return 0
    count = sum(int(np.count_nonzero(weight)) for weight in _weights(layer).values())
    return count * _positions(layer)


def _positions(layer: Layer) -> int:
    """Return at how many places a weight is used."""
    if layer.type not in ("conv", "convT", "pool", "unpool"):
        return 1
    sides = layer.shape[1:]
    if layer.type in ("convT", "unpool"):  # once for each input
        kernel = next(iter(layer.weights().values())).shape[2:]
        window = (layer.data[n].tolist() for n in ("stride", "padding", "dilation"))
        sides = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(sides, kernel, *window, strict=True)
        ]
    channels = layer.shape[0] if layer.type in ("pool", "unpool") else 1
    return channels * math.prod(sides)


def _range(arrays: list[np.ndarray]) -> tuple[int, int] | None:
    if not arrays:
        return None
    return int(min(a.min() for a in arrays)), int(max(a.max() for a in arrays))


def _bits(arrays: list[np.ndarray]) -> int | None:
    if not arrays:
        return None
    values = np.unique(np.concatenate([a.reshape(-1) for a in arrays]).astype(np.int64))
    unit = int(np.gcd.reduce(values))
    if unit == 0:
        return 0
    low, high = (int(v) // (unit & -unit) for v in (values[0], values[-1]))
    return 1 + max(high, -low - 1, 0).bit_length()


_HEADER = (
    "layer", "type", "block", "shape", "neuron", "parameters", "synapses", "weights", "bits",
    "delays",
)  # fmt: skip


def format_table(layers: list[LayerInfo]) -> str:
    """Format the list of ``inspect`` as a table with a header and a total.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> print(export.format_table(export.inspect("network.net")))  # doctest: +ELLIPSIS
    format: lapilli-net 2
    layer  type ...
    """
    rows = [
        (
            str(l.index),
            l.type,
            l.block,
            "x".join(map(str, l.shape)),
            l.neuron or "-",
            str(l.parameters),
            str(l.synapses),
            _span(l.weight_range),
            "-" if l.weight_bits is None else str(l.weight_bits),
            _span(l.delay_range),
        )
        for l in layers
    ]
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (_HEADER, *rows)
    ]
    neurons, parameters, synapses = (
        sum(getattr(l, name) for l in layers) for name in ("neurons", "parameters", "synapses")
    )
    total = (
        f"{neurons} neurons, {parameters} parameters, {synapses} synapses in {len(layers)} layers"
    )
    return "\n".join([f"format: {layers[0].format}", *lines, total])


def _span(limits: tuple[int, int] | None) -> str:
    return "-" if limits is None else f"{limits[0]}..{limits[1]}"
