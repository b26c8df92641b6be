"""Write network files: everything is checked first, then written, then read back."""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from torch import nn

from .describe import describe, kind_of
from .errors import LayerError, NetxCompatibilityWarning, QuantisationWarning
from .files import replacing
from .layers import FORMAT, FORMAT_VERSION, Layer, check_chain
from .netx import incompatibilities
from .reader import read_network

_DENSE = ("dense", "dense_rec")


def export_block(block: nn.Module, handle: h5py.Group) -> None:
    """Write one block into an empty group, as ``block.export_hdf5(handle)`` does.

    Parameters
    ----------
    block
        A block that has run forward once, or was loaded; it is not changed.
    handle
        Group of an open file, usually ``/layer/<i>``; untouched if anything is wrong.

    Raises
    ------
    RuntimeError
        If the block does not know its shape yet.
    ValueError
        If the format cannot hold a value, or the group is not empty.

    Warns
    -----
    QuantisationWarning
        If written values differ from the parameters because they were clamped or rounded.
    NetxCompatibilityWarning
        If lava netx will refuse the layer or run it differently.
    """
    if len(handle):
        raise ValueError(f"group {handle.name} is not empty; it has {sorted(handle)}")
    layer, notes = describe(block, f"block for {handle.name}")
    _refuse_complex_recurrence([layer], "netx")
    for category, message in _messages([layer], notes, "netx"):
        warnings.warn(message, category, stacklevel=2)
    _write_layer(handle, layer)


def save(
    net: nn.Module | Sequence[nn.Module],
    path: str | os.PathLike[str],
    *,
    target: Literal["netx", "lapilli"] = "netx",
    strict: bool = False,
    with_state: bool = False,
) -> None:
    """Write a network as an HDF5 network file.

    The file appears at ``path`` complete or not at all; a file that was there stays until then.

    Parameters
    ----------
    net
        Blocks in order: a list, a module with ``.blocks``, or a module whose children are blocks or
        hold blocks (nn.Sequential). It has run forward once, or was loaded, and is not changed.
    path
        File to write; its folder exists.
    target
        ``netx`` warns of what lava netx cannot run, and refuses what it would run wrongly without
        a word; ``lapilli`` is for files that only lapilli reads.
    strict
        Raise where a warning would be given.
    with_state
        Also store the exact float parameters, to resume training.

    Raises
    ------
    TypeError
        If the network holds something that is not a block.
    RuntimeError
        If a block does not know its shape yet.
    ValueError
        If the format cannot hold a value; with ``strict`` also instead of each warning.
    NotImplementedError
        For complex recurrent blocks with target ``netx``.
    OSError
        If the file cannot be written.

    Warns
    -----
    QuantisationWarning
        If written values differ from the parameters because they were clamped or rounded.
    NetxCompatibilityWarning
        Once for each cause for which lava netx will refuse the network or run it differently.
    """
    if target not in ("netx", "lapilli"):
        raise ValueError(f"target must be 'netx' or 'lapilli'; got {target!r}")
    layers, notes = _plan(net, with_state)
    _refuse_complex_recurrence(layers, target)
    messages = list(_messages(layers, notes, target))
    if strict and messages:
        raise ValueError("\n".join(message for _, message in messages))
    for category, message in messages:
        warnings.warn(message, category, stacklevel=2)
    _replace(path, layers)


