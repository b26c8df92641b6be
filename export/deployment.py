"""Whether a network can be deployed, said before it is trained or written."""

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from .describe import is_settled, kind_of, survey
from .errors import LayerError
from .layers import ENTRIES, PARTS, STATE_LIMIT, STATE_UNITS, WEIGHT_RANGE, Layer
from .netx import CAUSES
from .reader import read_network
from .writer import arrange, blocks_of

TARGETS = ("loihi2-netx", "lapilli")

# Input axons of a core of the first Loihi. Source: nengo-loihi, hardware/validate.py.
INPUT_AXONS = 4096

_RUN_FORWARD = "run the network forward once, or pass input_shape"
# by the beginning of a dataset's name
_REMEDIES = {
    "weight": "leave pre_hook_fx at its default, which clamps, or clamp in your own",
    "bias": "leave the norm's pre_hook_fx at its default, which clamps, or lower the bias",
    "delay": "keep the delays in their range: block.delay.clamp() after each optimiser step",
    "neuron/vThMant": "choose a threshold from 1 / scale to 131071 / scale",
    "neuron/vThStep": "choose a threshold_step from 0 to 131071 / scale",
}
_DECAYS = "keep the decay in [0, 1]: neuron.clamp() after each optimiser step"
_DIVERGED = "training has diverged: lower the learning rate"
_OTHER = "build the layer otherwise; docs/network-files.md tells what a file can hold"


@dataclass(frozen=True)
class Finding:
    """One reason against deploying a network; its text is one line.

    ``layer`` is the index of the layer, None for the whole network; ``block`` its kind. ``blocks``
    tells whether the network cannot be deployed as it is, or only deserves a look.
    """

    layer: int | None
    block: str
    problem: str
    limit: str
    remedy: str
    blocks: bool = True

    def __str__(self) -> str:
        where = "network" if self.layer is None else f"layer {self.layer} ({self.block})"
        kind = "error" if self.blocks else "warning"
        return f"{where}: {kind}: {self.problem}; limit: {self.limit}; remedy: {self.remedy}"


def check(
    net: str | os.PathLike[str] | nn.Module | Sequence[nn.Module],
    target: Literal["loihi2-netx", "lapilli"] = "loihi2-netx",
    *,
    input_shape: Sequence[int] | None = None,
) -> list[Finding]:
    """List what stands against deploying a network; also before it is trained.

    Parameters
    ----------
    net
        A network file, or a network as ``save`` takes it; it is not changed.
    target
        ``loihi2-netx``: lava netx on Loihi 2; ``lapilli``: only what the file can hold.
    input_shape
        Shape of a sample without time, for a network that has not run forward yet: a copy of it
        runs for one step. Without it such a network's shapes are among the findings.

    Returns
    -------
    list of Finding
        In the order of the layers; the network can be deployed if none of them ``blocks``.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NetworkFileError
        If it is no network file.
    ValueError
        For an unknown target, or an input that the network does not take.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}; got {target!r}")
    if isinstance(net, str | os.PathLike):
        layers = read_network(net).layers
        found: list[Finding] = []
    else:
        layers, found = _survey(net, input_shape)
    for i, layer in enumerate(layers):
        if target == "loihi2-netx":
            found += [*_of_netx(i, layer), *_of_chip(i, layer)]
    return sorted(found, key=lambda f: -1 if f.layer is None else f.layer)


def _survey(net: Any, input_shape: Sequence[int] | None) -> tuple[list[Layer], list[Finding]]:
    """Return the layers of a network's blocks, and what the format has against them."""
    try:
        blocks = blocks_of(net)
    except TypeError as error:
        limit = "blocks of lapilli.blocks"
        return [], [Finding(None, "", str(error), limit, "build the network of blocks only")]
    if input_shape is not None:
        blocks = _settled(blocks, input_shape)
    layers: list[Layer] = []
    found: list[Finding] = []
    for i, block in enumerate(blocks):
        layer, notes, faults = survey(block)
        layers.append(layer)
        name = ".".join(kind_of(block))
        if not is_settled(block):
            problem = "does not know its shape or its parameters yet: it has not run forward"
            found.append(Finding(i, name, problem, "known shapes", _RUN_FORWARD))
            faults = [fault for fault in faults if fault.dataset != "shape"]
        found += [_of_fault(i, name, fault) for fault in faults]
        found += [_of_note(i, name, note) for note in notes]
    if not any(f.blocks for f in found):
        try:
            arrange(layers)
        except ValueError as error:
            remedy = "make each layer take the shape of the one before"
            found.append(Finding(None, "", str(error), "layers that fit", remedy))
    return layers, found


