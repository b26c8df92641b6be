"""How much the layers of a network spike, and weights that make them start at a wished rate.

A rate is the share of a layer's outputs that are not zero: spikes a neuron and step, of sigma-delta
neurons events. A layer whose rate is near zero hands nothing on and, as the surrogate gradient
falls with the distance from the threshold, learns slowly or not at all.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from .blocks import base, sigma_delta
from .blocks.recurrent import AbstractRecurrent
from .blocks.synapse import GenericLayer
from .neurons.norm import MeanOnlyBatchNorm
from .neurons.state import refuse_graph, reset_state

_MOST_DOUBLINGS = 12  # of the weights, in search of a rate; as many halvings
_MOST_BISECTIONS = 24


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


def _layers(net: torch.nn.Module) -> dict[str, Any]:
    """Return the blocks of a network that have neurons which spike, by name."""
    found = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, base._NeuronBlock)
        and not isinstance(module, (base.AbstractAffine, sigma_delta._Output))
        and module.neuron is not None
    }
    if not found:
        raise ValueError(
            f"{type(net).__name__} has no block with neurons that spike; expected a network of "
            f"blocks of lapilli.blocks or lapilli.slayer.block"
        )
    return found


def _kind(block: torch.nn.Module) -> str:
    return f"{type(block).__module__.rpartition('.')[2]}.{type(block).__name__}"


def _spikes(output: Any) -> Tensor:
    """Return the spikes of what a block returned, which may count them too."""
    return output[0] if isinstance(output, tuple) else output


class _Count:
    """What a layer did so far."""

    def __init__(self) -> None:
        self.events: Tensor | None = None  # [neurons...] int64, of all samples and steps
        self.steps = 0

    def add(self, y: Tensor) -> None:
        refuse_graph(y, "Activity counts spikes; leave it out of a graphed step")
        rows = y.detach().movedim(-1, 1)  # as they lie in memory
        events = rows.count_nonzero((0, 1))
        self.events = events if self.events is None else self.events + events
        self.steps += rows.shape[0] * rows.shape[1]

    def activity(self, name: str, block: torch.nn.Module) -> LayerActivity:
        assert self.events is not None
        neurons = self.events.numel()
        return LayerActivity(
            name, _kind(block), neurons,
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
        self._blocks = _layers(net)
        self._counts = {name: _Count() for name in self._blocks}
        self._hooks: list[Any] = []

    def __enter__(self) -> "Activity":
        def hook(count: _Count) -> Callable[..., None]:
            return lambda block, args, output: count.add(_spikes(output))

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


@dataclass(frozen=True)
class LayerStart:
    """What ``init_rates_`` did to a layer.

    Attributes
    ----------
    before, after
        What the layer did on the given data before anything was changed, and does now.
    factor
        By which its weights were multiplied; 1 where a layer was left as it was.
    clipped, rounded_off
        Share of its weights that the quantisation to eight bits now clips at its limits, and of
        those that it rounds to zero; 0 where weights are not quantised.

    Examples
    --------
    >>> import torch
    >>> import lapilli
    >>> from lapilli import slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 30, 20))
    >>> spikes = (torch.rand(8, 30, 20) < 0.2).float()
    >>> (start,) = lapilli.init_rates_(net, spikes, rate=0.1)
    >>> 0.09 <= start.after.rate <= 0.11
    True
    """

    before: LayerActivity
    after: LayerActivity
    factor: float
    clipped: float
    rounded_off: float

    def __str__(self) -> str:
        b, a = self.before, self.after
        text = (
            f"{a.name or 'net'} ({a.kind}): weights x {self.factor:.3g}, rate {b.rate:.4f} -> "
            f"{a.rate:.4f}, silent {b.silent} -> {a.silent} of {a.neurons}"
        )
        for share, what in ((self.clipped, "clipped"), (self.rounded_off, "rounded to zero")):
            if share > 0:
                text += f", {share:.1%} of the weights {what}"
        return text


class _Reached(Exception):
    """Ends a call of the network where the input of a layer is known."""


def _synapses(block: Any) -> list[GenericLayer]:
    """Return the synapses that bring a block its input."""
    synapse = block.input_synapse if isinstance(block, AbstractRecurrent) else block.synapse
    return [synapse.real, synapse.imag] if synapse.complex else [synapse]


def _scaled(name: str, block: Any) -> list[torch.nn.Parameter]:
    """Return what is multiplied to scale the input of a block; nothing for one without weights."""
    if isinstance(block, base.AbstractInput):
        return [] if block.weight is None else [block.weight]
    found = []
    for synapse in _synapses(block):
        stored = synapse._stored("weight_g" if synapse.weight_norm_enabled else "weight")
        if stored is None:
            raise ValueError(
                f"the weight of layer {name or 'net'} ({_kind(block)}) is computed by one of "
                f"torch's parametrisations, so it cannot be scaled; call init_rates_ before it is "
                f"registered"
            )
        found.append(stored)
    return found


def _lost(block: Any) -> tuple[float, float]:
    """Return the shares of the weights that the quantisation clips, and rounds to zero."""
    if isinstance(block, base.AbstractInput):
        return 0.0, 0.0
    clipped = rounded = entries = 0
    for synapse in _synapses(block):
        step, raw = synapse._step, synapse.raw_weight()
        if step > 0:
            clipped += int(((raw > 127 * step) | (raw < -128 * step)).sum())
            rounded += int(((synapse.effective_weight() == 0) & (raw != 0)).sum())
        entries += raw.numel()
    return clipped / entries, rounded / entries


@contextlib.contextmanager
def _leaving_no_trace(net: torch.nn.Module) -> Iterator[None]:
    """Keep dropout out, and put back what a call in training leaves in the buffers of norms."""
    dropouts = [m for m in net.modules() if "Dropout" in type(m).__name__ and m.training]
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    for module in dropouts:
        module.eval()
    try:
        yield
    finally:
        for module in dropouts:
            module.train()
        for module in net.modules():
            if isinstance(module, MeanOnlyBatchNorm):
                module.reset_parameters()
        for name, buffer in net.named_buffers():
            before = buffers.get(name)
            if before is not None and before.shape == buffer.shape:
                buffer.copy_(before)
        reset_state(net)


def _inputs_of(net: torch.nn.Module, block: torch.nn.Module, x: Any) -> tuple[Any, ...]:
    """Return what a block is called with when the network is called with ``x``."""
    found: list[Any] = []

    def hook(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        found.extend(args)
        raise _Reached

    handle = block.register_forward_pre_hook(hook)
    try:
        reset_state(net)
        net(x)
    except _Reached:
        pass
    finally:
        handle.remove()
    return tuple(found)


def _order(net: torch.nn.Module, blocks: Mapping[str, Any], x: Any) -> list[LayerActivity]:
    """Call the network; return what its layers did, in the order in which they were called."""
    called: list[str] = []

    def hook(name: str) -> Callable[..., None]:
        return lambda *_: called.append(name)

    hooks = [block.register_forward_pre_hook(hook(name)) for name, block in blocks.items()]
    try:
        reset_state(net)
        with Activity(net) as activity:
            net(x)
    finally:
        for handle in hooks:
            handle.remove()
    found = {layer.name: layer for layer in activity.layers()}
    return [found[name] for name in dict.fromkeys(called)]


class _Search:
    """A factor of the weights of one layer that gives it a rate, on the input that it gets."""

    def __init__(self, name: str, block: Any, args: tuple[Any, ...]):
        self.name, self.block, self.args = name, block, args
        self.weights = _scaled(name, block)
        self.start = [w.detach().clone() for w in self.weights]
        self.found: dict[float, LayerActivity] = {}

    def rate(self, factor: float) -> float:
        for weight, start in zip(self.weights, self.start, strict=True):
            weight.copy_(start * factor)
        reset_state(self.block)
        count = _Count()
        count.add(_spikes(self.block(*self.args)))
        self.found[factor] = count.activity(self.name, self.block)
        return self.found[factor].rate

    def run(self, wished: float, tolerance: float) -> float:
        """Set the weights and return their factor; the nearest rate, if none is near enough."""

        def near(factor: float) -> bool:
            return abs(self.found[factor].rate - wished) <= tolerance * wished

        low = high = 1.0
        first = self.rate(1.0)
        for k in range(1, _MOST_DOUBLINGS + 1):
            if near(low) or near(high) or self.found[low].rate < wished < self.found[high].rate:
                break
            if first < wished:
                low, high = high, 2.0**k
                self.rate(high)
            else:
                low, high = 2.0**-k, low
                self.rate(low)
        for _ in range(_MOST_BISECTIONS):
            if near(low) or near(high):
                break
            middle = math.sqrt(low * high)
            if self.rate(middle) < wished:
                low = middle
            else:
                high = middle
        best = min(self.found, key=lambda f: (abs(self.found[f].rate - wished), abs(math.log(f))))
        self.rate(best)
        if not near(best):
            raise ValueError(self._why(wished, best))
        return best

    def _why(self, wished: float, best: float) -> str:
        layer = f"layer {self.name or 'net'} ({_kind(self.block)})"
        parts = self.args[0] if isinstance(self.args[0], (tuple, list)) else self.args[:1]
        if not any(bool(part.count_nonzero()) for part in parts):
            return (
                f"{layer} cannot reach a rate of {wished:g}: its input is all zero on the given "
                f"data. Give data that are not, or check that the layers before it spike."
            )
        text = (
            f"{layer} cannot reach a rate of {wished:g} on the given data: the nearest is "
            f"{self.found[best].rate:.4g}, with its weights times {best:.3g}; weights times "
            f"{min(self.found):.3g} to {max(self.found):.3g} were tried."
        )
        clipped, rounded = _lost(self.block)
        if clipped > 0.1 or rounded > 0.5:
            text += (
                f" Quantised to eight bits, {clipped:.0%} of the weights are clipped there and "
                f"{rounded:.0%} round to zero."
            )
        return f"{text} Wish for another rate, or change the neuron's threshold or decays."


@torch.no_grad()
def init_rates_(
    net: torch.nn.Module,
    x: Tensor | tuple[Tensor, Tensor],
    rate: float | Mapping[str, float] = 0.1,
    *,
    tolerance: float = 0.1,
) -> list[LayerStart]:
    """Scale the weights of a network, layer by layer, so that each layer starts at a wished rate.

    One factor a layer, in place: signs and proportions of the weights stay as drawn. Layers are
    visited in the order in which the network calls them, each with the input that the layers
    before it now give. What is multiplied are the weights of the layer's input: of ``Recurrent``
    and ``KWTA`` not the feedback, under weight norm the lengths. Biases, thresholds and decays
    stay, and so do readouts without spikes (``Affine``, ``Output`` of sigma-delta). ``Input``,
    ``Pool`` and ``Unpool``, whose weight is one number, are scaled only where ``rate`` names them.

    It is meant for the start of training, with a batch of training samples. Neurons are at rest
    afterwards; buffers of norms are as before, and dropout does not act meanwhile.

    Parameters
    ----------
    net
        Network of blocks, in any order and nesting; layers may not share weights. In training mode
        norms use the statistics of ``x``, as they will in training.
    x
        Input of the network: a batch of samples, ``[N, neurons..., T]``, or a pair of such.
    rate
        Wished share of outputs that are not zero, above 0 and below 1: one for all layers with
        weights, or one for each name of a block (as in ``named_modules``), the others being left as
        they are.
    tolerance
        Largest distance from the wished rate, relative to it.

    Returns
    -------
    list of LayerStart
        What was done to each layer, in order; print them.

    Raises
    ------
    ValueError
        If a layer cannot reach the rate: no input, weights beyond eight bits, a neuron that spikes
        at most once a period. For rates or a tolerance out of range, unknown names, shared or
        computed weights. The network then has the weights that it had before.

    Examples
    --------
    >>> import torch
    >>> import lapilli
    >>> from lapilli import slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 30, 20))
    >>> spikes = (torch.rand(8, 30, 20) < 0.2).float()
    >>> (start,) = lapilli.init_rates_(net, spikes, rate=0.1)
    >>> 0.09 <= net(spikes).detach().mean().item() <= 0.11
    True
    """
    blocks = _layers(net)
    if isinstance(rate, Mapping):
        wished = dict(rate)
    else:
        of_one_number = (base.AbstractInput, base.AbstractPool, base.AbstractUnpool)
        wished = {n: float(rate) for n, b in blocks.items() if not isinstance(b, of_one_number)}
    for name, value in wished.items():
        if name not in blocks:
            raise ValueError(
                f"the network has no layer {name!r} that spikes; there are: {', '.join(blocks)}"
            )
        if not 0 < value < 1:
            raise ValueError(
                f"the wished rate of layer {name!r} is {value:g}; expected spikes a neuron and "
                f"step, above 0 and below 1"
            )
        if not _scaled(name, blocks[name]):
            raise ValueError(
                f"layer {name!r} is an Input without a weight, so nothing of it can be scaled; "
                f"make it with weight=1.0, or leave it out"
            )
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance:g}; expected a share above 0 and below 1")
    scaled = [(w, w.detach().clone()) for n, b in blocks.items() for w in _scaled(n, b)]
    if len({id(w) for w, _ in scaled}) < len(scaled):
        raise ValueError("two layers share a weight, so that each would undo the other's scale")
    try:
        with _leaving_no_trace(net):
            return [
                _started(net, blocks[layer.name], x, layer, wished.get(layer.name), tolerance)
                for layer in _order(net, blocks, x)
            ]
    except BaseException:
        for weight, start in scaled:
            weight.copy_(start)
        raise


def _started(
    net: torch.nn.Module,
    block: Any,
    x: Any,
    before: LayerActivity,
    wished: float | None,
    tolerance: float,
) -> LayerStart:
    """Scale one layer; the layers before it have been."""
    search = _Search(before.name, block, _inputs_of(net, block, x))
    if wished is None:
        factor = 1.0
        search.rate(factor)
    else:
        factor = search.run(wished, tolerance)
    return LayerStart(before, search.found[factor], factor, *_lost(block))
