"""The blocks that a module holds, and which kind each of them is."""

from collections.abc import Iterator, Sequence
from typing import Any

from lapilli.export.file.tables import FAMILIES, KINDS
from torch import nn

__all__ = ["blocks_of", "kind_of", "name_of"]


def kind_of(block: nn.Module) -> tuple[str, str] | None:
    """Return module and kind of a block, ``("cuba", "Dense")``, or None for anything else."""
    for cls in type(block).__mro__:
        package, _, module = cls.__module__.rpartition(".")
        if package == "lapilli.blocks" and module in FAMILIES and cls.__name__ in KINDS:
            return module, cls.__name__
    return None


def name_of(block: nn.Module) -> str:
    """Return module and kind of a block as one word, ``cuba.Dense``."""
    return ".".join(kind_of(block) or ())


def blocks_of(net: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    """Return the blocks of a network in order.

    Raises
    ------
    TypeError
        For a module that is no block and holds none, since the file would leave it out.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> len(export.blocks_of(net))
    1
    """
    return list(_walk(net, type(net).__name__))


def _walk(net: Any, name: str) -> Iterator[nn.Module]:
    if isinstance(net, nn.Module) and kind_of(net) is not None:
        yield net
        return
    if isinstance(net, list | tuple):
        children = {str(i): child for i, child in enumerate(net)}
    elif isinstance(net, nn.Module):
        if isinstance(net, nn.Identity | nn.Flatten):
            return
        # _modules, not children(): the latter leaves out a block that is used twice
        children = {"blocks": net.blocks} if hasattr(net, "blocks") else net._modules
    else:
        children = {}
    if not children:
        raise TypeError(
            f"{name} is a {type(net).__name__}: neither a block of lapilli.blocks nor a container "
            f"of blocks; a network file cannot hold it"
        )
    for key, child in children.items():
        if child is not None:
            yield from _walk(child, f"{name}.{key}")