def _settled(blocks: list[nn.Module], input_shape: Sequence[int]) -> list[nn.Module]:
    """Return copies of the blocks that have run for one step on silence."""
    copies = copy.deepcopy(blocks)
    parameters = (p for block in copies for p in block.parameters())
    device = next(parameters, torch.empty(0)).device
    x: Any = torch.zeros(1, *input_shape, 1, device=device)
    devices = [device] if device.type != "cpu" else []
    with torch.no_grad(), torch.random.fork_rng(devices, device_type=device.type):
        for i, block in enumerate(copies):
            try:
                y = block.eval()(x)
            except (ValueError, RuntimeError, AssertionError) as error:
                name = ".".join(kind_of(block))
                raise ValueError(
                    f"input_shape {tuple(input_shape)} does not suit layer {i} ({name}): {error}"
                ) from error
            x = y[0] if isinstance(y, tuple) else y
    return copies


def _of_fault(i: int, block: str, fault: LayerError) -> Finding:
    name = fault.dataset
    remedies = (text for start, text in _REMEDIES.items() if name.startswith(start))
    remedy = _DECAYS if name.endswith("Decay") else next(remedies, _OTHER)
    if "not finite" in fault.problem:
        remedy = _DIVERGED
    problem, _, limit = str(fault).partition("; allowed are ")
    return Finding(i, block, problem, limit or _limit_of(name), remedy)


def _limit_of(dataset: str) -> str:
    entry = ENTRIES.get(dataset)
    if entry is None or entry.form in ("flag", "text", "floats"):
        return "what the format holds, see docs/network-files.md"
    return f"{entry.low} to {entry.high}"


def _of_note(i: int, block: str, note: str) -> Finding:
    low, high = WEIGHT_RANGE
    limit = f"even integers in [{low}, {high}], over the scale"
    remedy = "nothing if the accuracy is right: the file holds what forward uses"
    if "pre_hook_fx" in note:
        remedy = "leave pre_hook_fx at its default, so that training sees the rounding"
    return Finding(i, block, note, limit, remedy, blocks=False)


def _of_netx(i: int, layer: Layer) -> Iterator[Finding]:
    block = f"{layer.module}.{layer.block}"
    for cause in CAUSES:
        if cause.applies(layer):
            yield Finding(i, block, *cause[:3], blocks=cause.blocks)


def _of_chip(i: int, layer: Layer) -> Iterator[Finding]:
    """Yield what a core has against the fan-in of a neuron."""
    block = f"{layer.module}.{layer.block}"
    for rows in _rows(layer):
        synapses = (rows != 0).sum(1).max()
        if synapses > INPUT_AXONS:
            yield Finding(
                i, block, f"a neuron has {synapses} synapses", f"{INPUT_AXONS} input axons a core",
                "use fewer inputs, or a mask", blocks=False,
            )  # fmt: skip
        reach = STATE_UNITS * max(rows.clip(min=0).sum(1).max(), -rows.clip(max=0).sum(1).min())
        if reach > STATE_LIMIT:
            yield Finding(
                i, block, f"spikes at all inputs of a neuron add up to {reach} state units",
                f"{STATE_LIMIT}: states have 24 bits",
                "count the overflows on your data with lapilli run", blocks=False,
            )  # fmt: skip


def _rows(layer: Layer) -> Iterator[np.ndarray]:
    """Yield the weights of each part as int64 ``[neurons or channels, synapses of each]``."""
    if layer.type == "input":
        return
    for part in PARTS:
        names = [name + part for name in ("weight", "weight_rec") if name + part in layer.data]
        if names:
            matrices = [_by_target(layer, layer.data[name].astype(np.int64)) for name in names]
            yield np.concatenate(matrices, axis=1)


def _by_target(layer: Layer, weight: np.ndarray) -> np.ndarray:
    if layer.type == "convT":  # [in, out / groups, ...]
        grouped = weight.reshape(int(layer.data["groups"]), -1, *weight.shape[1:])
        weight = grouped.swapaxes(1, 2).reshape(-1, grouped.shape[1], *weight.shape[2:])
    return weight.reshape(len(weight), -1)
