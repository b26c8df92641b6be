"""Networks rebuilt from network files.

Source: lava-dl auto.py.
"""

import importlib
import os
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Literal, cast, get_args

import torch
from lapilli.neurons.state import Stateful
from torch import Tensor

from .utils.utils import share_of_events

__all__ = ["Reduction", "SequentialNetwork", "get_classes", "get_neuron_params"]

Reduction = Literal["sum", "mean"]


class SequentialNetwork(torch.nn.Module):
    """Blocks of a network file, one after another, in evaluation mode.

    Parameters
    ----------
    network_config
        Path of the file, from lapilli or lava-dl; it is closed at once.
    persistent_state
        All neurons keep their state from one call to the next.
    reduction
        ``sum`` or ``mean`` of the output over time and over all axes after the classes; None for
        none.
    weight_norm
        Learn direction and length of the weights apart.
    count_log
        Also return the event rate of every block.

    Attributes
    ----------
    blocks : torch.nn.ModuleList

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NetworkFileError
        (A ValueError.) If it is no network file, or breaks the format.
    ValueError
        If the reduction is unknown.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> same = slayer.auto.SequentialNetwork("network.net")
    >>> torch.equal(same(x), output)
    True
    """

    def __init__(
        self,
        network_config: str | os.PathLike[str],
        persistent_state: bool = False,
        reduction: Reduction | None = None,
        weight_norm: bool = False,
        count_log: bool = False,
    ) -> None:
        super().__init__()
        if reduction is not None and reduction not in get_args(Reduction):
            raise ValueError(f"reduction is {reduction!r}; expected 'sum', 'mean' or None")
        from lapilli.export import load  # h5py is imported where a file is read

        self.blocks = load(network_config).blocks
        self.reduction = reduction
        self.count_log = bool(count_log)
        for module in cast("Iterable[Any]", self.modules()):
            if persistent_state and isinstance(module, Stateful):
                module.persistent_state = True
            enable = getattr(module, "enable_weight_norm", None)
            if weight_norm and enable is not None:
                enable()
            if module is not self and hasattr(module, "count_log"):
                module.count_log = False
        self.eval()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Run ``x`` through all blocks.

        Returns
        -------
        Tensor
            Output of the last block, ``[N, K]`` where it is reduced; with ``count_log`` a pair of
            it and the event rates ``[1, blocks]``, without the first time step.
        """
        rates = []
        for block in self.blocks:
            x = block(x)
            if self.count_log:
                rates.append(share_of_events(x))
        if self.reduction is not None:
            x = getattr(x.flatten(2), self.reduction)(-1)
        return (x, torch.stack(rates).unsqueeze(0)) if self.count_log else x


def get_classes(neuron_type: str | bytes | None = None) -> tuple[ModuleType, ModuleType]:
    """Return the modules of neuron and blocks of a neuron type of network files.

    Parameters
    ----------
    neuron_type
        ``CUBA``, ``LOIHI`` (the same), ``ALIF``, ``RF_PHASE``, ``RF_IZHIKEVICH``, ``ADRF_PHASE``,
        ``ADRF_IZHIKEVICH`` or ``SDNN``; None for ``CUBA``.

    Raises
    ------
    ValueError
        For any other type.

    Examples
    --------
    >>> from lapilli import slayer
    >>> neurons, blocks = slayer.auto.get_classes("SDNN")
    >>> blocks.__name__
    'lapilli.blocks.sigma_delta'
    """
    from lapilli.export.file.tables import MODULE_OF_NEURON  # h5py is imported where a file is read

    if isinstance(neuron_type, bytes):
        neuron_type = neuron_type.decode()
    name = MODULE_OF_NEURON.get(neuron_type or "CUBA")
    if name is None:
        raise ValueError(
            f"neuron_type is {neuron_type!r}; expected one of {', '.join(MODULE_OF_NEURON)}"
        )
    neuron = importlib.import_module(f"lapilli.neurons.{name}")
    return neuron, importlib.import_module(f"lapilli.blocks.{name}")


def get_neuron_params(neuron_handle: Any, neuron_class: ModuleType) -> dict[str, Any]:
    """Turn a neuron group of an open HDF5 file into arguments of its neuron.

    Parameters
    ----------
    neuron_handle
        Group ``neuron`` of a layer.
    neuron_class
        Module of the neuron, see ``get_classes``.

    Examples
    --------
    >>> import h5py
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> with h5py.File("network.net") as file:
    ...     found = slayer.auto.get_neuron_params(file["layer/0/neuron"], slayer.neuron.cuba)
    >>> float(found["threshold"])
    1.0
    """
    return neuron_class.neuron_params({name: entry[()] for name, entry in neuron_handle.items()})
