"""Weights that make the layers start at a wished rate: ``init_rates_``."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lapilli.blocks import base
from lapilli.blocks.recurrent import AbstractRecurrent
from lapilli.neurons.norm import MeanOnlyBatchNorm
from lapilli.neurons.state import reset_state
from torch import Tensor

from .counting import Activity, Count, LayerActivity, kind_of, layers_of, spikes_of

_MOST_DOUBLINGS = 12  # of the weights, in search of a rate; as many halvings
_MOST_BISECTIONS = 24


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


def _synapses(block: Any) -> list[Any]:
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
                f"the weight of layer {name or 'net'} ({kind_of(block)}) is computed by one of "
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
        count = Count()
        count.add(spikes_of(self.block(*self.args)))
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
        layer = f"layer {self.name or 'net'} ({kind_of(self.block)})"
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
    blocks = layers_of(net)
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
