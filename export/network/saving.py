"""Write network files: everything is checked first, then written, then read back."""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import h5py
import numpy as np
from lapilli.export.file.errors import LayerError, NetxCompatibilityWarning, QuantisationWarning
from lapilli.export.file.files import replacing
from lapilli.export.file.layers import Layer
from lapilli.export.file.netx import incompatibilities
from lapilli.export.file.shapes import check_chain
from lapilli.export.file.writer import file_image, read_back, write_layer
from torch import Tensor, nn

from .blocks import blocks_of
from .build import Network, build
from .builder import with_shape
from .describe import describe
from .probe import Call, ProbeError, compare, copy_of, trace

__all__ = ["Plan", "arrange", "export_block", "planned", "save", "shaped"]

_DENSE = ("dense", "dense_rec")


def export_block(block: nn.Module, handle: h5py.Group) -> None:
    """Write one block into an empty group, as ``block.export_hdf5(handle)`` does.

    Before anything is written, a copy of the block and what the file makes of it run on a probe of
    two samples and 32 steps.

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
        If the format cannot hold a value, the file would give other values than the block, or the
        group is not empty.

    Warns
    -----
    QuantisationWarning
        If written values differ from the parameters because they were clamped or rounded.
    NetxCompatibilityWarning
        If lava netx will refuse the layer or run it differently.

    Examples
    --------
    >>> import h5py
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> with h5py.File("block.h5", "w") as file:
    ...     export.export_block(net[0], file.create_group("0"))
    """
    if len(handle):
        raise ValueError(f"group {handle.name} is not empty; it has {sorted(handle)}")
    where = f"block for {handle.name}"
    layer, notes = describe(block, where)
    _refuse_complex_recurrence([layer], "netx")
    Plan([layer], notes, trace([block])).verify(build([layer], f"{where}: "))
    for category, message in _messages([layer], notes, "netx"):
        warnings.warn(message, category, stacklevel=2)
    write_layer(handle, layer)


def save(
    net: nn.Module | Sequence[nn.Module],
    path: str | os.PathLike[str],
    *,
    target: Literal["netx", "lapilli"] = "netx",
    strict: bool = False,
    with_state: bool = False,
    example: Tensor | tuple[Any, ...] | None = None,
    input_shape: Sequence[int] | None = None,
    verify: bool = True,
) -> None:
    """Write a network as an HDF5 network file.

    The file holds the blocks in the order in which they run: a copy of the network runs once, on a
    probe of two samples and 32 steps, and must be one chain of blocks from its input to its output.
    The file is then read back, and its layers run on the same probe must give the same values. It
    appears at ``path`` complete or not at all; a file that was there stays until then.

    Parameters
    ----------
    net
        A module that runs blocks one after another, or that has no forward and holds blocks; or a
        list of blocks, or of such modules. It is not changed.
    path
        File to write; its folder exists.
    target
        ``netx`` warns of what lava netx cannot run, and refuses what it would run wrongly without
        a word; ``lapilli`` is for files that only lapilli reads.
    strict
        Raise where a warning would be given.
    with_state
        Also store the exact float parameters, to resume training.
    example
        Input of the network ``[N, neurons..., T]``, or a tuple of the arguments of its forward, to
        be used as the probe. Needed only where a network takes no input that its blocks tell.
    input_shape
        Shape of a sample without time, for a network that has not run forward yet. Other than a
        forward, it does not make up for decays that are drawn at the first one.
    verify
        Compare what the file gives with what the network gives; False writes without.

    Raises
    ------
    TypeError
        If the network holds something that is not a block.
    RuntimeError
        If a block does not know its shape, or has not drawn its parameters yet.
    ValueError
        If the network is not one chain of blocks, does not take the probe or gives other values
        than the file; if the format cannot hold a value; with ``strict`` also instead of each
        warning.
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

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> torch.equal(export.load("network.net")(x), output)
    True
    """
    if target not in ("netx", "lapilli"):
        raise ValueError(f"target must be 'netx' or 'lapilli'; got {target!r}")
    plan = planned(net, with_state, example, input_shape)
    _refuse_complex_recurrence(plan.layers, target)
    messages = list(_messages(plan.layers, plan.notes, target))
    if strict and messages:
        raise ValueError("\n".join(message for _, message in messages))
    for category, message in messages:
        warnings.warn(message, category, stacklevel=2)
    _replace(path, plan, verify)


@dataclass
class Plan:
    """What is to be written: the layers, what changed in them, and the calls they stand for."""

    layers: list[Layer]
    notes: list[str]
    calls: list[Call]

    def verify(self, network: Network) -> None:
        """Raise ``ChainError`` unless the blocks of the file give what those of the network do."""
        stand = [  # each block of the file: whether the network has it too, with the same values
            pair
            for layer in self.layers
            for pair in (
                *([] if layer.inserted else [(not layer.implied, not layer.rounded)]),
                *[(True, True)] * layer.flattens,
            )
        ]
        found = zip(network.blocks, stand, strict=True)
        own = [(block, exact) for block, (is_own, exact) in found if is_own]
        compare(self.calls, [block for block, _ in own], [exact for _, exact in own])


def planned(
    net: nn.Module | Sequence[nn.Module],
    with_state: bool = False,
    example: Tensor | tuple[Any, ...] | None = None,
    input_shape: Sequence[int] | None = None,
) -> Plan:
    """Describe the blocks of a network in the order in which they run, see ``save``."""
    blocks = blocks_of(net)
    if not blocks:
        raise ValueError("the network has no blocks")
    for i, block in enumerate(blocks):
        for name, parameter in block.named_parameters():
            if hasattr(parameter, "full_tensor"):  # a DTensor
                raise ValueError(
                    f"layer {i}: {name} is divided among processes, as by FSDP2, and a file holds "
                    f"the whole network. Load a checkpoint of it into a network that is not "
                    f"divided, and save that: see docs/distributed.md."
                )
    first = []
    if example is None and input_shape is None:
        # before anything runs: what is wrong with a block is better said of its values
        first = [describe(b, f"layer {i}", with_state) for i, b in enumerate(blocks)]
    try:
        calls = trace(net, example, input_shape)
    except ProbeError:
        if first and not isinstance(net, nn.Module):
            arrange([layer for layer, _ in first])  # which layers do not fit says more
        raise
    described = [
        first[i]
        if i < len(first) and blocks[i] is call.block
        else describe(shaped(call), f"layer {i}", with_state)
        for i, call in enumerate(calls)
    ]
    notes = [note for _, said in described for note in said]
    return Plan(arrange([layer for layer, _ in described]), notes, calls)


def shaped(call: Call) -> nn.Module:
    """Return a block that knows its shape: a copy, told that of the trace, if it does not."""
    block = call.block
    return block if block.shape is not None else with_shape(copy_of(block), call.twin.shape)


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
            flatten.inserted = takes_image = isinstance(layer.params["in_neurons"], list)
            flatten.implied = not takes_image  # forward flattens by an operator of torch
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


def _replace(path: str | os.PathLike[str], plan: Plan, verify: bool) -> None:
    """Write next to ``path``, verify, then put the file in its place in one step."""
    layers = plan.layers
    image = file_image(layers)
    with replacing(path) as temporary:
        temporary.write_bytes(image)
        read = read_back(temporary, layers)
        if verify:
            plan.verify(build(read, f"{path}: ", verify=True))
