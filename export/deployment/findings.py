"""Whether a network can be deployed, said before it is trained or written."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lapilli.export.file.errors import LayerError, NetworkFileError
from lapilli.export.file.layers import Layer
from lapilli.export.file.netx import causes_of
from lapilli.export.file.reader import read_network
from lapilli.export.file.tables import (
    ENTRIES,
    MAX_DELAY,
    PARTS,
    STATE_LIMIT,
    STATE_UNITS,
    WEIGHT_RANGE,
)
from lapilli.export.machine.interpreter import passages, prepared
from lapilli.export.machine.neurons import Limits
from lapilli.export.network.blocks import blocks_of, name_of
from lapilli.export.network.build import build
from lapilli.export.network.describe import is_settled, survey
from lapilli.export.network.probe import Call, ChainError, ProbeError, trace
from lapilli.export.network.saving import Plan, arrange, save
from torch import Tensor, nn

__all__ = ["INPUT_AXONS", "TARGETS", "Finding", "check"]

TARGETS = ("loihi2-netx", "lapilli")

# Input axons of a core of the first Loihi. Source: nengo-loihi, hardware/validate.py.
INPUT_AXONS = 4096

_RUN_FORWARD = "run the network forward once, or pass input_shape"
# by the beginning of a dataset's name
_REMEDIES = {
    "weight": "leave pre_hook_fx at its default, which clamps, or clamp in your own",
    "bias": "leave the norm's pre_hook_fx at its default, which clamps, or lower the bias",
    "neuron/vThMant": "choose a threshold from 1 / scale to 131071 / scale",
    "neuron/vThStep": "choose a threshold_step from 0 to 131071 / scale",
}
_DECAYS = "keep the decay in [0, 1]: neuron.clamp() after each optimiser step"
_DIVERGED = "training has diverged: lower the learning rate"
_FORMAT = "what the format holds, see docs/network-files.md"
_OTHER = "build the layer otherwise; docs/network-files.md tells what a file can hold"


@dataclass(frozen=True)
class Finding:
    """One reason against deploying a network; its text is one line.

    ``layer`` is the index of the layer, None for the whole network; ``block`` its kind. ``blocks``
    tells whether the network cannot be deployed as it is, or only deserves a look.

    Examples
    --------
    >>> from lapilli import export
    >>> finding = export.Finding(1, "alif.Dense", "ALIF", "netx has no such neuron", "use cuba")
    >>> finding.blocks
    True
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
    data: Tensor | np.ndarray | None = None,
    unit: int = 1,
) -> list[Finding]:
    """List what stands against deploying a network; also before it is trained.

    Parameters
    ----------
    net
        A network file, or a network as ``save`` takes it; it is not changed.
    target
        ``loihi2-netx``: lava netx on Loihi 2; ``lapilli``: only what the file can hold.
    input_shape
        Shape of a sample without time, for a network that has not run forward yet. A copy of the
        network runs on a probe, as ``save`` says. Without it the shapes of a network that has not
        run are among the findings.
    data
        Input ``[N, neurons..., T]``, as ``run`` takes it. If nothing blocks the network, it runs on
        this in integers, as on the chip, and each layer of which states leave 24 bits is among the
        findings, with their number.
    unit
        The integer that stands for the number 1 in ``data``; see ``run``.

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
        For an unknown target, or an input or ``data`` that the network does not take.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> export.check("network.net")
    []
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}; got {target!r}")
    if isinstance(net, str | os.PathLike):
        layers = read_network(net).layers
        found: list[Finding] = []
    else:
        layers, found = _survey(net, input_shape)
    if target == "loihi2-netx":
        for i, cause in causes_of(layers):
            name = f"{layers[i].module}.{layers[i].block}"
            found.append(Finding(i, name, *cause[:3], blocks=cause.blocks))
        for i, layer in enumerate(layers):
            found += _of_chip(i, layer)
    if data is not None and not any(f.blocks for f in found):
        found += _of_data(_written(net, input_shape), data, unit)
    return sorted(found, key=lambda f: -1 if f.layer is None else f.layer)


def _survey(net: Any, input_shape: Sequence[int] | None) -> tuple[list[Layer], list[Finding]]:
    """Return the layers of a network's blocks, and what the format has against them."""
    try:
        blocks = blocks_of(net)
    except TypeError as error:
        limit = "blocks of lapilli.blocks"
        return [], [Finding(None, "", str(error), limit, "build the network of blocks only")]
    found: list[Finding] = []
    calls: list[Call] = []
    untried: ProbeError | None = None
    if input_shape is not None or all(map(is_settled, blocks)):
        try:
            calls = trace(net, None, input_shape)
        except ChainError as error:
            found.append(_of_chain(error))
        except ProbeError as error:
            if input_shape is not None:
                raise
            untried = error
    described = [call.block if is_settled(call.block) else call.twin for call in calls] or blocks
    layers: list[Layer] = []
    notes: list[str] = []
    for i, block in enumerate(described):
        layer, said, faults = survey(block)
        layers.append(layer)
        notes += said
        name = name_of(block)
        if not is_settled(block):
            problem = "does not know its shape or its parameters yet: it has not run forward"
            found.append(Finding(i, name, problem, "known shapes", _RUN_FORWARD))
            faults = [fault for fault in faults if fault.dataset != "shape"]
        found += [_of_fault(i, name, fault) for fault in faults]
        found += [_of_note(i, name, note) for note in said]
    if not any(f.blocks for f in found):
        try:
            plan = Plan(arrange(layers), notes, calls)
            if calls:
                plan.verify(build(plan.layers))
        except ChainError as error:
            found.append(_of_chain(error))
        except NetworkFileError as error:
            found.append(Finding(None, "", f"the file would not load: {error}", _FORMAT, _OTHER))
        except ValueError as error:
            remedy = "make each layer take the shape of the one before"
            found.append(Finding(None, "", str(error), "layers that fit", remedy))
        else:
            if untried is not None:
                limit, remedy = "an input that the network takes", "pass input_shape"
                found.append(Finding(None, "", str(untried), limit, remedy, blocks=False))
    return layers, found