def blocks_of(net: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    """Return the blocks of a network in order.

    Raises
    ------
    TypeError
        For a module that is no block and holds none, since the file would leave it out.
    """
    return list(_walk(net, type(net).__name__))


def _walk(net: Any, name: str) -> Iterator[nn.Module]:
    if isinstance(net, nn.Module) and kind_of(net) is not None:
        yield net
        return
    if isinstance(net, list | tuple):
        children = {str(i): child for i, child in enumerate(net)}
    elif isinstance(net, nn.Module):
        # _modules, not children(): the latter leaves out a block that is used twice
        children = {"blocks": net.blocks} if hasattr(net, "blocks") else net._modules
    else:
        children = {}
    if not children and not isinstance(net, nn.Identity):
        raise TypeError(
            f"{name} is a {type(net).__name__}: neither a block of lapilli.blocks nor a container "
            f"of blocks; a network file cannot hold it"
        )
    for key, child in children.items():
        if child is not None:
            yield from _walk(child, f"{name}.{key}")


def _plan(net: Any, with_state: bool) -> tuple[list[Layer], list[str]]:
    """Describe every block and bring them into the order of the file."""
    described = [describe(b, f"layer {i}", with_state) for i, b in enumerate(blocks_of(net))]
    notes = [note for _, said in described for note in said]
    return arrange([layer for layer, _ in described]), notes


def arrange(blocks: list[Layer]) -> list[Layer]:
    """Return the layers of a file: flattens added and left out where netx needs it.

    Raises
    ------
    ValueError
        If a layer does not take the shape of the one before, or there is none.
    """
    layers: list[Layer] = []
    for i, layer in enumerate(blocks):
        before = layers[-1] if layers else None
        if layer.type == "flatten" and before is not None and before.is_flat:
            before.flattens += 1  # netx raises on a flatten of one dimension
            continue
        if layer.type in _DENSE and _needs_flatten(layer, before):
            inputs = int(layer.data["inFeatures"])
            flatten = Layer("flatten", {"shape": np.array([inputs, 1, 1])}, layer.module, "Flatten")
            flatten.inserted = True
            _chain(before, flatten, f"layer {i}")
            layers.append(flatten)
            before = flatten
        _chain(before, layer, f"layer {i}")
        layers.append(layer)
    if not layers:
        raise ValueError("the network has no blocks")
    return layers


def _needs_flatten(layer: Layer, before: Layer | None) -> bool:
    if before is None:
        return isinstance(layer.params["in_neurons"], list)
    return not before.is_flat


def _chain(before: Layer | None, layer: Layer, where: str) -> None:
    if before is not None:
        try:
            check_chain(before.shape, layer)
        except LayerError as error:
            raise ValueError(f"{where} ({layer.module}.{layer.block}): {error}") from None


def _refuse_complex_recurrence(layers: list[Layer], target: str) -> None:
    for i, layer in enumerate(layers):
        if target == "netx" and layer.type == "dense_rec" and layer.is_complex:
            raise NotImplementedError(
                f"layer {i} ({layer.module}.{layer.block}): netx would load it and drop the "
                f"recurrence; save it with target='lapilli'"
            )


def _messages(
    layers: list[Layer], notes: list[str], target: str
) -> Iterator[tuple[type[Warning], str]]:
    for note in notes:
        yield QuantisationWarning, note
    if target == "netx":
        for message in incompatibilities(layers):
            yield NetxCompatibilityWarning, message


# the file


def _replace(path: str | os.PathLike[str], layers: list[Layer]) -> None:
    """Write next to ``path``, verify, then put the file in its place in one step."""
    # built in memory: HDF5 does not survive a write that fails, a full disk for instance
    with h5py.File("network", "w", driver="core", backing_store=False) as file:
        _write_network(file, layers)
        file.flush()
        image = file.id.get_file_image()
    with replacing(path) as temporary:
        temporary.write_bytes(image)
        _verify(temporary, layers)


def _write_network(file: h5py.File, layers: list[Layer]) -> None:
    from lapilli import __version__

    _set_text(file, "format", FORMAT)
    file.attrs["format_version"] = FORMAT_VERSION
    _set_text(file, "lapilli_version", __version__)
    file.attrs["num_layers"] = len(layers)
    for i, layer in enumerate(layers):
        _write_layer(file.create_group(f"layer/{i}"), layer)


def _set_text(owner: h5py.Group, name: str, text: str) -> None:
    """Set an attribute of fixed length: HDF5 trusts the declared length of the other kind."""
    owner.attrs[name] = np.bytes_(text.encode())


def _write_layer(group: h5py.Group, layer: Layer) -> None:
    group["type"] = np.array([layer.type], dtype="S10")
    for name, value in layer.data.items():
        group[name] = value
    _set_text(group, "module", layer.module)
    _set_text(group, "block", layer.block)
    _set_text(group, "params", json.dumps(layer.params, sort_keys=True, allow_nan=False))
    group.attrs["inserted"] = layer.inserted
    if layer.flattens:
        group.attrs["flattens"] = layer.flattens
    for key, value in (layer.state or {}).items():
        group[f"lapilli/state/{key}"] = value


def _verify(path: Path, layers: list[Layer]) -> None:
    """Raise unless the file reads back as it was meant."""
    read = read_network(path).layers
    for i, (layer, other) in enumerate(zip(layers, read, strict=True)):
        for name, ours, theirs in (
            *((n, layer.data.get(n), other.data.get(n)) for n in layer.data | other.data),
            *((n, v, (other.state or {}).get(n)) for n, v in (layer.state or {}).items()),
        ):
            if type(ours) is not type(theirs) or not np.array_equal(ours, theirs):
                raise OSError(f"layer {i}: {name} did not reach the disk as it was written")
