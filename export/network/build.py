"""From the layers of a file to blocks that run."""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lapilli.export.file.errors import LayerError, NetworkFileError
from lapilli.export.file.layers import Layer
from lapilli.export.file.reader import read_network
from lapilli.export.file.tables import ENTRIES
from lapilli.neurons.state import Stateful, reset_state
from torch import Tensor, nn

from .builder import Builder, block_class, with_shape
from .builder import Grid as Grid  # where pickles of earlier versions look for it
from .describe import describe

__all__ = ["Grid", "Network", "build", "load", "reset"]


class Network(nn.Module):
    """Blocks that run one after another.

    Parameters
    ----------
    blocks
        Blocks in order.

    Attributes
    ----------
    blocks : nn.ModuleList

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> isinstance(export.load("network.net"), export.Network)
    True
    """

    def __init__(self, blocks: list[nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Any:
        """Run ``x`` through all blocks.

        Parameters
        ----------
        x
            ``[N, neurons..., T]`` in real units. Where the blocks keep their state, as ``load``
            makes them with ``persistent_state=True``, the next call goes on where this one ended.

        Returns
        -------
        Tensor
            Output of the last block; if a block has ``count_log``, a pair of it and the list of
            event rates, one for each of those blocks.
        """
        counts, counting = [], False
        for block in self.blocks:
            x = block(x)
            if getattr(block, "count_log", False):
                counting = True
                x, count = x
                counts.append(count)
        return (x, counts) if counting else x

    def reset_state(self) -> None:
        """Return to rest: the next call starts as the first one did."""
        for block in self.blocks:
            reset(block)

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.blocks)

    def __getitem__(self, index: int) -> nn.Module:
        return self.blocks[index]


def reset(block: nn.Module) -> None:
    """Return a block, or whatever holds blocks, to rest."""
    reset_state(block)


def load(path: str | os.PathLike[str], *, persistent_state: bool | None = None) -> Network:
    """Rebuild a network from a network file of lapilli or of lava-dl.

    In eval mode, in which it is returned, it gives the spikes of the network that was saved; no
    forward pass is needed to know the shapes. Weight norm and masks are part of the weights, unless
    the file was saved ``with_state``: then all parameters are as they were. The random generator
    is left as it was.

    Parameters
    ----------
    path
        The file; it is closed on return.
    persistent_state
        Whether the neurons keep their state from one call to the next, so that a sequence can be
        given in pieces, down to one step at a time; ``net.reset_state()`` begins a new one. None:
        as the file says, which for files of lava-dl means no.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NetworkFileError
        (A ValueError.) If it is no network file, is damaged or breaks the format; names file and
        dataset.
    ValueError
        If the state shall persist and a layer cannot run in pieces: TimeDecimation, whose bins can
        be longer than a piece, and an Input without neuron that delays by a step.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> export.load("network.net")[0]  # doctest: +ELLIPSIS
    Dense(...
    """
    file = read_network(path)
    net = build(file.layers, where=f"{path}: ", verify=bool(file.version))
    if persistent_state is not None:
        _set_persistence(net, persistent_state)
    return net


def _set_persistence(net: Network, persistent: bool) -> None:
    for i, block in enumerate(net):
        reason = None
        if getattr(block, "factor", 1) > 1:
            reason = f"averages bins of {block.factor} steps"
        elif getattr(block, "delay_shift", False) and block.neuron is None:
            reason = "delays by one step without a neuron that keeps the step"
        if persistent and reason:
            raise ValueError(
                f"block {i} ({type(block).__name__}) {reason}, so that pieces of a sequence would "
                f"not give the whole; load the network without persistent_state"
            )
    for module in net.modules():
        if isinstance(module, Stateful):
            module.persistent_state = persistent


def build(layers: list[Layer], where: str = "", verify: bool = False) -> Network:
    """Build the blocks of layers that have been checked, in eval mode.

    With ``verify`` the attributes and the state must agree with the datasets. Errors are
    NetworkFileError and begin with ``where``.
    """
    blocks: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        for i, layer in enumerate(layers):
            try:
                if not layer.inserted:
                    blocks.append(Builder(layer).block)
                    if verify:
                        _check_same(blocks[-1], layer)
                flat = block_class(layer.module, "Flatten")
                for _ in range(layer.flattens):
                    blocks.append(with_shape(flat(), (math.prod(layer.shape), 1, 1)))
            except LayerError as error:
                raise NetworkFileError(
                    f"{where}/layer/{i}/{error.dataset}: {error.problem}"
                ) from None
            # what a constructor or load_state_dict says of arguments that do not fit
            except (ValueError, TypeError, RuntimeError) as error:
                problem = " ".join(str(error).split())
                raise NetworkFileError(f"{where}/layer/{i}: {problem}") from error
    return Network(blocks).eval()


def _check_same(block: nn.Module, layer: Layer) -> None:
    """Raise unless the block, written again, gives the layer: attributes and datasets agree."""
    again, _ = describe(block, "layer")
    for name in layer.data | again.data:
        found: Any = layer.data.get(name)
        expected: Any = again.data.get(name)
        if ENTRIES[name].form == "channels" and name in layer.data and name in again.data:
            found, expected = np.broadcast_arrays(found, expected)  # one value may stand for all
        if not np.array_equal(found, expected):
            raise LayerError(name, "does not agree with the attributes or the state of the layer")
