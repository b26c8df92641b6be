"""What a network takes of a Loihi 2 chip, and how much it works on given data.

What Intel has published about the chip is in ``Chip``: cores, neurons of a core, synapses of a
chip, memory of a core. How that memory is laid out is not public. The cores of a layer are
therefore an estimate, by the memory that its numbers need:

    memory of a core    bits of shared weights + its neurons' part of all other bits
    other bits          synapses that are not zero x bits of a weight, where none are shared
                        + neurons x (states x 24 bits + 6 bits for a delay)
    cores of a layer    the least number of cores that hold its neurons, synapses and bits

Weights of convolutions and pools are shared: each core holds all of them once. Routing tables,
programs of neurons and the placement by Lava's compiler are left out, so that a real placement
takes more.

Activity follows NeuroBench's definitions: a synaptic operation is one weight that is not zero and
meets one input that is not zero; dense operations count zeros as well. Operations are additions
where all inputs of a layer are 0 or 1, otherwise products and additions. Energy is not estimated:
Intel has published no energy of an operation of Loihi 2.

Sources: Intel, "Taking Neuromorphic Computing to the Next Level with Loihi 2", technology brief,
2021; J. Yik et al., "NeuroBench", 2023.
"""

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lapilli.export.file.errors import LayerError, NetworkFileError
from lapilli.export.file.layers import Layer
from lapilli.export.file.reader import read_network
from lapilli.export.file.summary import LayerInfo, inspect
from lapilli.export.file.tables import FAMILIES
from lapilli.export.machine.interpreter import _mapped, passages, prepared
from lapilli.export.machine.neurons import Limits
from lapilli.export.network.saving import save
from torch import Tensor, nn

__all__ = [
    "DELAY_BITS",
    "LOIHI2",
    "STATE_BITS",
    "Budget",
    "Chip",
    "LayerActivity",
    "LayerBudget",
    "Limit",
    "budget",
]

STATE_BITS = 24
DELAY_BITS = 6
_SHARED = ("conv", "convT", "pool", "unpool")

Limit = Literal["neurons", "synapses", "memory"]
_ADVICE: dict[str, str] = {
    "neurons": "use fewer neurons: fewer channels, a larger stride, or pooling before the layer",
    "synapses": "cut synapses with a mask, or replace a dense layer by a convolution",
    "memory": "set small weights to zero with a mask, use weights of fewer bits, or convolutions",
}


@dataclass(frozen=True)
class Chip:
    """Published limits of a chip.

    ``neurons`` and ``memory`` (bytes) are those of one core, ``synapses`` those of the chip.

    Examples
    --------
    >>> from lapilli import export
    >>> export.Chip(name="half a Loihi 2", cores=64).cores
    64
    """

    name: str = "Loihi 2"
    cores: int = 128
    neurons: int = 8192
    synapses: int = 120_000_000
    memory: int = 192 * 1024


LOIHI2 = Chip()


@dataclass(frozen=True)
class LayerBudget:
    """What one layer takes.

    ``synapses`` are connections whose weight is not zero; ``weights`` the numbers that are stored
    for them, fewer where a kernel is shared; ``axons`` the inputs of a fully connected layer, its
    own neurons included where they feed back. ``cores`` is the estimate of the module's docstring,
    by the limit that ``binds``; 0 for a layer without neurons of its own.

    Examples
    --------
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = [slayer.block.cuba.Dense(neuron, 3, 2)]
    >>> layer = export.budget(net, input_shape=(3,)).layers[0]
    >>> layer.neurons, layer.axons, layer.states
    (2, 3, 2)
    """

    index: int
    block: str
    neurons: int
    synapses: int
    weights: int
    weight_bits: int
    shared: bool
    axons: int
    delays: int
    states: int
    memory_bits: int
    cores: int
    binds: Limit | None


@dataclass(frozen=True)
class LayerActivity:
    """How much one layer works; averages over the samples and steps of the data.

    ``input_density`` and ``output_density`` are the shares of values that are not zero.
    ``operations`` are synaptic operations a step, ``dense_operations`` those with zeros counted;
    ``products`` tells whether inputs other than 0 and 1 make them products.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = [slayer.block.cuba.Dense(neuron, 3, 2)]
    >>> layer = export.budget(net, torch.zeros(1, 3, 4), input_shape=(3,)).activity[0]
    >>> layer.operations, layer.dense_operations
    (0.0, 6.0)
    """

    index: int
    block: str
    input_density: float
    output_density: float
    operations: float
    dense_operations: float
    products: bool


