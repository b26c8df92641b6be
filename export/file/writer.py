"""Write layers as HDF5, the file as in ``reader``, and see that they reached the disk."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .layers import Layer
from .reader import read_network
from .tables import EXTENSIONS, FORMAT, FORMAT_VERSION


def file_image(layers: list[Layer]) -> bytes:
    """Return the bytes of the file of a network."""
    from lapilli import __version__

    # built in memory: HDF5 does not survive a write that fails, a full disk for instance
    with h5py.File("network", "w", driver="core", backing_store=False) as file:
        _set_text(file, "format", FORMAT)
        file.attrs["format_version"] = FORMAT_VERSION
        _set_text(file, "lapilli_version", __version__)
        file.attrs["num_layers"] = len(layers)
        for i, layer in enumerate(layers):
            write_layer(file.create_group(f"layer/{i}"), layer)
        file.flush()
        return file.id.get_file_image()


def _set_text(owner: h5py.Group, name: str, text: str) -> None:
    """Set an attribute of fixed length: HDF5 trusts the declared length of the other kind."""
    owner.attrs[name] = np.bytes_(text.encode())


def write_layer(group: h5py.Group, layer: Layer) -> None:
    """Write a layer into an empty group."""
    group["type"] = np.array([layer.type], dtype="S10")
    for name, value in layer.data.items():
        group[f"lapilli/{name}" if name in EXTENSIONS else name] = value
    _set_text(group, "module", layer.module)
    _set_text(group, "block", layer.block)
    _set_text(group, "params", json.dumps(layer.params, sort_keys=True, allow_nan=False))
    group.attrs["inserted"] = layer.inserted
    if layer.flattens:
        group.attrs["flattens"] = layer.flattens
    for key, value in (layer.state or {}).items():
        group[f"lapilli/state/{key}"] = value


def read_back(path: Path, layers: list[Layer]) -> list[Layer]:
    """Return the layers of the file; raise unless they read back as they were meant."""
    read = read_network(path).layers
    for i, (layer, other) in enumerate(zip(layers, read, strict=True)):
        pairs: tuple[tuple[str, Any, Any], ...] = (
            *((n, layer.data.get(n), other.data.get(n)) for n in layer.data | other.data),
            *((n, v, (other.state or {}).get(n)) for n, v in (layer.state or {}).items()),
        )
        for name, ours, theirs in pairs:
            if type(ours) is not type(theirs) or not np.array_equal(ours, theirs):
                raise OSError(f"layer {i}: {name} did not reach the disk as it was written")
    return read