def _of_chain(error: ChainError) -> Finding:
    problem, _, remedy = str(error).partition("; ")
    return Finding(None, "", problem, "one chain of blocks that the file can hold", remedy)


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
        return _FORMAT
    return f"{entry.low} to {entry.high}"


def _of_note(i: int, block: str, note: str) -> Finding:
    low, high = WEIGHT_RANGE
    limit = f"even integers in [{low}, {high}], over the scale"
    remedy = "nothing if the accuracy is right: the file holds what forward uses"
    if "pre_hook_fx" in note:
        remedy = "leave pre_hook_fx at its default, so that training sees the rounding"
    elif note.startswith("delay"):
        limit = f"0 to {MAX_DELAY} whole steps"
        if "max_delay is" in note:
            remedy = f"set max_delay to {MAX_DELAY}, so that training sees the limit"
    elif note.startswith(("neuron/vThMant", "bias: rounded")):
        limit = "multiples of 1 over the scale"
        remedy = "nothing if the accuracy is right: lapilli keeps the exact value, netx does not"
    return Finding(i, block, note, limit, remedy, blocks=False)


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
                "count the overflows on your data: check(net, data=x)", blocks=False,
            )  # fmt: skip


def _written(net: Any, input_shape: Sequence[int] | None) -> list[Layer]:
    """Return the layers of a network's file."""
    if isinstance(net, str | os.PathLike):
        return read_network(net).layers
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.net"
        save(
            net, path, target="lapilli", input_shape=input_shape
        )  # what netx lacks is said already
        return read_network(path).layers


def _of_data(layers: list[Layer], data: Any, unit: int) -> Iterator[Finding]:
    """Yield the layers whose states leave 24 bits on the data."""
    limits = Limits(saturates=True)
    try:
        before = 0
        for i, _ in enumerate(passages(layers, prepared(layers, data, unit), unit, limits)):
            count, before = limits.overflows - before, limits.overflows
            if count:
                yield Finding(
                    i, f"{layers[i].module}.{layers[i].block}",
                    f"states leave 24 bits {count} times on the data",
                    f"{STATE_LIMIT}: a current wraps around, other states stay at the limit",
                    "use smaller weights, more decay or a smaller scale", blocks=False,
                )  # fmt: skip
    except LayerError as error:
        yield Finding(
            None, "", f"the data was not tried: {error}", "neurons with an integer form",
            "run the network in float", blocks=False,
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