@dataclass(frozen=True)
class Budget:
    """What a network takes of a chip; ``str`` of it is a table.

    ``cores`` are estimated, see the module. ``binds`` is the index of the layer that takes most of
    them, ``advice`` what would lower its number. ``activity`` is None without data; ``steps`` and
    ``samples`` are those of the data.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> export.budget("network.net").layers[0].neurons
    2
    """

    chip: Chip
    layers: tuple[LayerBudget, ...]
    cores: int
    chips: int
    binds: int | None
    advice: str
    activity: tuple[LayerActivity, ...] | None = None
    samples: int = 0
    steps: int = 0

    @property
    def operations(self) -> float:
        """Synaptic operations a sample, over all its steps; 0 without data."""
        return self.steps * sum(layer.operations for layer in self.activity or ())

    @property
    def dense_operations(self) -> float:
        """The same with zeros counted."""
        return self.steps * sum(layer.dense_operations for layer in self.activity or ())

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def budget(
    net: str | os.PathLike[str] | nn.Module | Sequence[nn.Module],
    data: Tensor | np.ndarray | None = None,
    *,
    unit: int = 1,
    input_shape: Sequence[int] | None = None,
    chip: Chip = LOIHI2,
) -> Budget:
    """Tell what a network takes of a chip, and how much it works on given data.

    Parameters
    ----------
    net
        A network file, or a network as ``save`` takes it.
    data
        Input ``[N, neurons..., T]``, as ``run`` takes it, on which spikes and operations are
        counted; None: they are not counted.
    unit
        The integer that stands for the number 1 in ``data``; see ``run``.
    input_shape
        Shape of a sample without time, for a network that has not run forward yet.
    chip
        The limits; Loihi 2's by default.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NetworkFileError
        If it is not a network file.
    TypeError, ValueError
        If the network cannot be written as a file, or does not take the data.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> budget = export.budget("network.net")
    >>> budget.cores, budget.layers[0].neurons
    (1, 2)
    """
    if isinstance(net, str | os.PathLike):
        return _of_file(net, data, unit, chip)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.net"
        save(net, path, target="lapilli", input_shape=input_shape)  # what netx lacks, check says
        return _of_file(path, data, unit, chip)


