"""How much the layers of a network spike: ``Activity`` counts while they run."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from lapilli.blocks import base, sigma_delta
from lapilli.blocks.block import NeuronBlock
from lapilli.neurons.state import refuse_graph
from torch import Tensor


class SilentNeuronsWarning(UserWarning):
    """Many neurons of a layer have not spiked once."""


@dataclass(frozen=True)
class LayerActivity:
    """How much a layer spiked.

    Attributes
    ----------
    name
        Of the block in its network, as ``named_modules`` gives it.
    kind
        Its class, as ``cuba.Dense``.
    neurons
        Number of neurons.
    rate
        Share of the outputs that were not zero, over samples, neurons and steps.
    silent
        Neurons that were zero at every step of every sample.

    Examples
    --------
    >>> import torch
    >>> import lapilli
    >>> from lapilli import slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 30, 20))
    >>> spikes = (torch.rand(8, 30, 20) < 0.2).float()
    >>> with lapilli.Activity(net) as activity:
    ...     output = net(spikes)
    >>> (layer,) = activity.layers()
    >>> layer.kind, layer.neurons
    ('cuba.Dense', 20)
    """

    name: str
    kind: str
    neurons: int
    rate: float
    silent: int

    @property
    def silent_share(self) -> float:
        """Share of the neurons that are silent."""
        return self.silent / self.neurons

    def __str__(self) -> str:
        return (
            f"{self.name or 'net'} ({self.kind}): rate {self.rate:.4f}, "
            f"{self.silent} of {self.neurons} neurons silent"
        )


def layers_of(net: torch.nn.Module) -> dict[str, Any]:
    """Return the blocks of a network that have neurons which spike, by name."""
    found = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, NeuronBlock)
        and not isinstance(module, (base.AbstractAffine, sigma_delta._Output))
        and module.neuron is not None
    }
    if not found:
        raise ValueError(
            f"{type(net).__name__} has no block with neurons that spike; expected a network of "
            f"blocks of lapilli.blocks or lapilli.slayer.block"
        )
    return found


def kind_of(block: torch.nn.Module) -> str:
    """Return neuron and kind of a block, as ``cuba.Dense``."""
    return f"{type(block).__module__.rpartition('.')[2]}.{type(block).__name__}"


def spikes_of(output: Any) -> Tensor:
    """Return the spikes of what a block returned, which may count them too."""
    return output[0] if isinstance(output, tuple) else output


class Count:
    """What a layer did so far."""

    def __init__(self) -> None:
        self.events: Tensor | None = None  # [neurons...] int64, of all samples and steps
        self.steps = 0

    def add(self, y: Tensor) -> None:
        """Count the events of an output ``[N, neurons..., T]``."""
        refuse_graph(y, "Activity counts spikes; leave it out of a graphed step")
        rows = y.detach().movedim(-1, 1)  # as they lie in memory
        events = rows.count_nonzero((0, 1))
        self.events = events if self.events is None else self.events + events
        self.steps += rows.shape[0] * rows.shape[1]

    def activity(self, name: str, block: torch.nn.Module) -> LayerActivity:
        """Return what was counted."""
        assert self.events is not None
        neurons = self.events.numel()
        return LayerActivity(
            name, kind_of(block), neurons,
            rate=int(self.events.sum()) / max(1, neurons * self.steps),
            silent=int((self.events == 0).sum()),
        )  # fmt: skip


class Activity:
    """Count what the layers of a network hand on, while the context is open.

    It looks at the output of each block with neurons that spike, by a forward hook of the block,
    and changes no number. Calls in training and evaluation count alike; open it around those that
    are meant. Counting reads each output once more.

    Parameters
    ----------
    net
        Network of blocks, in any order and nesting.
    warn_silent
        Share of a layer's neurons, 0 to 1, above which the end of the context issues a
        ``SilentNeuronsWarning`` for it; None for no warnings.

    Raises
    ------
    ValueError
        If the network has no such blocks, or for a share that is not in 0..1.

    Examples
    --------
    >>> import torch
    >>> import lapilli
    >>> from lapilli import slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 30, 20))
    >>> spikes = (torch.rand(8, 30, 20) < 0.2).float()
    >>> with lapilli.Activity(net) as activity:
    ...     output = net(spikes)
    >>> (layer,) = activity.layers()
    >>> abs(layer.rate - output.detach().mean().item()) < 1e-6
    True
    """

    def __init__(self, net: torch.nn.Module, warn_silent: float | None = None):
        if warn_silent is not None and not 0 <= warn_silent <= 1:
            raise ValueError(
                f"warn_silent is {warn_silent}; expected a share of the neurons in 0..1, or None"
            )
        self.warn_silent = warn_silent
        self._blocks = layers_of(net)
        self._counts = {name: Count() for name in self._blocks}
        self._hooks: list[Any] = []

    def __enter__(self) -> "Activity":
        def hook(count: Count) -> Callable[..., None]:
            return lambda block, args, output: count.add(spikes_of(output))

        for name, block in self._blocks.items():
            self._hooks.append(block.register_forward_hook(hook(self._counts[name])))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if kind is None and self.warn_silent is not None:
            for layer in self.silent_layers(self.warn_silent):
                warnings.warn(silence(layer), SilentNeuronsWarning, stacklevel=2)

    def layers(self) -> list[LayerActivity]:
        """Return what each layer did, in the order of the network's modules.

        Layers that were not called are left out.
        """
        return [
            count.activity(name, self._blocks[name])
            for name, count in self._counts.items()
            if count.events is not None
        ]

    def silent_layers(self, share: float) -> list[LayerActivity]:
        """Return the layers of which more than a share of the neurons did not spike once."""
        return [layer for layer in self.layers() if layer.silent_share > share]


def silence(layer: LayerActivity) -> str:
    """Say that a layer has many silent neurons, and what helps."""
    return (
        f"{layer.silent} of {layer.neurons} neurons of layer {layer.name or 'net'} ({layer.kind}) "
        f"did not spike once, its rate is {layer.rate:.4f}; lapilli.init_rates_ starts layers at "
        f"a wished rate, see docs/rates.md"
    )
