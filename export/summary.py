"""What a network file holds, without building the network."""

import os
from dataclasses import dataclass

import numpy as np

from .reader import read_network


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a network file.

    ``weight_range`` and ``delay_range`` are the smallest and the largest integer in the file, None
    without such a dataset; ``parameters`` counts weights, biases and delays.
    """

    index: int
    type: str
    block: str
    shape: tuple[int, ...]
    neuron: str | None
    parameters: int
    weight_range: tuple[int, int] | None
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
    """
    file = read_network(path)
    name = f"{file.format} {file.version}" if file.version else file.format
    infos = []
    for index, layer in enumerate(file.layers):
        weights = [v for n, v in layer.data.items() if n.startswith("weight")]
        others = [v for n, v in layer.data.items() if n.startswith("bias") or n == "delay"]
        delays = [layer.data["delay"]] if "delay" in layer.data else []
        infos.append(
            LayerInfo(
                index=index,
                type=layer.type,
                block=f"{layer.module}.{layer.block}" + " (inserted)" * layer.inserted,
                shape=layer.shape,
                neuron=layer.neuron,
                parameters=sum(v.size for v in weights + others),
                weight_range=_range(weights),
                delay_range=_range(delays),
                format=name,
            )
        )
    return infos


def _range(arrays: list[np.ndarray]) -> tuple[int, int] | None:
    if not arrays:
        return None
    return int(min(a.min() for a in arrays)), int(max(a.max() for a in arrays))


def format_table(layers: list[LayerInfo]) -> str:
    """Format the list of ``inspect`` as a table with a header and a total."""
    header = ("layer", "type", "block", "shape", "neuron", "parameters", "weights", "delays")
    rows = [
        (
            str(l.index),
            l.type,
            l.block,
            "x".join(map(str, l.shape)),
            l.neuron or "-",
            str(l.parameters),
            _span(l.weight_range),
            _span(l.delay_range),
        )
        for l in layers
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    total = sum(l.parameters for l in layers)
    return "\n".join(
        [f"format: {layers[0].format}", *lines, f"{total} parameters in {len(layers)} layers"]
    )


def _span(limits: tuple[int, int] | None) -> str:
    return "-" if limits is None else f"{limits[0]}..{limits[1]}"