def _of_file(path: Any, data: Any, unit: int, chip: Chip) -> Budget:
    layers = read_network(path).layers
    infos = inspect(path)
    taken = tuple(_layer(layer, info, chip) for layer, info in zip(layers, infos, strict=True))
    cores = sum(layer.cores for layer in taken)
    largest = max(taken, key=lambda layer: layer.cores)
    binds = largest.index if largest.cores else None
    activity, samples, steps = None, 0, 0
    if data is not None:
        x = prepared(layers, data, unit)
        try:
            activity = tuple(_activity(layers, infos, x, unit))
        except LayerError as error:
            raise NetworkFileError(f"{path}: {error}") from None
        samples, steps = len(x), x.shape[-1]
    return Budget(
        chip, taken, cores, -(-cores // chip.cores), binds,
        _ADVICE[largest.binds] if largest.binds else "", activity, samples, steps,
    )  # fmt: skip


def _layer(layer: Layer, info: LayerInfo, chip: Chip) -> LayerBudget:
    shared = layer.type in _SHARED
    matrices = [] if layer.type == "input" else [*layer.weights().values()]
    matrices += [] if layer.type == "input" else [*layer.weights("weight_rec").values()]
    stored = sum(int(np.count_nonzero(matrix)) for matrix in matrices)
    bits = info.weight_bits or 0 if matrices else 0
    states = FAMILIES[layer.module].states if info.neurons else 0
    delays = int(np.count_nonzero(layer.data["delay"])) if "delay" in layer.data else 0
    own = info.neurons * (states * STATE_BITS + (DELAY_BITS if "delay" in layer.data else 0))
    common = stored * bits if shared else 0
    if not shared:
        own += stored * bits
    cores, binds = _cores(info.neurons, info.synapses, own, common, chip)
    return LayerBudget(
        index=info.index, block=info.block, neurons=info.neurons, synapses=info.synapses,
        weights=stored, weight_bits=bits, shared=shared, axons=_axons(layer, matrices),
        delays=delays, states=states, memory_bits=own + common, cores=cores, binds=binds,
    )  # fmt: skip


def _axons(layer: Layer, matrices: list[np.ndarray]) -> int:
    """Return the number of inputs, of a recurrent layer with its own neurons."""
    if not matrices:
        return 0
    if layer.type in ("dense", "dense_rec"):
        own = math.prod(layer.shape) if layer.weights("weight_rec") else 0
        return int(layer.data["inFeatures"]) + own
    return 0


def _cores(
    neurons: int, synapses: int, own: int, common: int, chip: Chip
) -> tuple[int, Limit | None]:
    if not neurons:
        return 0, None
    free = 8 * chip.memory - common
    if free <= 0:
        raise ValueError(
            f"the shared weights of a layer take {common // 8} bytes, and a core of {chip.name} "
            f"has {chip.memory}; use fewer channels or groups"
        )
    needed: dict[Limit, int] = {
        "neurons": -(-neurons // chip.neurons),
        "synapses": -(-synapses * chip.cores // chip.synapses),
        "memory": -(-own // free),
    }
    binds = max(needed, key=lambda limit: needed[limit])
    return needed[binds], binds


def _activity(layers: list[Layer], infos: list[LayerInfo], x: np.ndarray, unit: int) -> Any:
    for layer, info, passage in zip(
        layers, infos, passages(layers, x, unit, Limits(saturates=False)), strict=True
    ):
        if layer.type == "input":
            matrices, operations, dense = [], 0, 0
        else:
            matrices = [*layer.weights().values()]
            live, every = passage.input != 0, np.ones_like(passage.input, dtype=np.int64)
            operations = sum(_count(layer, w != 0, live) for w in matrices)
            dense = sum(_count(layer, np.ones_like(w), every) for w in matrices)
        for matrix in layer.weights("weight_rec").values():
            back = passage.sent[..., :-1].reshape(len(x), -1, max(0, x.shape[-1] - 1)) != 0
            fan_out = np.count_nonzero(matrix, axis=0)
            operations += int((back.sum((0, 2)) * fan_out).sum())
            dense += back.size * len(matrix)
        steps = len(x) * passage.output.shape[-1]
        found = np.unique(passage.input) if matrices else np.zeros(0)
        yield LayerActivity(
            index=info.index, block=info.block,
            input_density=float((passage.input != 0).mean()),
            output_density=float((passage.output != 0).mean()),
            operations=operations / steps, dense_operations=dense / steps,
            products=not set(found.tolist()) <= {0, 1},
        )  # fmt: skip


def _count(layer: Layer, weight: np.ndarray, x: np.ndarray) -> int:
    """Return the number of pairs of a weight and an input where both are set."""
    return int(_mapped(layer, weight.astype(np.int64), x.astype(np.int64)).sum())


_HEADER = ("layer", "block", "neurons", "synapses", "weights", "bits", "memory", "cores", "binds")
_WORK = ("input", "output", "operations", "dense")


def _lines(found: Budget) -> list[str]:
    header = _HEADER + (_WORK if found.activity else ())
    rows = []
    for k, layer in enumerate(found.layers):
        row = [
            str(layer.index), layer.block, str(layer.neurons), str(layer.synapses),
            f"{layer.weights}{' shared' if layer.shared else ''}", str(layer.weight_bits),
            f"{layer.memory_bits / 8192:.1f} KiB", str(layer.cores), layer.binds or "-",
        ]  # fmt: skip
        if found.activity:
            work = found.activity[k]
            row += [
                f"{100 * work.input_density:.2f}%", f"{100 * work.output_density:.2f}%",
                f"{work.operations:.1f}{' MAC' if work.products else ''}",
                f"{work.dense_operations:.1f}",
            ]  # fmt: skip
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    chip = found.chip
    lines.append(
        f"{found.cores} cores of {chip.cores} on a {chip.name} chip ({found.chips} "
        f"chip{'s' * (found.chips != 1)}): an "
        f"estimate, without routing and programs of neurons"
    )
    if found.binds is not None and found.layers[found.binds].cores > 1:
        lines.append(
            f"layer {found.binds} takes most, by its {found.layers[found.binds].binds}: "
            f"{found.advice}"
        )
    if found.activity:
        saved = found.dense_operations / found.operations if found.operations else math.inf
        lines.append(
            f"{found.operations:.0f} synaptic operations a sample of {found.steps} steps, "
            f"{saved:.1f} times fewer than dense ({found.samples} samples)"
        )
    return lines
